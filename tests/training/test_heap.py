"""Memory of a training on the CPU: it stays while steps follow each other, and goes back when the training ends."""

import resource
import sys

import numpy as np
import pytest

from tuner.training.heap import give_back_freed_memory, keep_freed_memory

BLOCK = 32 << 20


def faults_of_a_step() -> int:
    """Fill and free a block, as a step does with each of its maps, and count the pages that had to be made."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(BLOCK, 1, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_freed_block_is_there_for_the_next_step() -> None:
    """Faulting in every page of every map again is a tenth of a step."""
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    faults_of_a_step()

    assert faults_of_a_step() < 100
    give_back_freed_memory()
    assert faults_of_a_step() > 100
