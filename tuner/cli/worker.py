"""`worker`: one more worker for an existing study, on this machine; or the text that runs it on a cluster."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import batch
from tuner.cli.failures import INTERRUPTED
from tuner.cli.help import PanelCommand
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    LogFormatOption,
    StorageOption,
    WebhookOption,
    settings_of,
    wants_json_logs,
)
from tuner.launch.batch import Job

if TYPE_CHECKING:
    from tuner.settings import Settings
    from tuner.storage.storage import Storage
    from tuner.worker.health import DeviceQuarantinedError


HARD_AFTER_S = 60.0
"""A worker that was told to drain and has not ended by then ends at once, and gives its trial back before."""
EVERY = "all"
"""`--device all`, with --any: a worker on every GPU of this machine, kept alive; on the CPU where there is none."""
POLL_S = 1.0
SAME_S = 0.5
"""Signals that come so soon after the first are the same wish: `timeout`, for one, signals a process and its group."""


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("worker", rich_help_panel="Search", cls=PanelCommand)(worker)


def worker(
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Serve this study.")] = None,
    any_study: Annotated[bool, typer.Option("--any", help="Serve whichever study has work.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="D", help="auto, cpu, mps or cuda:N; all: a worker on each GPU.")
    ] = "auto",
    until_idle: Annotated[
        str | None,
        typer.Option(
            "--until-idle", metavar="TIME", help="End after so long without work: 90s, 15m.", show_default=False
        ),
    ] = None,
    log_format: LogFormatOption = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="The same as --log-format json.")] = False,
    webhook: WebhookOption = None,
    probe: batch.ProbeOption = None,
    print_sbatch: batch.PrintSbatchOption = False,
    print_k8s: batch.PrintK8sOption = False,
    count: batch.CountOption = 1,
    gpus: batch.GpusOption = None,
    cpus: batch.CpusOption = 4,
    memory: batch.MemoryOption = "16G",
    time_limit: batch.TimeOption = "24:00:00",
    partition: batch.PartitionOption = None,
    image: batch.ImageOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
) -> None:
    """Start one more worker for an existing study, from any machine that reaches the storage."""
    from tuner.errors import RequestError
    from tuner.launch.launcher import read_devices

    settings = settings_of(storage, artifacts, data_root, cache, webhook)
    if probe is not None:
        raise typer.Exit(batch.probe(settings, probe))
    if (study is None) != any_study:
        found = "neither was given" if study is None else "both were given"
        raise RequestError(f"a worker needs either --study NAME or --any; {found}.", hint="tuner studies lists them.")
    if device.strip().lower() == EVERY and any_study and not (print_sbatch or print_k8s or until_idle):
        _serve_every_device(settings, as_json=log_json or wants_json_logs(log_format))
        return
    wanted = read_devices(device)
    if len(wanted) > 1:
        raise RequestError(f"{device!r}: a worker has one device.", hint="Start one worker for each.", where="--device")
    as_json = log_json or wants_json_logs(log_format)
    idle_s = _seconds(until_idle)
    if print_sbatch or print_k8s:
        job = Job(
            study=study,
            device=wanted[0],
            count=count,
            gpus=gpus,
            cpus=cpus,
            memory=memory,
            time_limit=time_limit,
            partition=partition,
            image=image,
            json_logs=as_json,
            until_idle=until_idle,
        )
        batch.put(job, settings, slurm=print_sbatch, kubernetes=print_k8s)
        return
    is_tended = _hold_on_to_launcher()
    _work(settings, study, wanted[0], as_json=as_json, idle_s=idle_s, is_tended=is_tended)


def _work(
    settings: "Settings", study: str | None, device: str, *, as_json: bool, idle_s: float | None, is_tended: bool
) -> None:
    from tuner.launch.local import SHOWN_AS
    from tuner.log_config import configure
    from tuner.settings import CUDA_VARIABLES
    from tuner.storage.engine import WORKER_CONNECTIONS
    from tuner.storage.storage import Storage
    from tuner.worker.health import DeviceQuarantinedError, ProcessSpentError

    configure(as_json=as_json)
    with _listening() as signals, Storage.open(settings.storage, connections=WORKER_CONNECTIONS) as store:
        if study is not None:
            _obey_threads(store, study)
        for name, value in CUDA_VARIABLES.items():
            os.environ.setdefault(name, value)
        from tuner.training.device import resolve_device
        from tuner.worker.worker import Worker

        def end(code: int) -> None:
            if not is_tended and not signals.stop.is_set():
                _begin_anew()
            os._exit(code)

        worker = Worker(
            store,
            settings,
            study=study,
            device=resolve_device(device),
            shown_as=os.environ.pop(SHOWN_AS, None),
            stop=signals.stop,
            idle_s=idle_s,
            end=end,
            dead_man=True,
        )
        signals.hard = worker.give_up
        try:
            worker.run()
        except DeviceQuarantinedError as error:
            if study is None and not is_tended:
                _linger(error, signals.stop)
            raise
        except ProcessSpentError as error:
            if not is_tended:
                logging.getLogger(__name__).error("%s This worker begins anew.", error)
                end(error.exit_code)
            raise
    if signal.SIGINT in signals.seen:
        raise typer.Exit(INTERRUPTED)


def _serve_every_device(settings: "Settings", *, as_json: bool) -> None:
    """Keep a worker on each device until a signal comes; their logs lie below the artifacts, in `standing/`."""
    from tuner.errors import RunError
    from tuner.launch.device_probe import ProbeRequest, probe_devices
    from tuner.launch.standing import WorkerPool
    from tuner.log_config import configure

    configure(as_json=as_json)
    os.environ["TUNER_LOG_FORMAT"] = "json" if as_json else "text"  # the workers write as this process does
    found = probe_devices(ProbeRequest(devices=["auto"], per_device=1, workers=None, precision=True))
    logger = logging.getLogger(__name__)
    for note in found.notes:
        logger.warning("%s", note)
    logger.info("a worker on each of %s", ", ".join(found.slots))
    pool = WorkerPool(settings, found.slots)
    with _listening() as signals:
        pool.start()
        while pool.is_kept and not signals.stop.wait(POLL_S):
            pass
        is_told = signals.stop.is_set()
        pool.end(drain_s=HARD_AFTER_S)
    if not is_told:
        raise RunError("the workers keep dying, and are not started again.", hint="Their logs say why: `standing/`.")


def _begin_anew() -> None:
    """Put a fresh process in the place of this one, where nobody else would start another worker."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (our own command line, no shell)


def _linger(error: "DeviceQuarantinedError", stop: threading.Event) -> None:
    """Stay a while: whatever supervises a standing worker would start it again at once, for one more failed trial."""
    from tuner.worker.exit_codes import QUARANTINE_S

    words = "%s This worker does nothing for %.0f minutes, then it ends; end it when that is mended."
    logging.getLogger(__name__).error(words, error, QUARANTINE_S / 60)
    stop.wait(QUARANTINE_S)


def _seconds(until_idle: str | None) -> float | None:
    from tuner.config.study import parse_duration
    from tuner.errors import Problems

    problems = Problems()
    found = parse_duration(until_idle, "--until-idle", problems)
    problems.refuse()
    return found


def _obey_threads(store: "Storage", study: str) -> None:
    """Give torch the number of threads that the study was created with: it changes the numbers. Before torch starts."""
    from tuner.cli.options import limit_threads
    from tuner.cli.stored import stored_spec

    limit_threads(stored_spec(store.studies.get(study)).base.train.threads)


def _hold_on_to_launcher() -> bool:
    """End when the launcher that has started this worker does; tell whether there is one."""
    from tuner.launch.local import PARENT, die_with_parent

    parent = os.environ.pop(PARENT, None)
    if parent is not None and parent.isdecimal():
        die_with_parent(int(parent))
    return parent is not None


class Signals:
    """What this process was told: to drain by the first Ctrl-C, SIGTERM or SIGUSR1, to end at once by a second one.

    SIGUSR1 is how a batch system says that the time is nearly up; the SIGTERM that follows is the same wish.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.seen: list[int] = []
        self.hard: Callable[[int], None] = os._exit
        """Ends this process, with an exit code."""
        self._first = 0.0

    def take(self, number: int) -> None:
        """Take a signal."""
        self.seen.append(number)
        if self.stop.is_set():
            if signal.SIGUSR1 not in self.seen and time.monotonic() - self._first >= SAME_S:
                self.hard(128 + number)
            return
        self._first = time.monotonic()
        self.stop.set()
        hard = threading.Timer(HARD_AFTER_S, lambda: self.hard(128 + number))
        hard.daemon = True
        hard.start()


@contextmanager
def _listening() -> Iterator[Signals]:
    """Listen to signals in a thread: Python runs handlers in the main thread only, which may hang in a training."""
    signals = Signals()
    here, there = socket.socketpair()
    there.setblocking(False)

    def listen() -> None:
        with here:
            while numbers := here.recv(64):
                for number in numbers:
                    signals.take(number)

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before_fd = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, _leave_to_thread) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        there.close()
        listener.join(SAME_S)


def _leave_to_thread(number: int, frame: FrameType | None) -> None:
    """Without a handler of Python's the signal would end the process."""
