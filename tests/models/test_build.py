"""Networks: shapes, options that come back from the layers, and MONAI's network exactly."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet as Reference

from tests.conftest import REPOSITORY
from tests.models.small import HERE, SMALL, marks, values
from tuner.errors import UnknownNameError
from tuner.models.build import build_model
from tuner.models.catalog import MODELS
from tuner.registry import defaults, load

ALL = pytest.mark.parametrize("name", list(HERE))
SIZES = {
    "divisible": (32, 32),
    "odd": (37, 50),
    "smaller than the stride": (1, 3),
    "3-D": (16, 16, 16),
    "3-D odd": (5, 17, 9),
}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(name, size, id=f"{name} {label}", marks=marks(name, len(size)))
        for name, entry in HERE.items()
        for label, size in SIZES.items()
        if len(size) in entry.dims
    ],
)
@torch.no_grad()
def test_any_size_gives_logits_of_that_size(name: str, size: tuple[int, ...]) -> None:
    """Slices come in any size; a network that wants multiples of 16 must see to it by itself."""
    model = build_model({"name": name, **SMALL[name]}, channels=2, classes=5, spatial_dims=len(size))

    assert model(torch.randn(2, 2, *size)).shape == (2, 5, *size)


@ALL
@torch.no_grad()
def test_padding_is_cut_off_again(name: str) -> None:
    """The logits of the image's own pixels must stay where they are."""
    model = build_model({"name": name, **SMALL[name]}, channels=1, classes=3, spatial_dims=2).eval()
    image = torch.zeros(1, 1, *model.padded((9, 14)))
    image[..., :9, :14] = torch.randn(9, 14)

    torch.testing.assert_close(model(image[..., :9, :14]), model(image)[..., :9, :14])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        pytest.param(name, option.name, value, id=f"{name} {option.name} {value}", marks=marks(name))
        for name, entry in HERE.items()
        for option in entry.options
        for value in values(name, option)
    ],
)
@torch.no_grad()
def test_options_are_read_from_the_layers(name: str, option: str, value: Any) -> None:
    """An option that is accepted and ignored would be searched in vain."""
    # coarser outputs need a level more
    small = SMALL[name] | ({"depth": 3} if option == "deep_supervision" else {})
    model = build_model({"name": name, **small, option: value}, channels=1, classes=3, spatial_dims=2)
    expected = {"model.name": name} | {f"model.{k}": v for k, v in (defaults(MODELS[name]) | small).items()}

    assert model.effective_options() == expected | {f"model.{option}": value}
    outputs = model(torch.randn(2, 1, 16, 16))
    assert all(output.isfinite().all() for output in (outputs if isinstance(outputs, list) else [outputs]))


@pytest.mark.parametrize("name", list(MODELS))
def test_builders_take_the_options_of_their_row(name: str) -> None:
    """Defaults stand in the row only; a second default in the code could differ."""
    parameters = inspect.signature(load(MODELS[name].fn)).parameters.values()
    own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]

    assert [p.name for p in own] == [option.name for option in MODELS[name].options]
    assert all(p.default is p.empty for p in own)


@pytest.mark.parametrize("name", list(MODELS))
def test_rows_are_consistent(name: str) -> None:
    """Defaults and search ranges must be legal values."""
    for option in MODELS[name].all_options:
        assert option.problem(option.default) is None
        ends = (option.search.low, option.search.high, *(option.search.choices or ())) if option.search else ()
        assert all(option.problem(end) is None for end in ends if end is not None)


def test_every_model_is_documented() -> None:
    """The page of networks says which there are."""
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")

    assert [name for name in MODELS if f"`{name}`" not in page] == []


def test_monai_unet_is_monais() -> None:
    """The tutorials' network, weight for weight: results carry over, and weights can be exchanged."""
    torch.manual_seed(0)
    reference = Reference(2, 1, 9, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    torch.manual_seed(0)
    ours = build_model({"name": "monai_unet"}, channels=1, classes=9, spatial_dims=2)
    image = torch.randn(2, 1, 64, 64)
    weights = {name.removeprefix("network.unet."): tensor for name, tensor in ours.state_dict().items()}

    assert weights.keys() == reference.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in reference.state_dict().items())
    torch.testing.assert_close(ours(image), reference(image))
    gradients = [torch.autograd.grad(net(image).square().mean(), list(net.parameters())) for net in (ours, reference)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


def test_unet_is_ronnebergers() -> None:
    """Width 64 and depth 4 are the paper's channels: 64, 128, 256, 512, 1024, and 31 million parameters."""
    model = build_model({"name": "unet", "width": 64}, channels=1, classes=2, spatial_dims=2)
    widths = [block[4].out_channels for block in model.network.encoder]  # type: ignore[union-attr, index]

    assert widths == [64, 128, 256, 512, 1024]
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(31.0e6, rel=0.01)


def test_unknown_names_are_refused() -> None:
    """A misspelt option must not silently train the default."""
    with pytest.raises(UnknownNameError, match=r"Did you mean 'depth'"):
        build_model({"name": "unet", "depht": 3}, channels=1, classes=2, spatial_dims=2)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'unet'"):
        build_model({"name": "unett"}, channels=1, classes=2, spatial_dims=2)


def test_the_catalogue_needs_no_torch_and_unet_no_monai() -> None:
    """The command line answers in half a second, and a worker that trains `unet` does not wait for MONAI."""
    program = (
        "import sys; from tuner.models.catalog import MODELS; assert 'torch' not in sys.modules;"
        "from tuner.models.build import build_model;"
        "build_model({'name': 'unet'}, channels=1, classes=2, spatial_dims=2); assert 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
