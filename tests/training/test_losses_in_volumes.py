"""Every loss in 3-D, from the configuration to the score: whole volumes, and patches of volumes of different sizes."""

from pathlib import Path

import pytest

from tests.data.volumes import make_nnunet, section
from tests.training.samples import make_config, make_data
from tests.training.test_trainer import run
from tuner.config.trial import load_config
from tuner.data.preparation import prepare
from tuner.losses.catalog.registry import LOSSES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_trains_on_volumes(loss: str, tmp_path: Path) -> None:
    """A loss that only ever saw pictures would fail here: two epochs, a finite loss, and scores."""
    data = make_data(tmp_path / "prepared", size=16, volumes=True)

    reports = run(make_config(epochs=2, loss=loss, augment="light", batch_size=2), data, tmp_path / "run")

    assert [report.epoch for report in reports] == [1, 2]
    assert all(report.metrics["dice"] is not None for report in reports)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_trains_on_patches(loss: str, tmp_path: Path) -> None:
    """Patches of scans of different sizes, some of them beyond the edge, where labels are ignored."""
    make_nnunet(tmp_path)
    config = load_config(
        {
            "dataset": section(dimensions=3, resize=False),
            "model": {"name": "unet", "width": 4, "depth": 2},
            "loss": loss,
            "train": {"epochs": 1, "batch_size": 2, "threads": 1, "seed": 1, "patch": [8, 16, 16], "patches": 2},
        }
    )
    data = prepare(config.dataset, data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    (report,) = run(config, data, tmp_path / "run")

    assert report.metrics["dice"] is not None
    assert [case.case for case in report.cases] == ["ben_1"]
