"""Launcher protocol: one call starts one worker on one device slot; handles, slots, and this machine's cores."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tuner.artifacts.local import WORKER_LOGS
from tuner.errors import SpecError
from tuner.registry import Option, Registry
from tuner.settings import Settings

MessageCallback = Callable[[str], None]
"""Is told in words what is going on."""


@dataclass(frozen=True, slots=True)
class LauncherEntry:
    """One way to start workers. `fn` is the class; None where nothing is started."""

    name: str
    fn: str | None
    summary: str
    options: tuple[Option, ...] = ()


LAUNCHERS: Registry[LauncherEntry] = Registry(
    "launcher",
    (
        LauncherEntry("local", "tuner.launch.local:LocalLauncher", "A process for each slot on this machine."),
        LauncherEntry("inline", "tuner.launch.inline:InlineLauncher", "One worker in this process, for debugging."),
        LauncherEntry(
            "ray",
            "tuner.launch.ray_cluster.launcher:RayLauncher",
            "A Ray actor for each slot, on any node of a cluster.",
        ),
        LauncherEntry("none", None, "Nobody: fills the queue for standing workers."),
    ),
)


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker that is to be started."""

    study: str
    settings: Settings
    slot: int
    """From 0, among the slots of this launch."""
    device: str
    threads: int
    log: Path


class WorkerHandle(Protocol):
    """A worker that was started."""

    order: WorkerSpec

    @property
    def location(self) -> str:
        """Return device and, where it is not this one, host."""

    @property
    def waiting(self) -> bool:
        """Tell whether it waits for room and has not begun."""

    @property
    def gave_up(self) -> bool:
        """Tell whether it was replaced where it was, until that made no sense."""

    def exit_code(self) -> int | None:
        """Return the code with which it ended (negative: the signal that killed it), or None while it lives."""

    def drain(self) -> None:
        """Ask it to give its trial back with its checkpoint, and to end."""

    def kill(self) -> None:
        """End it at once."""

    def exit_message(self) -> tuple[str, str]:
        """Return how it ended, and the end of its log."""


class Launcher(Protocol):
    """Starts workers."""

    def launch(self, order: WorkerSpec) -> WorkerHandle:
        """Start one worker."""


def worker_specs(settings: Settings, study: str, *, devices: Sequence[str], threads: int) -> list[WorkerSpec]:
    """Return the workers of one launch, one for each slot, whose logs bear the time of now."""
    begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return [
        WorkerSpec(
            study=study,
            settings=settings,
            slot=slot,
            device=device,
            threads=threads,
            log=log_path(settings.artifacts, study, f"{begun}-{slot}"),
        )
        for slot, device in enumerate(devices)
    ]


def deal(devices: Sequence[str], *, per_device: int, total: int | None = None) -> list[str]:
    """Return the device of each slot: `per_device` on each, or `total` dealt in turn."""
    count = len(devices) * per_device if total is None else total
    return [devices[index % len(devices)] for index in range(count)]


def read_devices(text: str) -> list[str]:
    """Split `--devices`: `auto`, `cpu`, `mps`, `cuda:0,cuda:1`. Raises SpecError for what cannot be a device."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    wrong = [n for n in names if n not in ("auto", "cpu", "mps", "cuda") and not _is_cuda(n)]
    if wrong or not names:
        raise SpecError(
            [f"{wrong[0] if wrong else text!r} is not a device; write auto, cpu, mps, cuda:0 or cuda:0,cuda:1"],
            where="--devices",
        )
    if "auto" in names and len(names) > 1:
        raise SpecError(["`auto` stands alone; name the others without it"], where="--devices")
    return list(dict.fromkeys("cuda:0" if name == "cuda" else name for name in names))


def log_path(artifacts: Path, study: str, worker: str) -> Path:
    """Return where a worker that a launcher starts writes its log."""
    return artifacts / study / WORKER_LOGS / f"{worker}.log"


def worker_logs(artifacts: Path, study: str) -> list[Path]:
    """Return the logs of the workers that were started here for a study, oldest first."""
    paths = (artifacts / study / WORKER_LOGS).glob("*.log")
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def _is_cuda(name: str) -> bool:
    return name.startswith("cuda:") and name.removeprefix("cuda:").isdecimal()


def cores() -> int:
    """Return the number of cores that this process may use: affinity and the container's quota count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, allowed if quota is None else min(allowed, quota))


def threads_each(workers: int) -> int:
    """Return the CPU threads of each of so many workers."""
    return max(1, cores() // max(1, workers))


def python_command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours with the interpreter that runs here.

    `-P`: else the current folder comes first on the path, and an `api` or `tuner` that lies there is run instead.
    """
    return [sys.executable, "-P", "-m", module, *words]


def _quota() -> int | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(1, int(limit) // int(period))
