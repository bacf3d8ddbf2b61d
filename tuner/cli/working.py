"""`worker`: one more worker for an existing study, on this machine."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.failures import INTERRUPTED
from tuner.cli.group import PanelCommand
from tuner.cli.places import ArtifactsOption, CacheOption, DataRootOption, StorageOption, settings_of

if TYPE_CHECKING:
    from tuner.store.store import Store

HARD_AFTER_S = 60.0
"""A worker that was told to drain and has not ended by then ends at once: its trial is requeued by the others."""


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("worker", rich_help_panel="Search", cls=PanelCommand)(worker)


def worker(
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Serve this study.")] = None,
    any_study: Annotated[bool, typer.Option("--any", help="Serve whichever study has work.")] = False,
    device: Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, mps or cuda:N.")] = "auto",
    print_sbatch: Annotated[bool, typer.Option("--print-sbatch", help="Not in this version.")] = False,
    print_k8s: Annotated[bool, typer.Option("--print-k8s", help="Not in this version.")] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write the log as JSON lines.")] = False,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
) -> None:
    """Start one more worker for an existing study, from any machine that reaches the storage."""
    from tuner.errors import NotInThisVersionError, RequestError

    if print_sbatch or print_k8s:
        raise NotInThisVersionError("worker --print-sbatch" if print_sbatch else "worker --print-k8s")
    if (study is None) != any_study:
        found = "neither was given" if study is None else "both were given"
        raise RequestError(f"a worker needs either --study NAME or --any; {found}.", hint="tuner studies lists them.")
    _hold_on_to_launcher()
    from tuner.launch.base import read_devices
    from tuner.logs import configure
    from tuner.store.store import Store

    wanted = read_devices(device)
    if len(wanted) > 1:
        raise RequestError(f"{device!r}: a worker has one device.", hint="Start one worker for each.", where="--device")
    settings = settings_of(storage, artifacts, data_root, cache)
    configure(as_json=log_json)
    with _listening() as (stop, signals), Store.open(settings.storage) as store:
        if study is not None:
            _obey_threads(store, study)
        from tuner.training.device import resolve_device
        from tuner.worker import Worker

        Worker(store, settings, study=study, device=resolve_device(wanted[0]), stop=stop).run()
    if signal.SIGINT in signals:
        raise typer.Exit(INTERRUPTED)


def _obey_threads(store: "Store", study: str) -> None:
    """Give torch the number of threads that the study was created with: it changes the numbers. Before torch starts."""
    from tuner.cli.studies import stored_spec
    from tuner.cli.threads import limit_threads

    limit_threads(stored_spec(store.study(study)).base.train.threads)


def _hold_on_to_launcher() -> None:
    from tuner.launch.lifeline import PARENT, hold_on_to_parent

    parent = os.environ.pop(PARENT, None)
    if parent is not None and parent.isdecimal():
        hold_on_to_parent(int(parent))


@contextmanager
def _listening() -> Iterator[tuple[threading.Event, list[int]]]:
    """Drain at the first Ctrl-C or SIGTERM, end at once at the second."""
    stop, seen = threading.Event(), list[int]()

    def take(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        stop.set()
        hard = threading.Timer(HARD_AFTER_S, os._exit, (128 + number,))
        hard.daemon = True
        hard.start()

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
