"""The worker runs in this very process: a debugger sees everything, and so does a test."""

import logging
import threading

from tuner.errors import SpecError
from tuner.launch.launcher import WorkerSpec
from tuner.launch.supervisor import describe_exit

logger = logging.getLogger(__name__)


class InlineLauncher:
    """Runs one worker in a thread of this process."""

    def launch(self, order: WorkerSpec) -> "InlineWorker":
        """Start the worker. Raises SpecError for a second one: they would share torch's threads and seeds."""
        if order.slot > 0:
            raise SpecError(["the launcher `inline` runs one worker; more need `local`"], where="--workers")
        return InlineWorker(order)


class InlineWorker:
    """A worker in a thread."""

    waiting = False
    gave_up = False

    def __init__(self, order: WorkerSpec) -> None:
        self.order = order
        self._stop = threading.Event()
        self._code: int | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        """Its device."""
        return self.order.device

    def exit_code(self) -> int | None:
        """Return 0 or 1 once it has ended."""
        return None if self._thread.is_alive() else self._code

    def drain(self) -> None:
        """Ask it to give its trial back."""
        self._stop.set()

    def kill(self) -> None:
        """Ask it to give its trial back: a thread cannot be killed, it ends with the process."""
        self._stop.set()

    def exit_message(self) -> tuple[str, str]:
        """Return how it ended; its log is this process's."""
        return describe_exit(self._code or 0), "(it has logged into this process's log)"

    def _run(self) -> None:
        from tuner.storage.storage import Storage
        from tuner.worker.worker import Worker

        try:
            with Storage.open(self.order.settings.storage) as store:
                Worker(
                    store, self.order.settings, study=self.order.study, device=self.order.device, stop=self._stop
                ).run()
            self._code = 0
        except Exception:
            logger.exception("the worker has failed")
            self._code = 1
