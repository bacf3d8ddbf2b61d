"""Whole trainings on a pretended GPU: devices do not mix, what is interrupted continues, results are the CPU's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.small import HERE, SMALL
from tests.pretended_cuda import LOG, MEMORY, pretend
from tests.training.samples import make_config, make_data
from tuner.config.trial import load_config
from tuner.data.source import TestCase as Case
from tuner.losses.catalog.registry import LOSSES
from tuner.models.catalog import MODELS
from tuner.training.final import train_final
from tuner.training.loop import TrainingState, configure_torch
from tuner.training.repeatable import UnrepeatableError
from tuner.training.trainer import train

SLOW = pytest.mark.slow
SIZE = 16
BASE: dict[str, Any] = {"batch_size": 12, "augment": "none", "precision": "float32", "epochs": 2, "deterministic": True}
TRAININGS: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "bfloat16": (MEMORY, False, {"precision": "bfloat16", "augment": "default"}),
    "float32": (MEMORY, False, {"augment": "light"}),
    "float16": (MEMORY, False, {"precision": "float16", "optimizer": "sgd"}),
    "patches": (0, False, {"patch": [8, 8], "patches": 2}),
    "streamed": (0, False, {"loss": "boundary"}),
    "maps": (MEMORY, False, {"loss": "hausdorff"}),
    "volumes": (MEMORY, True, {"patch": 8, "batch_size": 4, "model": {"norm": "instance"}}),
}
"""Free bytes, whether samples are volumes, and what the training does."""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave torch as the other tests expect it."""
    yield
    configure_torch(make_config().train)


def some_trainings() -> Iterator[Any]:
    for name, row in TRAININGS.items():
        yield pytest.param(*row, id=name, marks=() if name in ("bfloat16", "patches") else SLOW)


def reports_of(config: Any, data: Any, device: str, folder: Path, until: int | None = None) -> list[tuple[Any, ...]]:
    found = []
    for report in train(config, data=data, device=device, folder=folder, stop=lambda: False):
        found.append((report.epoch, report.train_loss, report.metrics))
        if report.epoch == until:
            break
    return found


@pytest.mark.parametrize(("free", "volumes", "changes"), list(some_trainings()))
def test_an_interrupted_training_continues_bit_for_bit(
    free: int, volumes: bool, changes: dict[str, Any], tmp_path: Path
) -> None:
    """On the device generators, checkpoints and resident data are others than on the CPU."""
    data = make_data(tmp_path, size=SIZE, volumes=volumes)
    config = make_config(**BASE | changes)
    with pretend(free=free) as device:
        whole = reports_of(config, data, device, tmp_path / "whole")
        begun = reports_of(config, data, device, tmp_path / "broken", until=1)
        again = reports_of(config, data, device, tmp_path / "broken")

    assert begun == whole[:1]
    assert again == whole
    assert (tmp_path / "whole/predictions.png").exists()


@SLOW
@pytest.mark.parametrize("changes", [{}, {"loss": "boundary"}, {"patch": [8, 8]}], ids=["whole", "maps", "patches"])
def test_the_numbers_are_those_of_the_cpu(changes: dict[str, Any], tmp_path: Path) -> None:
    """What is moved to the device, and when, must not change what is trained."""
    data, config = make_data(tmp_path, size=SIZE), make_config(model={"dropout": 0.0}, **BASE | changes)
    here = reports_of(config, data, "cpu", tmp_path / "here")
    with pretend() as device:
        there = reports_of(config, data, device, tmp_path / "there")

    assert [row[1] for row in there] == pytest.approx([row[1] for row in here], rel=1e-3)


def test_an_epoch_waits_at_its_ends_only(tmp_path: Path) -> None:
    """Each wait leaves the GPU without work: the mean of the losses, and the looks of CHECK_EVERY."""
    data, config = make_data(tmp_path, size=SIZE), make_config(**BASE | {"batch_size": 4, "augment": "default"})
    with pretend() as device:
        run = TrainingState(config, data, device)
        run.train_epoch(1, lambda: False)
        LOG.clear()
        run.train_epoch(2, lambda: False)
        waits, pageable = LOG.waits.total(), dict(LOG.pageable)
        LOG.clear()
        run.validate(lambda: False)
        uploads = [where for what, where in LOG.pageable if what == "copy to the device"]
        run.close()

    assert waits <= 3
    assert not pageable
    assert not uploads


def model_cases() -> Iterator[Any]:
    for name in HERE:
        for dims in (2, 3):
            if dims in MODELS[name].dims:
                quick = (name, dims) in (("unet", 2), ("dynunet", 3))
                yield pytest.param(name, dims, id=f"{name}-{dims}d", marks=() if quick else SLOW)


@pytest.mark.parametrize(("name", "dims"), list(model_cases()))
def test_every_network_trains_and_validates(name: str, dims: int, tmp_path: Path) -> None:
    """A buffer that stays on the host is found here, and not in the first trial on a real GPU."""
    size = 32 if dims == 2 else 16
    data = make_data(tmp_path, size=size, volumes=dims == 3)
    section = make_config(**BASE | {"batch_size": 2, "deterministic": False}).as_dict()
    config = load_config(section | {"model": {"name": name, **SMALL[name]}})
    with pretend() as device:
        run = TrainingState(config, data, device)
        loss = run.step(torch.arange(2), torch.Generator().manual_seed(0))
        done = run.validate(lambda: False)
        run.close()

        assert torch.isfinite(loss)
    assert done is not None


def loss_cases() -> Iterator[Any]:
    for name in LOSSES:
        yield pytest.param(name, marks=() if name in ("inverse_form", "lovasz_softmax") else SLOW)


REFUSED = ("inverse_form",)
"""Losses that torch has no repeatable kernels for on CUDA."""


@pytest.mark.parametrize("name", list(loss_cases()))
def test_what_does_not_repeat_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """The contract promises bit for bit with `deterministic: true`: a warning in a log does not keep that."""
    data, config = make_data(tmp_path, size=SIZE), make_config(loss=name, **BASE | {"batch_size": 4})
    configure_torch(config.train)
    with pretend() as device:
        run = TrainingState(config, data, device)
        run.trial.loss.on_epoch(2, 4)
        if name in REFUSED:
            with pytest.raises(UnrepeatableError, match=f"the loss '{name}'.* does not repeat"):
                run.step(torch.arange(4), torch.Generator().manual_seed(0))
        else:
            run.step(torch.arange(4), torch.Generator().manual_seed(0))
        run.close()


@SLOW
@pytest.mark.parametrize("patch", [None, [8, 8]], ids=["whole", "windows"])
def test_a_final_training_scores_its_test_cases(patch: list[int] | None, tmp_path: Path) -> None:
    """Test cases are predicted by whole networks that were read from a file."""
    data, config = make_data(tmp_path, size=SIZE), make_config(**BASE | {"epochs": 1, "patch": patch})
    case = Case("t", data.validation.images[:4, 0], data.validation.labels[:4], None)
    with pretend() as device:
        document = train_final(config, data=data, tests=[case], device=device, folder=tmp_path / "run")

    assert document is not None
    assert document["test"]["cases"][0]["case"] == "t"
