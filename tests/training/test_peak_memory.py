"""Peak memory of a training: of this training, not of what its process has held before."""

import json
import subprocess
import sys

import pytest

LARGE = 256 * 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked for a part of the time")

TRAININGS = f"""
import json
import numpy as np
from tuner.training.heap import keep_freed_memory
from tuner.training.peak_memory import MemoryMeter

keep_freed_memory()
before = np.ones({LARGE}, dtype=np.uint8)
del before
small = MemoryMeter("cpu").read()

meter = MemoryMeter("cpu")
now = np.ones({LARGE}, dtype=np.uint8)
del now
large = meter.read()
print(json.dumps([None if found is None else [found.of, found.bytes] for found in (small, large)]))
"""
"""In a process of its own, as a worker is: what other tests hold and have freed is in no peak of it."""


def test_what_was_held_before_does_not_count() -> None:
    """A worker trains one configuration after the other, and keeps what they free; each is told its own peak."""
    told = subprocess.run([sys.executable, "-c", TRAININGS], capture_output=True, text=True, check=True).stdout
    small, large = json.loads(told)

    assert small is not None
    assert large is not None
    assert small[0] == large[0] == "process"
    assert large[1] - small[1] > 0.9 * LARGE
