"""The exported loss in mmsegmentation: its registry, its heads, its runner, in an environment of its own.

That environment has mmcv without its compiled operators, which no published wheel has for this torch; mmsegmentation
imports them all, and none of what runs here calls one: a module without any stands in for them.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.test_mmseg_file import block_of
from tests.export.test_torch_file import FACTS
from tuner.config.trial import load_config
from tuner.export.mmseg import mmseg_export

PYTHON = os.environ.get("TUNER_MMSEG_PYTHON", "build/mmseg-env/bin/python")

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason="needs mmsegmentation: make test-home")

HEAD = """
import importlib.util, runpy, sys, types
assert importlib.util.find_spec("tuner.losses") is None
operators = types.ModuleType("mmcv._ext")
operators.__getattr__ = lambda name: None
sys.modules["mmcv._ext"] = operators
import mmseg.models
del sys.modules["mmcv._ext"]
sys.path.insert(0, ".")
"""
SELF_TEST = HEAD + "runpy.run_path('winner.py', run_name='__main__')"
TRAIN = (
    HEAD
    + """
from mmengine.config import Config
from mmengine.runner import Runner
runner = Runner.from_cfg(Config.fromfile("mine.py"))
criterion = runner.model.decode_head.loss_decode
assert type(criterion).__name__.startswith("TunedLoss_"), type(criterion)
assert type(runner.optim_wrapper) is not dict
runner.train()
print("optimizer", type(runner.optim_wrapper.optimizer).__name__)
print("progress", criterion.loss.moment.progress)
"""
)
REDUCED = (
    HEAD
    + """
import torch
import winner
from mmseg.registry import MODELS
loss = MODELS.build({"type": "TunedLoss_or_gans_7", "loss_weight": 2.0, "loss_name": "loss_x"})
pred, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
target[:, 0] = 255
mean, each = loss(pred, target), loss(pred, target, reduction_override="none")
counted = target != 255
assert loss.loss_name == "loss_x"
assert each.shape == target.shape and not each[~counted].any()
torch.testing.assert_close(each[counted].mean(), mean)
torch.testing.assert_close(loss(pred, target, reduction_override="sum"), each.sum())
torch.testing.assert_close(loss(pred, target, avg_factor=int(counted.sum())), mean)
torch.testing.assert_close(loss(pred, torch.where(counted, target, 7), ignore_index=7), mean)
weight = torch.zeros(2, 8, 8)
weight[:, 4:] = 1
torch.testing.assert_close(loss(pred, target, weight=weight), each[:, 4:].mean())
for wrong in ({"avg_factor": 3, "reduction_override": "sum"}, {"reduction_override": "median"}):
    try:
        loss(pred, target, **wrong)
    except ValueError as error:
        print(error)
    else:
        raise AssertionError(wrong)
"""
)
BASE = """
size = (64, 64)
dataset_type = "BaseSegDataset"
meta = dict(classes=("background", "disc", "square"), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]])
dataset = dict(
    type=dataset_type, data_root="data", data_prefix=dict(img_path="images", seg_map_path="masks"), metainfo=meta,
    img_suffix=".png", seg_map_suffix=".png", reduce_zero_label=False)
train_pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs")]
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, pipeline=test_pipeline))
val_evaluator = dict(type="IoUMetric", iou_metrics=["mDice"])
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.0] * 3, std=[64.0] * 3, bgr_to_rgb=True, size=size,
        pad_val=0, seg_pad_val=255),
    backbone=dict(type="UNet", base_channels=8, num_stages=3, strides=(1, 1, 1), enc_num_convs=(2, 2, 2),
        dec_num_convs=(2, 2), downsamples=(True, True), enc_dilations=(1, 1, 1), dec_dilations=(1, 1),
        norm_cfg=dict(type="BN")),
    decode_head=dict(type="FCNHead", in_channels=8, in_index=2, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=0.0, num_classes=3, norm_cfg=dict(type="BN"), align_corners=False, SAMPLER
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode="whole"))
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40, val_interval=40)
val_cfg = dict(type="ValLoop")
default_hooks = dict(logger=dict(type="LoggerHook", interval=5))
default_scope = "mmseg"
randomness = dict(seed=0)
work_dir = "work"
"""


def python(folder: Path, code: str, *, fails: bool = False) -> str:
    """Run code by the environment's interpreter in a folder."""
    command = [str(Path(PYTHON).absolute()), "-W", "ignore", "-c", code]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr[-4000:]
    return done.stdout + done.stderr


def write(folder: Path, loss: Any, **train: Any) -> str:
    """Write an export and return its text."""
    config = load_config({"dataset": "phantom", "loss": loss, "train": train})
    config = config.model_copy(update={"provenance": {"study": "or-gans", "trial": 7, "value": 0.5}})
    made = mmseg_export(config, FACTS, module="winner", beside="winner.pt")
    (folder / "winner.py").write_text(made.text)
    (folder / "winner.pt").write_bytes(made.tensors)
    return made.text


def draw_data(folder: Path) -> None:
    """Write pictures of discs and squares with their masks, a strip of them to be ignored."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for number in range(8):
        mask = np.zeros((64, 64), np.uint8)
        y, x = draw.integers(12, 52, 2)
        mask[(rows - y) ** 2 + (columns - x) ** 2 < 100] = 1
        y, x = draw.integers(4, 44, 2)
        mask[y : y + 16, x : x + 16] = 2
        image = np.array([40, 120, 200])[mask][..., None] + draw.normal(0, 15, (64, 64, 3))
        mask[:4] = 255
        for kind, array in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", mask)):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / "data" / kind / f"{number}.png")


@pytest.mark.parametrize("sampler", ["", "sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=200),"])
def test_trains_in_the_runner(tmp_path: Path, sampler: str) -> None:
    """By the configuration of the head of the file, upon one of another loss and optimizer; with a schedule."""
    loss = {"name": "boundary", "base": "dice_focal", "schedule": "increase", "weight": 0.01, "step": 0.1}
    text = write(tmp_path, "dice_focal" if sampler else loss, lr=0.01, optimizer="adamw")
    (tmp_path / "base.py").write_text(BASE.replace("SAMPLER", sampler))
    (tmp_path / "mine.py").write_text("_base_ = ['base.py']\n" + block_of(text) + "\n")
    draw_data(tmp_path)

    said = python(tmp_path, TRAIN)

    assert "optimizer AdamW" in said
    assert "progress 1.0" in said
    assert "loss_tuned:" in said
    assert "mDice:" in said
    values = [float(part.split()[0]) for part in said.split("decode.loss_tuned: ")[1:]]
    assert np.isfinite(values).all()
    # the sampler keeps the pixels that are hard, whose mean need not fall
    assert sampler or values[-1] < 0.7 * values[0], values


def test_its_self_test_runs_and_fails_when_an_option_is_changed(tmp_path: Path) -> None:
    """Built by the registry and called by mmsegmentation's own head."""
    text = write(tmp_path, {"name": "tversky", "alpha": 0.5})
    assert "self-test passed" in python(tmp_path, SELF_TEST)

    (tmp_path / "winner.py").write_text(text.replace("'alpha': 0.5", "'alpha': 0.501"))
    assert "labels, a decode head: the loss differs by" in python(tmp_path, SELF_TEST, fails=True)


def test_the_interface_of_mmsegmentation_s_losses(tmp_path: Path) -> None:
    """Reductions, average factor, weights, another ignored value, name and weight of the loss."""
    write(tmp_path, {"name": "focal", "gamma": 2.0})

    said = python(tmp_path, REDUCED)

    assert 'avg_factor can not be used with reduction="sum"' in said
    assert "reduction 'median' is none of mean, none, sum" in said
