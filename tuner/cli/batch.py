"""Workers on clusters: the text that starts one there, and the question whether the one that runs here is well."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output

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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*")
_MEMORY = re.compile(r"([1-9][0-9]*)([MG])")
_TIME = re.compile(r"([0-9]+-)?[0-9]{1,3}(:[0-9]{2}){1,2}|[0-9]+")


@dataclass(frozen=True, slots=True)
class Job:
    """A worker that is to run on a cluster, and what it needs there."""

    study: str | None
    """None: any."""
    device: str
    count: int
    gpus: int | None
    cpus: int
    memory: str
    time_limit: str
    partition: str | None
    image: str | None
    json_logs: bool
    until_idle: str | None = None

    @property
    def gpus_each(self) -> int:
        """GPUs of one worker."""
        return (0 if self.device == "cpu" else 1) if self.gpus is None else self.gpus

    @property
    def name(self) -> str:
        """What the job is called: `tuner-any`, `tuner-organs`."""
        return f"tuner-{self.study or 'any'}"

    def words(self) -> list[str]:
        """Return what stands after `tuner` to start the worker."""
        which = ["--any"] if self.study is None else ["--study", self.study]
        device = [] if self.device == "auto" else ["--device", self.device]
        idle = ["--until-idle", self.until_idle] if self.until_idle else []
        return ["worker", *which, *device, *idle, *(["--log-format", "json"] if self.json_logs else [])]


def put(job: Job, settings: "Settings", *, slurm: bool, kubernetes: bool) -> None:
    """Print the text that runs the worker there. Raises RequestError for what would not run."""
    from tuner.errors import RequestError
    from tuner.store.places import read_url

    if slurm and kubernetes:
        raise RequestError("--print-sbatch and --print-k8s are two texts.", hint="Ask for one at a time.")
    _check(job)
    if read_url(settings.storage).get_backend_name() == "sqlite":
        raise RequestError(
            "an SQLite file cannot be shared by machines, and this worker is to run on others.",
            hint="Name a PostgreSQL by --storage or TUNER_STORAGE; `tuner db serve --dir FOLDER` makes one.",
            where="--storage",
        )
    if slurm:
        from tuner.cli.batch_slurm import script

        output.put(script(job, settings, program=program()))
    else:
        from tuner.cli.batch_kubernetes import manifest

        output.put(manifest(job, settings))


def program() -> list[str]:
    """Return the words that start `tuner` on machines that see this one's files."""
    beside = Path(sys.executable).with_name("tuner")
    found = str(beside) if beside.is_file() else shutil.which("tuner")
    return [found] if found else [sys.executable, "-m", "tuner"]


def probe(settings: "Settings", kind: str) -> int:
    """Answer a scheduler that asks for the worker of this host.

    `ready`: the storage answers and knows a live worker of this host. `alive`: the same, but as long as the storage
    cannot be asked nothing is said against the worker, which waits for it as well.

    Returns the exit code. Raises UnknownNameError for another kind.
    """
    import socket

    from tuner.errors import StorageError, UnknownNameError
    from tuner.store.store import Store

    if kind not in ("ready", "alive"):
        raise UnknownNameError(kind="probe", name=kind, known=("ready", "alive"), where="--probe")
    host = socket.gethostname()
    try:
        with Store.open(settings.storage, read_only=True, patience_s=5) as store:
            here = [worker for worker in store.workers() if worker["host"] == host]
    except StorageError as error:
        output.tell(str(error))
        return 0 if kind == "alive" else 1
    if not here:
        output.tell(f"no worker of {host} has given a sign of life lately")
        return 1
    output.tell(f"{len(here)} live worker{'s' * (len(here) > 1)} on {host}, last seen {here[-1]['last_seen']}")
    return 0


def _check(job: Job) -> None:
    """Refuse what Slurm or Kubernetes would refuse, or a shell would take for something else. Raises SpecError."""
    from tuner.errors import SpecError

    rules = (
        ("--study", job.study, _NAME, "the name of a study"),
        ("--memory", job.memory, _MEMORY, "an amount of memory like 16G or 500M"),
        ("--time", job.time_limit, _TIME, "a time like 24:00:00 or 2-12:00:00"),
        ("--partition", job.partition, _WORD, "the name of a partition"),
        ("--image", job.image, _IMAGE, "the name of an image"),
    )
    problems = [
        f"{flag}: {value!r} is not {what}" for flag, value, rule, what in rules if value and not rule.fullmatch(value)
    ]
    if problems:
        raise SpecError(problems)
