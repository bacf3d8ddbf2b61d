"""A training that fails: what it held is free when its memory is given back, and labels are looked at in time."""

import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tuner.training.loop
from tests.training.samples import make_config, make_data
from tuner.data.preparation import PreparedData
from tuner.errors import TunerError
from tuner.training.loop import TrainingState
from tuner.training.trainer import train


def run(data: PreparedData, folder: Path) -> None:
    with closing(train(make_config(), data=data, device="cpu", folder=folder, stop=lambda: False)) as reports:
        for _ in reports:
            pass


@pytest.mark.parametrize("where", ["step", "validate", "__init__"])
def test_memory_is_given_back_when_nothing_holds_it_any_more(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback held the activations while CUDA's cache was emptied: the next trial found the card full."""
    held: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def failing(*args: object, **named: object) -> None:
        activation = torch.zeros(1000)
        held.append(weakref.ref(activation))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    def free(device: str) -> None:
        alive.append(held[0]() is not None)

    data = make_data(tmp_path)
    monkeypatch.setattr(TrainingState, where, failing)
    for module in (tuner.training.loop, tuner.training.trainer):
        monkeypatch.setattr(module, "free_memory", free)

    with pytest.raises(torch.OutOfMemoryError):
        run(data, tmp_path / "0")

    assert alive == [False]


def test_a_label_that_is_no_class_is_found_in_any_batch(tmp_path: Path) -> None:
    """On a GPU one such label of the last batch ends the process with an assertion that names nothing."""
    data = make_data(tmp_path)
    labels = data.train.labels.copy()
    labels[-1, 12:20, 12:20] = data.classes + 3
    broken = replace(data, train=replace(data.train, labels=labels), fingerprint="broken")

    with pytest.raises(TunerError, match=str(data.classes + 3)):
        run(broken, tmp_path / "0")
