"""segmentation-models-pytorch and timm's encoders, where they can be imported; and what is said where they cannot."""

from typing import Any

import pytest
import torch

from tests.models.small import MISSING, SMALL, values
from tuner.errors import ConfigError, SpecError
from tuner.models.build import build_model
from tuner.models.catalog import MODELS
from tuner.models.features import FeatureTap
from tuner.models.pretrained import load_pretrained
from tuner.models.smp import check_encoder


def build(**options: Any) -> Any:
    return build_model({"name": "smp", **SMALL["smp"], **options}, channels=2, classes=5, spatial_dims=2)


@pytest.mark.skipif(bool(MISSING), reason=f"the extra smp is not installed: no {', '.join(MISSING)}")
def test_every_architecture_trains_and_says_what_it_is(tmp_path: Any) -> None:
    """Any size, gradients everywhere, options from the layers, features before the classifier, weights from files."""
    options = {option.name: option for option in MODELS["smp"].options}
    tried = [{"architecture": name} for name in options["architecture"].choices or ()]
    tried += [{"encoder": name} for name in values("smp", options["encoder"])]
    for chosen in tried:
        torch.manual_seed(0)
        model = build(**chosen)
        tap = FeatureTap(model, classes=5)
        logits = model(torch.randn(2, 2, 37, 50))
        given = tap.take((37, 50))
        torch.autograd.backward(logits.square().mean())

        assert logits.shape == (2, 5, 37, 50), chosen
        trained = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
        assert [k for k, g in trained.items() if g is None or not g.isfinite().all()] == [], chosen
        assert (len(trained) == len(list(model.parameters()))) is (chosen != {"architecture": "pspnet"})
        wanted = {"architecture": "unet"} | SMALL["smp"] | chosen
        assert model.effective_options() == {"model.name": "smp"} | {f"model.{k}": v for k, v in wanted.items()}
        assert given["features"].shape[2:] == (37, 50), chosen
    encoder = build().network.net.encoder
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")

    assert len(load_pretrained(build(), tmp_path / "encoder.pth", name="x").matched) == len(encoder.state_dict())
    with pytest.raises(SpecError, match="timm has no encoder 'tu-resnet19'"):
        build(encoder="tu-resnet19")


@pytest.mark.skipif(not MISSING, reason="the extra smp is installed")
def test_what_is_missing_is_said_with_the_line_to_type() -> None:
    """The row is there on every machine, and the message says how to get the rest."""
    with pytest.raises(ConfigError, match=r"cannot be imported here .* pip install 'segmentation-tuner\[smp\]'"):
        build()


@pytest.mark.parametrize("name", ["resnet34", "tu-convnext_tiny", "tu-convnext_tiny.in12k"])
def test_known_encoders_pass(name: str) -> None:
    """Timm names a set of weights behind a point; the architecture before it is what is built."""
    check_encoder(name, ["resnet34"], lambda: ["convnext_tiny"])


def test_a_misspelt_encoder_is_refused_with_the_closest() -> None:
    """Hundreds of names, of two libraries."""
    with pytest.raises(SpecError, match=r"no encoder 'resnet43' \(2 known\). Did you mean 'resnet34'"):
        check_encoder("resnet43", ["resnet34", "vgg11"], list)
    with pytest.raises(SpecError, match=r"timm has no encoder 'tu-convnext'"):
        check_encoder("tu-convnext", ["resnet34"], lambda: ["convnext_tiny"])
