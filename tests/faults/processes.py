"""Real `tuner` processes of one scenario: started, watched, killed, and never left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.slow_worker import Nursery
from tuner.settings import Settings
from tuner.storage.storage import Storage

_TAIL = 4000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def wait_until(what: Callable[[], bool], *, seconds: float, log: Path, pause_s: float = 0.1) -> None:
    """Wait for something; when it does not come, fail with the end of the processes' log."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s:\n{log.read_text()[-_TAIL:] if log.exists() else ''}")
        time.sleep(pause_s)


class WorkerPool:
    """Workers, and launchers, of one study; whatever still runs at the end is killed.

    `fresh`: the share of workers that are started as anybody starts them; the others come from the nursery.
    """

    def __init__(
        self, places: Settings, log: Path, *, nursery: Nursery | None = None, fresh: float = 0.0, seed: int = 0
    ) -> None:
        self.places = places
        self.log = log
        self.workers: list[int] = []
        self.started = {"fresh": 0, "forked": 0}
        self._nursery = nursery
        self._fresh = fresh
        self._chance = random.Random(seed)
        self._all: list[int] = []
        self._popen: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._all:
            if is_alive(pid):
                self.kill(pid)

    def work(self, study: str, environment: Mapping[str, str] | None = None, storage: str | None = None) -> int:
        """Start one more worker."""
        pid = self.run("worker", "--study", study, "--device", "cpu", environment=environment, storage=storage)
        self.workers.append(pid)
        return pid

    def run(self, *words: str, environment: Mapping[str, str] | None = None, storage: str | None = None) -> int:
        """Start any command of the command line and return its pid."""
        whole = [*words, *self._places(storage)]
        values = ONE_THREAD | dict(environment or {})
        # what is to be in place before Python starts cannot come from a process that has started
        if self._nursery is None or environment or self._chance.random() < self._fresh:
            with self.log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tuner", *whole],
                    env=os.environ | values,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            self._popen[process.pid] = process
            pid = process.pid
            self.started["fresh"] += 1
        else:
            pid = self._nursery.start(whole, values, self.log)
            self.started["forked"] += 1
        self._all.append(pid)
        return pid

    def ensure_running(self, study: str, count: int) -> None:
        """Start workers until so many live."""
        self.workers = [pid for pid in self.workers if self.lives(pid)]
        while len(self.workers) < count:
            self.work(study)

    def lives(self, pid: int) -> bool:
        """Tell whether a process of this crew still runs."""
        if pid in self._popen:
            self._popen[pid].poll()
        return is_alive(pid)

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 90
        while self.lives(pid) and time.monotonic() < until:
            time.sleep(0.005)

    def code(self, pid: int, *, seconds: float) -> int:
        """Wait for a process that was started afresh and return its exit code."""
        return self._popen[pid].wait(seconds)

    def is_fresh(self, pid: int) -> bool:
        """Tell whether a process was started as anybody starts it."""
        return pid in self._popen

    def wait_for_the_end(self, store: Storage, study: str, *, seconds: float, count: int = 0) -> None:
        """Wait until a study is done, with `count` workers kept alive, and until all of them have ended."""

        def done() -> bool:
            if store.queries.phase(study)[0] == "done":
                return True
            self.ensure_running(study, count)
            return False

        wait_until(done, seconds=seconds, log=self.log)
        wait_until(lambda: not any(map(self.lives, self._all)), seconds=120, log=self.log)

    def _places(self, storage: str | None) -> Sequence[str]:
        places = self.places
        words = ["--storage", storage or places.storage, "--artifacts", places.artifacts_place]
        return [*words, "--cache", str(places.cache)]


def holders(store: Storage, study: str) -> dict[int, int]:
    """Return the pids of the workers that hold a trial, and its number."""
    return {w["pid"]: w["trial"] for w in store.workers.live(study) if w["trial"] is not None}
