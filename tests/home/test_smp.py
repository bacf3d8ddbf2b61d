"""The exported loss and network in segmentation_models_pytorch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.test_smp_file import REGIONS
from tests.export.test_torch_file import FACTS
from tests.home.sample import run
from tuner.config.trial import load_config
from tuner.export.smp import smp_export
from tuner.models.build import build_model

pytest.importorskip("nnunetv2", reason="make test-home")

STUDY = """
name: cells
dataset: {name: phantom, size: 32, cases: 4, slices: 4}
model: {name: smp, encoder: resnet18}
train: {epochs: 1, batch_size: 4, threads: 1}
search:
  loss: [dice_focal]
  train.lr: {low: 1.0e-3, high: 1.0e-2, log: true}
budget: {trials: 1}
"""
ALONE = """
import importlib.util, sys
import torch
assert importlib.util.find_spec("tuner.losses") is None
sys.path.insert(0, ".")
import winner
"""
TRAINS = """
import segmentation_models_pytorch as smp
torch.manual_seed(0)
criterion = winner.loss(ignore_index=255)
model = MODEL
images = torch.randn(4, CHANNELS, 64, 64)
masks = (images[:, 0] > 0.3).long()
masks[:, :4] = 255
optimizer = torch.optim.AdamW([*model.parameters(), *criterion.parameters()], lr=0.01)
values = []
for epoch in range(1, 9):
    criterion.on_epoch(epoch, 8)
    optimizer.zero_grad()
    value = criterion(model(images), masks)
    value.backward()
    optimizer.step()
    values.append(value.item())
assert values[-1] < 0.9 * values[0], values
"""
BINARY = """
import pytest
scores, masks = torch.randn(2, 1, 16, 16), torch.randint(0, 2, (2, 1, 16, 16)).float()
criterion = winner.loss()
both = torch.cat([torch.zeros_like(scores), scores], 1)
torch.testing.assert_close(criterion(scores, masks), criterion(both, masks.squeeze(1).long()))
with pytest.raises(ValueError, match="class ids"):
    criterion(scores, masks + 0.5)
"""


def python(folder: Path, *words: str, fails: bool = False) -> str:
    """Run this environment's interpreter in a folder, without the paths of this repository."""
    paths = [path for path in sys.path if path.endswith("site-packages")]
    # -S: an editable installation is not seen
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", "-W", "ignore", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def write(folder: Path, loss: Any, model: Any, *, outputs: int = 3, **facts: Any) -> None:
    """Write an export with random weights."""
    config = load_config({"dataset": "phantom", "model": model, "loss": loss})
    torch.manual_seed(0)
    weights = build_model(config.model, channels=1, classes=outputs, spatial_dims=2).state_dict()
    made = smp_export(config, FACTS | facts, weights, beside="winner.pt")
    (folder / "winner.py").write_text(made.text)
    (folder / "winner.pt").write_bytes(made.tensors)


def test_the_winner_of_a_search_is_taken_home(tmp_path: Path) -> None:
    """Loss, network and weights of a real trial; the file alone trains it on."""
    (tmp_path / "study.yaml").write_text(STUDY)
    words = ["--storage", f"sqlite:///{tmp_path / 'tuner.db'}"]
    env = {**os.environ, "TUNER_CACHE": str(tmp_path / "cache")}
    run("tuner", "launch", "study.yaml", "--devices", "cpu", "--workers", "1", *words, env=env, cwd=tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    said = run("tuner", "export", "cells", "-o", str(home / "winner.py"), "--format", "smp", *words, env=env)

    assert "not in it" not in said
    assert "self-test passed" in python(home, "winner.py")
    python(home, "-c", ALONE + TRAINS.replace("MODEL", "winner.network()").replace("CHANNELS", "1"))


@pytest.mark.parametrize("architecture", ["fpn", "pspnet"])
def test_networks_of_the_package_are_taken_home(tmp_path: Path, architecture: str) -> None:
    """The package's own arguments and names of weights; the self-test fails when an option is changed."""
    write(
        tmp_path, {"name": "focal", "gamma": 2.0}, {"name": "smp", "architecture": architecture, "encoder": "resnet18"}
    )
    assert "self-test passed" in python(tmp_path, "winner.py")

    text = (tmp_path / "winner.py").read_text()
    (tmp_path / "winner.py").write_text(text.replace("'gamma': 2.0", "'gamma': 2.001"))
    assert "labels: the loss differs by" in python(tmp_path, "winner.py", fails=True)


def test_regions_are_the_mode_multilabel(tmp_path: Path) -> None:
    """A network with an output for each region."""
    write(tmp_path, "dice_focal", {"name": "smp", "encoder": "resnet18"}, outputs=2, regions=REGIONS)

    assert "self-test passed" in python(tmp_path, "winner.py")
    assert python(tmp_path, "-c", ALONE + "print(winner.loss().mode)").split() == ["multilabel"]


def test_another_network_of_the_package_trains_with_the_loss(tmp_path: Path) -> None:
    """The trial's was not one of the package: its loss, with a schedule, goes alone."""
    loss = {"name": "boundary", "base": "dice_focal", "schedule": "increase", "weight": 0.01, "step": 0.1}
    write(tmp_path, loss, {"name": "unet", "width": 4, "depth": 1})
    model = "smp.Unet('resnet18', encoder_weights=None, in_channels=1, classes=3)"

    assert "self-test passed" in python(tmp_path, "winner.py")
    python(tmp_path, "-c", ALONE + TRAINS.replace("MODEL", model).replace("CHANNELS", "1"))


def test_a_model_of_one_output_is_the_mode_binary(tmp_path: Path) -> None:
    """Of two classes: masks as floats [N, 1, H, W], the value that of two outputs of which the first is 0."""
    config = load_config({"dataset": "phantom", "loss": "dice_focal"})
    facts = FACTS | {"class_names": ["background", "cell"], "class_frequencies": [0.8, 0.2]}
    made = smp_export(config, facts, None, beside="winner.pt")
    (tmp_path / "winner.py").write_text(made.text)
    (tmp_path / "winner.pt").write_bytes(made.tensors)

    python(tmp_path, "-c", ALONE + BINARY)
