"""Deep supervision: coarser outputs of U-Net and DynUNet are trained, the full one is scored and exported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tuner import losses
from tuner.config.study import load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import PreparedData, prepare
from tuner.errors import SpecError
from tuner.export.torch_file import torch_export
from tuner.launch.study_setup import unfit_losses
from tuner.models.build import build_model
from tuner.training.loop import TrainingState
from tuner.training.trainer import train

PHANTOM = {"name": "phantom", "size": 20, "cases": 2, "slices": 2}


def config_of(loss: str = "dice_cross_entropy", **changes: Any) -> TrialConfig:
    return load_config(
        {
            "dataset": PHANTOM,
            "model": {"name": "unet", "width": 4, "depth": 3, "deep_supervision": True},
            "loss": loss,
            "train": {"epochs": 2, "batch_size": 2, "threads": 1, "seed": 1, "precision": "float32"},
        }
        | changes
    )


def prepared(config: TrialConfig, root: Path) -> PreparedData:
    return prepare(config.dataset, data_root=None, cache=root / "cache", seed=0)


@pytest.mark.parametrize("name", ["unet", "dynunet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_outputs_halve_and_the_full_one_is_left_in_evaluation(name: str, dims: int) -> None:
    """nnU-Net's outputs but the coarsest, whose weight is 0; whoever predicts sees the full one alone."""
    torch.manual_seed(0)
    section = {"name": name, "width": 4, "depth": 4, "deep_supervision": True}
    net = build_model(section, channels=1, classes=3, spatial_dims=dims)
    images = torch.randn(2, 1, *(36,) * dims)

    outputs = net(images)

    assert [output.shape[2:] for output in outputs] == [(side,) * dims for side in (36, 24, 12)]
    assert outputs[1].shape[:2] == (2, 3)
    assert isinstance(net.eval()(images), Tensor)
    assert net.effective_options()["model.deep_supervision"] is True


@pytest.mark.parametrize("name", ["dice_cross_entropy", "boundary"])
def test_the_loss_is_nnunets_weighted_sum(name: str, tmp_path: Path) -> None:
    """Weights 1, 1/2, 1/4, the last 0, divided by their sum; coarser labels are every second one of what was seen."""
    config = config_of(name, model={"name": "unet", "width": 4, "depth": 4, "deep_supervision": True})
    run = TrainingState(config, prepared(config, tmp_path), "cpu")
    images, labels = run.samples.batch(torch.tensor([0, 1]))
    run.trial.model.train()
    outputs = run.trial.logits(images.float())
    run.trial.loss.on_epoch(2, 2)

    found = run.trial.training_loss(outputs, labels, {})

    weights = np.array([1 / 2**level for level in range(4)])
    weights[-1] = 0
    weights /= weights.sum()
    seen = np.pad(labels.numpy(), ((0, 0), (0, 12), (0, 12)), constant_values=255)
    coarser = [torch.from_numpy(seen[:, step // 2 :: step, step // 2 :: step]) for step in (2, 4)]
    alone = [run.trial.loss(o, t) for o, t in zip(outputs, (labels, *coarser), strict=True)]
    wanted = sum(weight * float(value.detach()) for weight, value in zip(weights, alone, strict=False))
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"dataset": PHANTOM | {"regions": {"kidneys": [3, 4], "left": [3]}}}])
def test_a_training_with_coarser_outputs_continues_and_predicts(changes: dict[str, Any], tmp_path: Path) -> None:
    """It is stopped and continued to the same numbers, and the coarser heads have learnt."""
    config = config_of(**changes)
    data = prepared(config, tmp_path)

    def run(folder: str, epochs: int) -> list[dict[str, Any]]:
        reports = train(config, data=data, device="cpu", folder=tmp_path / folder, stop=lambda: False)
        found = []
        for report in reports:
            measured = {"seconds", "peak_memory"}
            found.append({key: value for key, value in report.as_dict().items() if key not in measured})
            if len(found) == epochs:
                reports.close()
        return found

    whole = run("whole", 2)
    run("part", 1)

    assert run("part", 2) == whole
    fresh = TrainingState(config, data, "cpu").weights()
    learnt = torch.load(tmp_path / "part" / "last.ckpt", weights_only=True)["model"]
    heads = [name for name in learnt if "coarser_heads" in name]
    assert heads
    assert not any(torch.equal(fresh[name], learnt[name]) for name in heads)


def test_losses_that_read_features_are_refused_by_name(tmp_path: Path) -> None:
    """Features are those of the full output: alone such a loss is refused, of a family it is left out."""
    with pytest.raises(SpecError, match=r"loss.name: conditional_boundary reads the network's features"):
        config_of("conditional_boundary")
    with pytest.raises(SpecError, match=r"model.deep_supervision: with depth 2 there is no coarser output"):
        config_of(model={"name": "unet", "depth": 2, "deep_supervision": True})
    content = {
        "name": "deep",
        "dataset": PHANTOM,
        "search": {"loss": ["boundary"], "model.deep_supervision": [False, True]},
    }

    spec = load_spec(YamlDocument(content, {}, None))

    assert unfit_losses(spec)[0].startswith("note: left out of the search: boundary_aware, conditional_boundary (each")
    assert spec.config({"loss": "hausdorff", "model.deep_supervision": True}).model["deep_supervision"] is True
    content["search"] = {"loss": ["dice", "boundary_aware"], "model.deep_supervision": True}
    with pytest.raises(SpecError, match=r"search.loss: boundary_aware reads"):
        load_spec(YamlDocument(content, {}, None))


@pytest.mark.slow
def test_every_other_loss_takes_coarser_outputs(tmp_path: Path) -> None:
    """What is not refused trains: finite loss and gradient, in a training step as it is."""
    for name in losses.names():
        if not losses.info(name).deep_supervision:
            continue
        config = config_of(name)
        run = TrainingState(config, prepared(config, tmp_path), "cpu")
        run.trial.model.train()
        run.trial.loss.on_epoch(2, 2)
        value = run.step(torch.tensor([0, 1]), torch.Generator().manual_seed(0))
        assert torch.isfinite(value), name
        assert all(torch.isfinite(p.grad).all() for p in run.parameters if p.grad is not None), name


@pytest.mark.slow
def test_the_exported_network_has_one_output(tmp_path: Path) -> None:
    """The file's self-test compares the full output; the weights of the coarser heads come along."""
    config = config_of()
    data = prepared(config, tmp_path)
    list(train(config, data=data, device="cpu", folder=tmp_path / "run", stop=lambda: False))
    weights = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["model"]
    found = torch_export(config, json.loads((tmp_path / "run" / "data.json").read_bytes()), weights, beside="home.pt")
    (tmp_path / "home.py").write_text(found.text)
    (tmp_path / "home.pt").write_bytes(found.tensors)

    done = subprocess.run(
        [sys.executable, tmp_path / "home.py"], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert "self-test passed" in done.stdout
