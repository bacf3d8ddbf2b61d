"""The exported trainer in nnU-Net: planned, preprocessed, trained, predicted with its own programs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.home.sample import NUMBER, TINY, nnunet_environment, plan, run, write_sample

pytest.importorskip("nnunetv2", reason="needs nnU-Net: make test-home")

Environment = dict[str, str]
STUDY = """
name: organs
dataset: {{name: nnunet, path: Dataset901_Phantom, dimensions: 2, size: 32, validation: 0.2}}
model: {{name: unet, width: 4}}
train: {{epochs: 1, batch_size: 8, threads: 1, optimizer: {optimizer}}}
search:
  loss: [{loss}]
  train.lr: {{low: 1.0e-3, high: 1.0e-2, log: true}}
budget: {{trials: 1}}
"""
SHORT = {"train": {"epochs": 2, "iterations": 4, "validation_iterations": 2, "seed": 1}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Environment]:
    """A sample, planned and preprocessed."""
    root = tmp_path_factory.mktemp("home")
    env = nnunet_environment(root)
    write_sample(root / "nnUNet_raw", cases=5)
    plan(env)
    short = root / "short.json"
    short.write_text(json.dumps(SHORT))
    return root, {**env, "TUNER_NNUNET_SETTINGS": str(short)}


def searched(root: Path, env: Environment, loss: str, *, optimizer: str = "sgd") -> tuple[str, Path]:
    """Search on the raw data set, export the best trial; return the class name and the file."""
    folder = root / loss
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY.format(loss=loss, optimizer=optimizer))
    url = f"sqlite:///{folder / 'tuner.db'}"
    places = {"TUNER_DATA_ROOT": env["nnUNet_raw"], "TUNER_CACHE": str(root / "cache")}
    words = ["--devices", "cpu", "--workers", "1", "--storage", url]
    run("tuner", "launch", "study.yaml", *words, env={**env, **places}, cwd=folder)
    file = root / "trainers" / f"{loss}.py"
    run("tuner", "export", "organs", "-o", str(file), "--format", "nnunet", "--storage", url, env=env, cwd=folder)
    # of every study of this file the first trial: a name of its own
    name = f"nnUNetTrainer_{loss}"
    file.write_text(file.read_text().replace("nnUNetTrainer_organs_0", name))
    return name, file


def test_plans_trains_and_predicts(home: tuple[Path, Environment]) -> None:
    """Two epochs with the exported trainer; the prediction has the geometry of its image and labels of the data set."""
    root, env = home
    name, file = searched(root, env, "dice_focal")

    test = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, env=env)
    assert "self-test passed" in test.stdout

    run("nnUNetv2_train", str(NUMBER), TINY, "0", "-tr", name, "-device", "cpu", env=env)
    results = root / "nnUNet_results" / "Dataset901_Phantom" / f"{name}__nnUNetPlans__{TINY}"
    log = next((results / "fold_0").glob("training_log_*.txt")).read_text()
    assert "Loss: Loss(" in log
    assert "'dice_focal'" in log
    assert "Epoch 1" in log
    assert "Epoch 2" not in log
    assert json.loads((results / "fold_0" / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"] >= 0

    images, out = Path(env["nnUNet_raw"]) / "Dataset901_Phantom" / "imagesTs", root / "predicted"
    words = ["-i", str(images), "-o", str(out), "-d", str(NUMBER), "-c", TINY, "-f", "0", "-tr", name]
    run("nnUNetv2_predict", *words, "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1", env=env)
    (predicted,) = out.glob("*.nii.gz")
    labels = np.asarray(nib.load(predicted).dataobj)
    assert labels.shape == nib.load(next(images.glob("*.nii.gz"))).shape
    assert set(np.unique(labels)) <= set(range(9))


def test_a_changed_option_fails_the_self_test(home: tuple[Path, Environment]) -> None:
    """A test that cannot fail proves nothing."""
    root, env = home
    _, file = searched(root, env, "tversky", optimizer="adamw")
    text = file.read_text()
    chosen = re.search(r"'alpha': ([0-9.]+)", text)
    assert chosen, "what the search chose stands in the file"
    file.write_text(text.replace(chosen[0], f"'alpha': {float(chosen[1]) + 0.001}"))

    test = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False, env=env)

    assert test.returncode != 0
    assert "labels: the loss differs by" in test.stderr


def test_what_a_loss_learns_is_trained_and_kept(home: tuple[Path, Environment]) -> None:
    """Continued with -c, the tolerance is the one of the checkpoint."""
    import torch

    root, env = home
    name, _ = searched(root, env, "robust_t")
    run("nnUNetv2_train", str(NUMBER), TINY, "0", "-tr", name, "-device", "cpu", env=env)
    folder = root / "nnUNet_results" / "Dataset901_Phantom" / f"{name}__nnUNetPlans__{TINY}" / "fold_0"
    learned = torch.load(folder / "checkpoint_final.pth", weights_only=False)["loss_state"]
    assert len(learned) == 1

    longer = root / "longer.json"
    longer.write_text(json.dumps({"train": {**SHORT["train"], "epochs": 3}}))
    more = {**env, "TUNER_NNUNET_SETTINGS": str(longer)}
    log = run("nnUNetv2_train", str(NUMBER), TINY, "0", "-tr", name, "-device", "cpu", "--c", env=more)

    assert "Epoch 2" in log
    after = torch.load(folder / "checkpoint_final.pth", weights_only=False)["loss_state"]
    assert all(not torch.equal(after[key], learned[key]) for key in learned)


def test_regions_and_an_ignore_label(home: tuple[Path, Environment]) -> None:
    """In a sigmoid where the loss has such a form; else the training is refused before it starts."""
    root, env = home
    number, name = 902, "Dataset902_Regions"
    labels = {"background": 0, "organs": list(range(1, 9)), "liver": [1], "ignore": 9}
    write_sample(root / "nnUNet_raw", cases=5, name=name, labels=labels, regions_class_order=[2, 1])
    plan(env, number, name)
    file = root / "trainers" / "dice_focal.py"
    trainer = "nnUNetTrainer_dice_focal"
    if not file.exists():
        searched(root, env, "dice_focal")

    log = run("nnUNetv2_train", str(number), TINY, "0", "-tr", trainer, "-device", "cpu", env=env)
    assert "activation='sigmoid'" in log

    refused, _ = searched(root, env, "generalized_wasserstein_dice")
    log = run("nnUNetv2_train", str(number), TINY, "0", "-tr", refused, "-device", "cpu", env=env, fails=True)
    assert "generalized_wasserstein_dice is defined for labels that exclude each other" in log


def test_the_preset_is_the_loss_of_nnunet() -> None:
    """`dice_cross_entropy` with `nnunet_2d` is half of nnU-Net's own sum, on labels with ignored pixels."""
    import torch
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    from tuner import losses

    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 16, 16, generator=draw, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 1, 16, 16), generator=draw)
    theirs = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        ignore_label=4,
        dice_class=MemoryEfficientSoftDiceLoss,
    )
    ours = losses.create("dice_cross_entropy", preset="nnunet_2d", ignore_index=4)

    # nnU-Net's Dice is a gain, at best -1
    torch.testing.assert_close(ours(logits, target) * 2 - 1, theirs(logits, target), rtol=1e-6, atol=1e-6)
