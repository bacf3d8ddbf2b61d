"""The workers of one launch: a live one in every slot while there is work, replaced when it dies, within limits."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.errors import RunError
from tuner.launch.base import Launcher, Order, WorkerHandle
from tuner.launch.local import last_lines

logger = logging.getLogger(__name__)

EARLY_S = 20.0
"""A worker that ends sooner than that after its start has hardly worked."""
EARLY_ENDS = 3
"""Early ends by itself, one after the other in one slot, before the launch gives up."""
EARLY_KILLS = 10
"""The same for ends by a signal: somebody, or the system when memory is short, kills workers."""
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class _Place:
    order: Order
    handle: WorkerHandle | None = None
    started: float = 0.0
    early: int = 0
    """Early ends in a row."""
    not_before: float = 0.0


class Crew:
    """Keeps a worker in each slot.

    Args:
        launcher: Starts them.
        orders: One for each slot.
        note: Told of every start after the first and every unexpected end, in words.
    """

    def __init__(
        self, launcher: Launcher, orders: Sequence[Order], *, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._launcher = launcher
        self._note = note
        self._places = [_Place(order) for order in orders]
        self.replaced = 0

    @property
    def alive(self) -> int:
        """Number of workers that run."""
        return sum(p.handle is not None and p.handle.exit_code() is None for p in self._places)

    def tend(self, work_left: Callable[[], bool]) -> None:
        """Start what is missing while there is work. Raises RunError when a slot's workers keep dying at once.

        `work_left` is asked after a worker was found dead, never before: the last one ends when the work does.
        """
        now = time.monotonic()
        for place in self._places:
            code = None if place.handle is None else place.handle.exit_code()
            if (place.handle is not None and code is None) or now < place.not_before or not work_left():
                continue
            if code is not None:
                self._bury(place, code, now)
            if now >= place.not_before:
                place.handle = self._launcher.launch(place.order)
                place.started = now

    def drain(self) -> None:
        """Ask all workers to give their trials back and to end."""
        for place in self._places:
            if place.handle is not None:
                place.handle.drain()

    def kill(self) -> None:
        """End all workers at once."""
        for place in self._places:
            if place.handle is not None:
                place.handle.kill()

    def wait(self, seconds: float) -> bool:
        """Wait until all have ended, at most so long; tell whether they have."""
        until = time.monotonic() + seconds
        while self.alive and time.monotonic() < until:
            time.sleep(0.05)
        return not self.alive

    def _bury(self, place: _Place, code: int, now: float) -> None:
        place.handle = None
        place.early = place.early + 1 if now - place.started < EARLY_S else 0
        place.not_before = now + _BACK_OFF_S[min(place.early, len(_BACK_OFF_S) - 1)]
        self.replaced += 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._note(f"worker {place.order.slot} on {place.order.device} {how}; another one takes its place")
        if place.early >= (EARLY_KILLS if code < 0 else EARLY_ENDS):
            raise RunError(
                f"worker {place.order.slot} on {place.order.device} {how}, {place.early} times running and at once. "
                f"The last lines of its log:\n{last_lines(place.order.log)}",
                hint="Mend that, then `tuner resume`: what was finished is kept.",
                where=str(place.order.log),
            )
