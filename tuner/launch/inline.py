"""The worker runs in this very process: a debugger sees everything, and so does a test."""

import logging
import threading
from typing import TYPE_CHECKING

from tuner.errors import SpecError
from tuner.launch.launcher import WorkerSpec
from tuner.launch.supervisor import describe_exit
from tuner.worker.health import ProcessSpentError

if TYPE_CHECKING:
    from tuner.worker.worker import Worker


logger = logging.getLogger(__name__)


class InlineLauncher:
    """Runs one worker in a thread of this process."""

    def launch(self, order: WorkerSpec) -> "InlineWorker":
        """Start the worker. Raises SpecError for a second one: they would share torch's threads and seeds."""
        if order.slot > 0:
            raise SpecError(["the launcher `inline` runs one worker; more need `local`"], where="--workers")
        return InlineWorker(order)


class InlineWorker:
    """A worker in a thread. One whose training does not answer is left behind, for another one to take its place."""

    waiting = False
    gave_up = False

    def __init__(self, order: WorkerSpec) -> None:
        self.order = order
        self._stop = threading.Event()
        self._code: int | None = None
        self._worker: Worker | None = None
        self._is_left = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        """Its device."""
        return self.order.device

    def exit_code(self) -> int | None:
        """Return its exit code once it has ended."""
        return self._code if self._is_left or not self._thread.is_alive() else None

    def drain(self) -> None:
        """Ask it to give its trial back."""
        self._stop.set()

    def kill(self) -> None:
        """Give its trial back: a thread cannot be killed, it ends with the process."""
        self._stop.set()
        if self._worker is not None and self.exit_code() is None:
            self._worker.give_up(1)

    def exit_message(self) -> tuple[str, str]:
        """Return how it ended; its log is this process's."""
        return describe_exit(self._code or 0), "(it has logged into this process's log)"

    def _leave(self, code: int) -> None:
        self._code, self._is_left = code, True

    def _run(self) -> None:
        from tuner.storage.storage import Storage
        from tuner.worker.worker import Worker

        try:
            with Storage.open(self.order.settings.storage) as store:
                order = self.order
                self._worker = Worker(
                    store, order.settings, study=order.study, device=order.device, stop=self._stop, end=self._leave
                )
                self._worker.run()
            self._code = 0
        except ProcessSpentError as error:
            self._code = error.exit_code
        except Exception:
            logger.exception("the worker has failed")
            self._code = 1
