"""Standing workers: processes of this machine that serve whichever study has work, kept alive until they are ended."""

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

from tuner.errors import RunError, TunerError
from tuner.launch.launcher import WorkerSpec, log_path, threads_each
from tuner.launch.local import LocalLauncher
from tuner.launch.supervisor import Supervisor
from tuner.settings import Settings
from tuner.storage.storage import Storage

logger = logging.getLogger(__name__)

_POLL_INTERVAL_S = 1.0
_DRAIN_S = 30.0
FOLDER = "standing"
"""Folder of the workers' logs, below the artifacts, beside those of studies."""


class WorkerPool:
    """Keeps a worker in each of some slots, in a thread of its own.

    Args:
        settings: Places of this machine.
        devices: One for each worker.
    """

    def __init__(self, settings: Settings, devices: Sequence[str]) -> None:
        self._storage = settings.storage
        threads = threads_each(len(devices))
        orders = [
            WorkerSpec(
                FOLDER, settings, slot, device, threads, log_path(settings.artifacts, FOLDER, f"{os.getpid()}-{slot}")
            )
            for slot, device in enumerate(devices)
        ]
        launcher = LocalLauncher(any_study=True)
        self._supervisor = Supervisor(launcher, orders, on_message=logger.warning, standing=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ensure_running, name="workers", daemon=True)

    def start(self) -> None:
        """Start the workers, and look after them in a thread."""
        self._thread.start()

    @property
    def is_kept(self) -> bool:
        """Whether workers that end are still replaced; not, once they keep dying at once."""
        return self._thread.is_alive()

    def end(self, drain_s: float = _DRAIN_S) -> None:
        """Have the workers give their trials back, and wait for them for so many seconds."""
        self._stop.set()
        self._thread.join()
        self._supervisor.drain()
        if not self._supervisor.wait(drain_s):
            self._supervisor.kill()
            with suppress(TunerError), Storage.open(self._storage) as store:
                store.workers.requeue_lost()  # what they held must not stay RUNNING with nobody there

    def _ensure_running(self) -> None:
        while not self._stop.is_set():
            try:
                self._supervisor.ensure_running(lambda: not self._stop.is_set())
            except RunError as error:
                logger.error("the workers keep dying, and are not started again: %s", error)
                return
            self._stop.wait(_POLL_INTERVAL_S)
