"""`export --format nnunet`: what can be said without nnU-Net; `tests/home` trains with it."""

import ast
from typing import Any

import pytest
import torch

from tests.export.test_torch_file import FACTS
from tuner import losses
from tuner.config.trial import load_config
from tuner.errors import RequestError
from tuner.export.nnunet import nnunet_export, recorded_cases, trainer_name


def config(loss: Any, **train: Any) -> Any:
    """Return a trial with a loss and a provenance."""
    made = load_config({"dataset": "phantom", "loss": loss, "train": train})
    return made.model_copy(update={"provenance": {"study": "or-gans", "trial": 7, "value": 0.5}})


def test_the_file_holds_what_was_searched() -> None:
    """Loss and options, learning rate and weight decay, under a class name of its own."""
    loss = {"name": "focal_tversky", "alpha": 0.3}
    made = nnunet_export(config(loss, lr=0.02, weight_decay=0.001, optimizer="sgd"), FACTS, beside="t.pt")
    tree = ast.parse(made.text)
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    values = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and _is_settings(n)]

    assert trainer_name("or-gans", 7) == "nnUNetTrainer_or_gans_7"
    assert "nnUNetTrainer_or_gans_7" in classes
    assert values[0]["loss"]["focal_tversky"]["alpha"] == 0.3
    assert values[0]["train"] == {
        "optimizer": "sgd",
        "lr": 0.02,
        "weight_decay": 0.001,
        "momentum": 0.9,
        **dict.fromkeys(("epochs", "iterations", "validation_iterations", "seed")),
    }
    assert "import tuner" not in made.text
    assert "from tuner" not in made.text


def test_the_stored_values_are_those_of_the_library() -> None:
    """Weights 2/3, 1/3 and 0 for three resolutions; regions where the loss has a form for them."""
    section = config("dice_focal").loss
    cases = recorded_cases(section, [0.7, 0.2, 0.1], spatial_dims=2)
    supervised = losses.DeepSupervision(losses.create("dice_focal", ignore_index=3), [1, 0.5, 0])

    assert [case["name"] for case in cases] == [
        "labels",
        "labels with ignored pixels",
        "regions",
        "regions with ignored pixels",
    ]
    ignored = cases[1]
    torch.testing.assert_close(supervised(ignored["logits"], ignored["targets"]), ignored["value"])
    assert all(torch.count_nonzero(case["gradients"][2]) == 0 for case in cases)
    assert [
        case["name"] for case in recorded_cases(config("generalized_wasserstein_dice").loss, [0.8, 0.2], spatial_dims=3)
    ] == [
        "labels",
        "labels with ignored pixels",
    ]


def test_what_nnunet_cannot_give_is_refused() -> None:
    """A loss of features of the network, which nnU-Net's networks do not hand out."""
    with pytest.raises(RequestError, match="reads features of the network"):
        nnunet_export(config("conditional_boundary"), FACTS, beside="t.pt")


def _is_settings(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "SETTINGS"
