"""Questions that only torch can answer, asked in a process of its own."""

import pytest

from tests.worker.studies import tiny
from tuner.errors import SpecError
from tuner.launch.device_probe import ProbeRequest, probe_devices
from tuner.launch.launcher import cores


def test_the_cpu_alone_needs_no_torch() -> None:
    """A study that goes on must not wait for torch twice."""
    answer = probe_devices(ProbeRequest(["cpu"], per_device=1, workers=2, precision=False))

    assert answer.slots == ("cpu", "cpu")
    assert answer.threads == max(1, cores() // 2)
    assert answer.precision is None


def test_a_training_step_is_timed_and_the_precision_resolved() -> None:
    """The first estimate is measured, and `auto` means the same in every worker."""
    config = tiny().config({"loss": "dice", "train.lr": 1e-3})

    answer = probe_devices(
        ProbeRequest(["cpu"], per_device=1, workers=None, config=config, shape=(1, 32, 32), classes=9)
    )

    assert answer.sample_s is not None
    assert answer.sample_s > 0
    assert answer.precision in ("float32", "bfloat16")


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    """By the machine that would have to use it."""
    with pytest.raises(SpecError, match=r"no device 'cuda:99' here; there are: auto, .*cpu"):
        probe_devices(ProbeRequest(["cuda:99"], per_device=1, workers=None))
