"""What a worker waits for before it claims a trial, told by readers that are put in."""

import logging
from pathlib import Path

import pytest

from tuner.artifacts.local import Artifacts
from tuner.worker.health import MEMORY_WAIT_S, MIN_FREE_BYTES, ReadinessCheck

MIB = 2**20


class Machine:
    """Free memory, what the process grew by, and a clock."""

    def __init__(self, free: int | None, growth: int | None = 0) -> None:
        self.free, self.growth, self.now = free, growth, 0.0

    def ready(self, device: str = "cpu") -> ReadinessCheck:
        """Return what looks at it."""
        return ReadinessCheck(
            device,
            Artifacts(Path("/nowhere")),
            free=lambda device: self.free,
            growth=lambda device: self.growth,
            clock=lambda: self.now,
        )


def test_a_worker_waits_while_its_device_is_full(caplog: pytest.LogCaptureFixture) -> None:
    """A trial that is claimed with no memory left fails of it, and takes the one beside it along."""
    machine = Machine(free=100 * MIB)
    ready = machine.ready("cuda:1")

    with caplog.at_level(logging.INFO):
        words = [ready.blocked_reason() for _ in range(3)]
        machine.free = MIN_FREE_BYTES["cuda"]
        after = ready.blocked_reason()

    assert set(words) == {"waits for memory: cuda:1 has 100 MiB free, a trial needs at least 512 MiB"}
    assert after is None
    assert len([r for r in caplog.records if "waits for memory" in r.getMessage()]) == 1
    assert "claimed again" in caplog.text


def test_what_trials_have_needed_counts() -> None:
    """The next one is likely to need as much; the least is a guess only as long as nothing is known."""
    machine = Machine(free=1000 * MIB, growth=3000 * MIB)
    ready = machine.ready()
    assert ready.blocked_reason() is None

    ready.observe()
    machine.growth = 0
    ready.observe()

    assert ready.blocked_reason() == "waits for memory: cpu has 1000 MiB free, its trials have needed 3000 MiB"


def test_nobody_waits_for_ever() -> None:
    """Another program may hold the device for days: then running out of memory decides, as it always did."""
    machine = Machine(free=0)
    ready = machine.ready()
    assert ready.blocked_reason()

    machine.now = MEMORY_WAIT_S - 1
    assert ready.blocked_reason()
    machine.now = MEMORY_WAIT_S
    assert ready.blocked_reason() is None

    ready.observe(MemoryError())
    assert ready.blocked_reason()


def test_what_went_well_is_not_waited_for_again() -> None:
    """Five minutes before every trial would be most of the night."""
    machine = Machine(free=40 * MIB)
    ready = machine.ready()
    assert ready.blocked_reason()
    machine.now = MEMORY_WAIT_S
    assert ready.blocked_reason() is None

    ready.observe()

    assert ready.blocked_reason() is None
    machine.free = 39 * MIB
    assert ready.blocked_reason()


def test_where_nobody_tells_nothing_is_waited_for() -> None:
    """MPS and systems without /proc."""
    assert Machine(free=None, growth=None).ready("mps").blocked_reason() is None
