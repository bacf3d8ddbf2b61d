"""`export --format mmseg`: what can be said without mmsegmentation; `tests/home` trains with it."""

import ast
from typing import Any

import pytest
import torch

from tests.export.test_smp_file import REGIONS, settings_of, tensors_of
from tests.export.test_torch_file import FACTS
from tuner.config.trial import load_config
from tuner.errors import RequestError
from tuner.export.mmseg import loss_class_name, mmseg_export
from tuner.export.torch_file import TorchExport


def exported(loss: Any, module: str = "winner", facts: dict[str, Any] | None = None, **train: Any) -> TorchExport:
    """Return the export of a trial."""
    config = load_config({"dataset": "phantom", "loss": loss, "train": train})
    config = config.model_copy(update={"provenance": {"study": "or-gans", "trial": 7, "value": 0.5}})
    return mmseg_export(config, facts or FACTS, module=module, beside="winner.pt")


def block_of(text: str) -> str:
    """Return what a configuration says, from the head of an exported file."""
    lines = str(ast.get_docstring(ast.parse(text))).splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    "))


def test_the_head_holds_what_a_configuration_says() -> None:
    """The name in the registry is that of the class; optimizer and rates are the trial's."""
    made = exported("dice_focal", lr=0.02, weight_decay=0.001, optimizer="sgd", clip_norm=1.5)
    found: dict[str, Any] = {}
    exec(block_of(made.text), found)
    classes = [node.name for node in ast.parse(made.text).body if isinstance(node, ast.ClassDef)]

    assert loss_class_name("or-gans", 7) == "TunedLoss_or_gans_7"
    assert found["custom_imports"] == {"imports": ["winner"], "allow_failed_imports": False}
    assert found["model"]["decode_head"]["loss_decode"] == {"_delete_": True, "type": "TunedLoss_or_gans_7"}
    assert [hook["type"] for hook in found["custom_hooks"]] == ["ProgressOfTunedLoss_or_gans_7"]
    assert {"TunedLoss_or_gans_7", "ProgressOfTunedLoss_or_gans_7"} < set(classes)
    optimizer = found["optim_wrapper"]["optimizer"]
    assert (optimizer["type"], optimizer["lr"], optimizer["weight_decay"]) == ("SGD", 0.02, 0.001)
    assert found["optim_wrapper"]["clip_grad"] == {"max_norm": 1.5}


def test_options_and_values_are_those_of_the_trial() -> None:
    """Stated in the file, and in the stored tensors."""
    made = exported({"name": "focal", "gamma": 3.0})

    assert settings_of(made.text)["loss"]["focal"]["gamma"] == 3.0
    plain, other = tensors_of(made)[0], tensors_of(exported({"name": "focal", "gamma": 3.001}))[0]
    assert torch.equal(plain["logits"], other["logits"])
    assert not torch.isclose(plain["value"], other["value"], rtol=1e-6)
    assert "from tuner" not in made.text


def test_what_mmsegmentation_cannot_take_is_refused() -> None:
    """Features of the network, classes that overlap."""
    with pytest.raises(RequestError, match="mmsegmentation's decode heads do not give"):
        exported("conditional_boundary")
    with pytest.raises(RequestError, match="one label for each pixel"):
        exported("dice_focal", facts=FACTS | {"regions": REGIONS})
