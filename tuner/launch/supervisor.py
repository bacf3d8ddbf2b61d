"""Supervisor: a live worker in every slot while there is work, restarted with backoff within limits."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tuner.errors import RunError
from tuner.launch.launcher import Launcher, WorkerHandle, WorkerSpec
from tuner.worker.exit_codes import QUARANTINE_S, QUARANTINED, REPLACE

EARLY_S = 20.0
"""A worker that ends sooner than that after its start has hardly worked."""
EARLY_ENDS = 3
"""Early ends by itself, one after the other in one slot, before it is given up."""
EARLY_KILLS = 10
"""The same for ends by a signal: somebody, or the system when memory is short, kills workers."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class RestartBackoff:
    """What is remembered of one slot's dead workers."""

    early: int = 0
    """Early ends in a row."""

    def next_delay(self, lasted_s: float) -> float:
        """Note that a worker has ended after so many seconds; return the seconds before another one may start."""
        self.early = self.early + 1 if lasted_s < EARLY_S else 0
        return BACKOFF_S[min(self.early, len(BACKOFF_S) - 1)]

    def exhausted(self, code: int) -> bool:
        """Tell whether no other worker is to be started after one that ended with this code."""
        return self.early >= (EARLY_KILLS if code < 0 else EARLY_ENDS)


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _WorkerSlot:
    order: WorkerSpec
    handle: WorkerHandle | None = None
    started: float = 0.0
    not_before: float = 0.0
    patience: RestartBackoff = field(default_factory=RestartBackoff)
    quarantined: bool = False
    """Its device was quarantined, and has not been tried again."""


class Supervisor:
    """Keeps a worker in each slot.

    Args:
        launcher: Starts them.
        orders: One for each slot.
        on_message: Told of every start after the first and every unexpected end, in words.
        standing: Goes on although all devices were quarantined: they are tried again later.
    """

    def __init__(
        self,
        launcher: Launcher,
        orders: Sequence[WorkerSpec],
        *,
        on_message: Callable[[str], None] = lambda text: None,
        standing: bool = False,
    ) -> None:
        self._launcher = launcher
        self._note = on_message
        self._standing = standing
        self._places = [_WorkerSlot(order) for order in orders]
        self.replaced = 0

    @property
    def alive(self) -> int:
        """Number of workers that run."""
        return sum(p.handle is not None and p.handle.exit_code() is None for p in self._places)

    @property
    def up(self) -> int:
        """Number of workers that run and do not merely wait for room."""
        handles = [p.handle for p in self._places if p.handle is not None]
        return sum(h.exit_code() is None and not h.waiting for h in handles)

    def ensure_running(self, work_left: Callable[[], bool]) -> None:
        """Start what is missing while there is work. Raises RunError when a slot's workers keep dying at once.

        `work_left` is asked after a worker was found dead, never before: the last one ends when the work does.
        """
        now = time.monotonic()
        for place in self._places:
            code = None if place.handle is None else place.handle.exit_code()
            if (place.handle is not None and code is None) or now < place.not_before or not work_left():
                continue
            if code is not None:
                self._handle_exit(place, code, now)
            if now >= place.not_before:
                place.handle = self._launcher.launch(place.order)
                place.started, place.quarantined = now, False

    def release_waiting(self) -> None:
        """Let go of workers that wait for room: no work is left for them."""
        for place in self._places:
            if place.handle is not None and place.handle.waiting:
                place.handle.drain()

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

    def _handle_exit(self, place: _WorkerSlot, code: int, now: float) -> None:
        handle, patience = place.handle, place.patience
        assert handle is not None
        place.handle = None
        if code == QUARANTINED:
            self._quarantine(place, handle, now)
            return
        self.replaced += 1
        if code == REPLACE and not handle.gave_up:
            words = "has ended its process over a trial that hangs or has spoiled it; another one takes its place"
            self._note(f"worker {place.order.slot} on {handle.location} {words}")
            return
        place.not_before = now + patience.next_delay(now - place.started)
        how, log = handle.exit_message()
        self._note(f"worker {place.order.slot} on {handle.location} {how}; another one takes its place")
        if handle.gave_up or patience.exhausted(code):
            times = "" if handle.gave_up else f", {patience.early} times running and at once"
            raise RunError(
                f"worker {place.order.slot} on {handle.location} {how}{times}. The last lines of its log:\n{log}",
                hint="Mend that, then `tuner resume`: what was finished is kept.",
                where=str(place.order.log),
            )

    def _quarantine(self, place: _WorkerSlot, handle: WorkerHandle, now: float) -> None:
        place.not_before, place.quarantined = now + QUARANTINE_S, True
        _, log = handle.exit_message()
        where = f"worker {place.order.slot} on {handle.location} has ended: trials fail there, and nowhere else"
        if not self._standing and all(other.quarantined for other in self._places):
            raise RunError(
                f"{where}; no other device is left to this launch. The last lines of its log:\n{log}",
                hint="Mend that, then `tuner resume`: what was finished is kept.",
                where=str(place.order.log),
            )
        self._note(f"{where}; the device is quarantined, and tried again in {QUARANTINE_S / 60:.0f} minutes")
