"""Watching a launch: workers are kept alive, the view is kept fresh, Ctrl-C drains."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuner.cli.failures import INTERRUPTED
from tuner.cli.progress import View
from tuner.cli.snapshots import Observer, Snapshot
from tuner.launch.supervisor import Crew

POLL_S = 1.0
DRAIN_S = 60.0
"""Workers that have not given their trials back so long after Ctrl-C are ended hard."""
SAME_S = 0.5
"""Signals that come so soon after the first are the same wish: `timeout`, for one, signals a process and its group."""
OVER = ("done", "stopped")


class Interruptions:
    """Counts Ctrl-C and SIGTERM: the first one drains, the second ends everything at once."""

    def __init__(self, crew: Crew) -> None:
        self.count = 0
        self._crew = crew
        self._first = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.count and time.monotonic() - self._first < SAME_S:
            return
        self.count += 1
        self._first = self._first or time.monotonic()
        if self.count > 1:
            self._crew.kill()
            os.write(2, b"\nended at once; `tuner resume` goes on from the last finished epochs\n")
            os._exit(INTERRUPTED)


@contextmanager
def listening(crew: Crew) -> Iterator[Interruptions]:
    """Take Ctrl-C and SIGTERM while the body runs; whatever ends it, no worker stays behind."""
    interruptions = Interruptions(crew)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruptions) for number in signals}
    try:
        yield interruptions
    finally:
        crew.drain()
        if not crew.wait(DRAIN_S):
            crew.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(observer: Observer, crew: Crew, view: View, workers: int) -> tuple[Snapshot, bool]:
    """Watch until the study is over or the user interrupts; return the last snapshot, and whether he did."""
    with listening(crew) as interruptions:
        while True:
            snapshot = observer.look(workers)
            view.show(snapshot)
            if interruptions.count:
                return _drain(observer, crew, view, workers), True
            if snapshot.phase in OVER:
                crew.dismiss()
                if not crew.alive:
                    return snapshot, False
            crew.tend(lambda: observer.phase() not in OVER)
            _sleep(interruptions)


def _drain(observer: Observer, crew: Crew, view: View, workers: int) -> Snapshot:
    view.note("interrupted: running trials are given back with their checkpoints; Ctrl-C again ends at once")
    crew.drain()
    until = time.monotonic() + DRAIN_S
    while crew.alive and time.monotonic() < until:
        view.show(observer.look(workers))
        time.sleep(POLL_S / 4)
    return observer.look(workers)


def _sleep(interruptions: Interruptions) -> None:
    until = time.monotonic() + POLL_S
    while time.monotonic() < until and not interruptions.count:
        time.sleep(0.05)
