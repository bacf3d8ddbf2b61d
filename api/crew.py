"""Standing workers beside the service: `tuner worker --any`, a process for each slot, replaced when one dies."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tuner.errors import RunError
from tuner.launch.launcher import Order, log_path
from tuner.launch.local import LocalWorker, worker_environment
from tuner.launch.machine import threads_each
from tuner.launch.supervisor import Crew
from tuner.settings import Settings

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_DRAIN_S = 30.0
FOLDER = "standing"
"""Folder of the workers' logs, below the artifacts, beside those of studies."""


class StandingLauncher:
    """Starts workers that serve whichever study has work."""

    def launch(self, order: Order) -> LocalWorker:
        """Start one worker. Raises RunError when its log cannot be written."""
        try:
            order.log.parent.mkdir(parents=True, exist_ok=True)
            log = order.log.open("ab")
        except OSError as error:
            raise RunError(f"a worker's log cannot be written: {error.strerror}.", where=str(order.log)) from error
        command = [sys.executable, "-m", "tuner", "worker", "--any", "--device", order.device]
        with log:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter, a list of words, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=worker_environment(order, os.environ),
                start_new_session=True,
            )
        return LocalWorker(order, process)


class StandingCrew:
    """Keeps the workers while the service runs."""

    def __init__(self, settings: Settings, devices: Sequence[str]) -> None:
        threads = threads_each(len(devices))
        orders = [
            Order(FOLDER, settings, slot, device, threads, _log(settings.artifacts, slot))
            for slot, device in enumerate(devices)
        ]
        self._crew = Crew(StandingLauncher(), orders, note=logger.warning, standing=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="crew", daemon=True)

    def start(self) -> None:
        """Start the workers, and look after them in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Have the workers give their trials back, and wait for them."""
        self._stop.set()
        self._thread.join()
        self._crew.drain()
        if not self._crew.wait(_DRAIN_S):
            self._crew.kill()

    def _tend(self) -> None:
        while not self._stop.is_set():
            try:
                self._crew.tend(lambda: not self._stop.is_set())
            except RunError as error:
                logger.error("the workers keep dying, and are not started again: %s", error)
                return
            self._stop.wait(_LOOK_S)


def _log(artifacts: Path, slot: int) -> Path:
    return log_path(artifacts, FOLDER, f"{os.getpid()}-{slot}")
