"""Local launcher: a worker is a process of this machine that dies with its parent, with its own threads and log."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tuner.errors import RunError
from tuner.launch.launcher import WorkerSpec, python_command
from tuner.launch.supervisor import describe_exit
from tuner.settings import CUDA_VARIABLES, Settings

PARENT = "TUNER_LAUNCHER_PID"
"""Environment variable that names the process without which a worker shall not live on."""

SHOWN_AS = "TUNER_SHOWN_DEVICE"
"""Environment variable with the name of the device of a worker that sees no other one, and calls it cuda:0."""

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


def die_with_parent(parent: int) -> None:
    """Have this process told to drain (SIGTERM) as soon as its parent is gone, however that came."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    if os.getppid() != parent:  # it died before we could say so
        os.kill(os.getpid(), signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LocalLauncher:
    """Starts `tuner worker` with the interpreter that runs here; with `any_study`, one for whichever has work."""

    def __init__(self, *, any_study: bool = False) -> None:
        self._any_study = any_study

    def launch(self, order: WorkerSpec) -> "LocalWorker":
        """Start one worker. Raises RunError when its log cannot be written."""
        try:
            order.log.parent.mkdir(parents=True, exist_ok=True)
            log = order.log.open("ab")
        except OSError as error:
            raise RunError(
                f"a worker's log cannot be written: {error.strerror}.",
                hint="Name a folder that may be written with --artifacts.",
                where=str(order.log),
            ) from error
        device = "cuda:0" if order.device.startswith("cuda:") else order.device
        study = ("--any",) if self._any_study else ("--study", order.study)
        command = python_command("tuner", "worker", *study, "--device", device)
        with log:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter, a list of words, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=worker_environment(order, os.environ),
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which drains the workers
            )
        return LocalWorker(order, process)


class LocalWorker:
    """A worker's process."""

    waiting = False
    gave_up = False

    def __init__(self, order: WorkerSpec, process: "subprocess.Popen[bytes]") -> None:
        self.order = order
        self.process = process

    @property
    def location(self) -> str:
        """Its device."""
        return self.order.device

    def exit_code(self) -> int | None:
        """Return the process's exit code, or None while it lives."""
        return self.process.poll()

    def drain(self) -> None:
        """Send SIGTERM: the worker gives its trial back and ends."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""
        self._send(signal.SIGKILL)
        self.process.wait()

    def exit_message(self) -> tuple[str, str]:
        """Return how it ended, and the end of its log."""
        return describe_exit(self.process.poll() or 0), last_lines(self.order.log)

    def _send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


def worker_environment(order: WorkerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: places (a password in a URL is not for `ps`), its threads, its devices.

    Workers on the CPU see no CUDA device, and those on a GPU no other one, so that nothing of theirs ends up there: a
    context, which pinned memory makes on the first one, takes half a GiB. A training has no business with
    the cluster that it runs in: the token of one stays behind.
    """
    settings: Settings = order.settings
    kept = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH_TOKEN")}
    values = CUDA_VARIABLES | kept
    values |= {
        "TUNER_STORAGE": settings.storage,
        "TUNER_ARTIFACTS": settings.artifacts_place,
        "TUNER_CACHE": str(settings.cache),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        PARENT: str(os.getpid()),
    }
    values |= {name: str(order.threads) for name in THREAD_VARIABLES}
    if settings.webhook is not None:
        values["TUNER_WEBHOOK"] = settings.webhook
    if settings.data_root is not None:
        values["TUNER_DATA_ROOT"] = str(settings.data_root)
    if order.device == "cpu":
        values["CUDA_VISIBLE_DEVICES"] = ""
    elif order.device.startswith("cuda:"):
        number = int(order.device.removeprefix("cuda:"))
        visible = [name.strip() for name in kept.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        values["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
        values[SHOWN_AS] = order.device
    return values


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a log, for messages about the worker that wrote it."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"(its log cannot be read: {error.strerror})"
    return "\n".join(lines[-count:]) or "(its log is empty)"
