"""Memory of a training on the CPU: it stays while steps follow each other, and goes back when the training ends."""

import json
import subprocess
import sys

import pytest

STEPS = """
import json, resource
import numpy as np
from tuner.training.heap import give_back_freed_memory, keep_freed_memory

def faults_of_a_step():  # fill and free a block, as a step does with each of its maps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(32 << 20, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if keep_freed_memory():
    faults_of_a_step()
    kept = faults_of_a_step()
    give_back_freed_memory()
    print(json.dumps([kept, faults_of_a_step()]))
else:
    print("null")
"""
"""In a process of its own: what other tests have allocated and freed decides where a block lies."""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_freed_block_is_there_for_the_next_step() -> None:
    """Faulting in every page of every map again is a tenth of a step."""
    told = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True).stdout
    faults = json.loads(told)
    if faults is None:
        pytest.skip("the C library is not glibc")
    kept, given_back = faults

    assert kept < 100
    assert given_back > 100
