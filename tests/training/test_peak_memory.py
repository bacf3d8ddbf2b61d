"""Peak memory of a training: of this training, not of what its process has held before."""

import sys

import numpy as np
import pytest

from tuner.training.heap import keep_freed_memory
from tuner.training.peak_memory import MemoryMeter

LARGE = 256 * 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked for a part of the time")


def test_what_was_held_before_does_not_count() -> None:
    """A worker trains one configuration after the other, and keeps what they free; each is told its own peak."""
    keep_freed_memory()
    before = np.ones(LARGE, dtype=np.uint8)
    del before
    small = MemoryMeter("cpu").read()

    meter = MemoryMeter("cpu")
    now = np.ones(LARGE, dtype=np.uint8)
    del now
    large = meter.read()

    assert small is not None
    assert large is not None
    assert small.of == large.of == "process"
    assert large.bytes - small.bytes > 0.9 * LARGE
