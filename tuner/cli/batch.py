"""`worker --print-sbatch`, `--print-k8s`, `--probe`: workers on clusters."""

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output
from tuner.launch.batch import Job, check_job, program

if TYPE_CHECKING:
    from tuner.settings import Settings


_PANEL = "On a cluster"

PrintSbatchOption = Annotated[
    bool,
    typer.Option("--print-sbatch", help="Print a Slurm script that runs this worker, and end.", rich_help_panel=_PANEL),
]
PrintK8sOption = Annotated[
    bool,
    typer.Option(
        "--print-k8s", help="Print a Kubernetes manifest that runs this worker, and end.", rich_help_panel=_PANEL
    ),
]
CountOption = Annotated[
    int, typer.Option("--count", metavar="N", help="So many workers.", min=1, max=10_000, rich_help_panel=_PANEL)
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        help="GPUs of each worker. Default: 1, with --device cpu 0.",
        min=0,
        max=64,
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
CpusOption = Annotated[
    int, typer.Option("--cpus", metavar="N", help="Cores of each worker.", min=1, max=1024, rich_help_panel=_PANEL)
]
MemoryOption = Annotated[
    str, typer.Option("--memory", metavar="SIZE", help="Memory of each worker: 16G.", rich_help_panel=_PANEL)
]
TimeOption = Annotated[
    str, typer.Option("--time", metavar="H:MM:SS", help="Slurm's time limit of a job.", rich_help_panel=_PANEL)
]
PartitionOption = Annotated[
    str | None, typer.Option("--partition", metavar="NAME", help="Slurm's partition.", rich_help_panel=_PANEL)
]
ImageOption = Annotated[
    str | None,
    typer.Option("--image", metavar="NAME", help="Container image for Kubernetes.", rich_help_panel=_PANEL),
]
ProbeOption = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="ready|alive",
        help="Say by exit code 0 or 1 whether the worker of this host is well, and end.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def put(job: Job, settings: "Settings", *, slurm: bool, kubernetes: bool) -> None:
    """Print the text that runs the worker there. Raises RequestError for what would not run."""
    from tuner.errors import RequestError
    from tuner.storage.url import read_url

    if slurm and kubernetes:
        raise RequestError("--print-sbatch and --print-k8s are two texts.", hint="Ask for one at a time.")
    check_job(job)
    if read_url(settings.storage).get_backend_name() == "sqlite":
        raise RequestError(
            "an SQLite file cannot be shared by machines, and this worker is to run on others.",
            hint="Name a PostgreSQL by --storage or TUNER_STORAGE; `tuner db serve --dir FOLDER` makes one.",
            where="--storage",
        )
    if slurm:
        from tuner.launch.batch import script

        output.put(script(job, settings, program=program()))
    else:
        from tuner.launch.batch import manifest

        output.put(manifest(job, settings))


def probe(settings: "Settings", kind: str) -> int:
    """Answer a scheduler that asks for the worker of this host.

    `ready`: the storage answers and knows a live worker of this host. `alive`: the same, but as long as the storage
    cannot be asked nothing is said against the worker, which waits for it as well.

    Returns the exit code. Raises UnknownNameError for another kind.
    """
    import socket

    from tuner.errors import StorageError, UnknownNameError
    from tuner.storage.storage import Storage

    if kind not in ("ready", "alive"):
        raise UnknownNameError(kind="probe", name=kind, known=("ready", "alive"), where="--probe")
    host = socket.gethostname()
    try:
        with Storage.open(settings.storage, read_only=True, retry_timeout_s=5) as store:
            here = [worker for worker in store.workers.live() if worker["host"] == host]
    except StorageError as error:
        output.tell(str(error))
        return 0 if kind == "alive" else 1
    if not here:
        output.tell(f"no worker of {host} has sent a heartbeat lately")
        return 1
    output.tell(f"{len(here)} live worker{'s' * (len(here) > 1)} on {host}, last seen {here[-1]['last_seen']}")
    return 0
