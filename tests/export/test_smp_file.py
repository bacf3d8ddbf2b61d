"""`export --format smp`: what can be said without segmentation_models_pytorch; `tests/home` trains with it."""

import ast
import io
from typing import Any

import pytest
import torch

from tests.export.test_torch_file import FACTS
from tuner import losses
from tuner.config.trial import load_config
from tuner.errors import RequestError
from tuner.export.smp import smp_export
from tuner.export.torch_file import TorchExport

REGIONS = {"names": ["whole", "core"], "members": [[1, 2], [2]], "order": [1, 2], "is_derived": False}


def exported(loss: Any, model: Any = "unet", **facts: Any) -> TorchExport:
    """Return the export of a trial without weights."""
    config = load_config({"dataset": "phantom", "model": model, "loss": loss})
    return smp_export(config, FACTS | facts, None, beside="winner.pt")


def settings_of(text: str) -> dict[str, Any]:
    """Return what stands at the top of an exported file."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "SETTINGS":
            return dict(ast.literal_eval(node.value))
    raise AssertionError("no SETTINGS")


def tensors_of(made: TorchExport) -> Any:
    """Return what lies beside an exported file."""
    return torch.load(io.BytesIO(made.tensors), weights_only=True)


def test_the_loss_goes_alone_where_the_network_is_another() -> None:
    """Its options stand in the file, the stored value is the library's, and nothing of this package is imported."""
    made = exported({"name": "focal_tversky", "alpha": 0.3})
    settings, (plain, ignored) = settings_of(made.text), tensors_of(made)["cases"]
    loss = losses.create("focal_tversky", **settings["loss"]["focal_tversky"], ignore_index=255)

    assert settings["loss"]["focal_tversky"]["alpha"] == 0.3
    assert settings["model"] is None
    assert made.left_out == ("the network 'unet', which is not one of segmentation_models_pytorch",)
    torch.testing.assert_close(loss(ignored["logits"], ignored["target"]), ignored["value"])
    assert (ignored["target"] == 255).any()
    assert not torch.equal(plain["value"], ignored["value"])
    assert "import tuner" not in made.text
    assert "from tuner" not in made.text


def test_a_network_without_weights_is_left_out() -> None:
    """And the reason is said."""
    made = exported("dice", {"name": "smp", "encoder": "resnet18"})

    assert made.left_out == ("the network: its weights are not kept any more",)


def test_regions_are_masks_that_overlap() -> None:
    """One output for a region, with the shares of the regions; refused where the loss has no form for them."""
    made = exported("dice_focal", regions=REGIONS)
    settings, (case,) = settings_of(made.text), tensors_of(made)["cases"]

    assert (settings["activation"], settings["classes"]) == ("sigmoid", 2)
    assert settings["class_frequencies"] == pytest.approx([0.3, 0.1])
    assert case["target"].shape == case["logits"].shape == (2, 2, 16, 16)
    assert (case["target"][:, 0] >= case["target"][:, 1]).all()
    with pytest.raises(RequestError, match="activation='sigmoid' has no meaning"):
        exported("generalized_wasserstein_dice", regions=REGIONS)


@pytest.mark.parametrize("name", ["conditional_boundary", "boundary_aware"])
def test_a_loss_of_features_is_refused(name: str) -> None:
    """No network of the package hands them to a loss."""
    with pytest.raises(RequestError, match="networks of segmentation_models_pytorch do not give"):
        exported(name)
