"""Faster layers compute the same."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tuner.models.cpu_kernels import ChannelsLastConv2d, FastPReLU, OneSlope, RowInstanceNorm2d, use_cpu_kernels


def test_one_slope_has_the_right_gradient() -> None:
    """Checked by finite differences, in double precision."""
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([0.25], requires_grad=True)
    OneSlope.apply(x, slope).sum().backward()

    reference = nn.PReLU().double()
    expected = torch.autograd.grad(reference(x).sum(), [x, reference.weight])
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(slope.grad, expected[1].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.5])
def test_prelu_equals_torchs(slope: float, dtype: torch.dtype) -> None:
    """The slope is learned and may become anything."""
    x = torch.randn(2, 5, 8, 8, dtype=dtype, requires_grad=True)
    plain = nn.PReLU(init=slope)
    expected = plain.to(dtype)(x)
    quick = FastPReLU(init=slope)

    torch.testing.assert_close(quick(x), expected)
    torch.testing.assert_close(
        torch.autograd.grad(quick(x).float().sum(), x)[0], torch.autograd.grad(expected.float().sum(), x)[0]
    )


LAYERS = {
    "convolution": lambda: nn.Conv2d(9, 5, 3, padding=1),
    "stride": lambda: nn.Conv2d(9, 12, 3, stride=2, dilation=2, bias=False),
    "groups": lambda: nn.Conv2d(9, 9, 3, groups=3, padding=2),
    "norm": lambda: nn.InstanceNorm2d(9, eps=1e-3),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layer_equals_torchs(
    layer: Callable[[], nn.Module], precision: torch.dtype, layout: torch.memory_format
) -> None:
    """Values and gradients, of the input and of the weights; a map keeps its layout, or sums with others are slow."""
    torch.manual_seed(0)
    plain = layer()
    quick = copy.deepcopy(plain)
    use_cpu_kernels(quick)
    x = (3 + torch.randn(2, 9, 17, 20)).contiguous(memory_format=layout).requires_grad_()
    found = []
    for network in (plain, quick):
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            y = network(x)
        weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
        found.append((y, *torch.autograd.grad((y.float() * weight).sum(), [x, *network.parameters()])))

    assert type(plain) is not type(quick)
    assert isinstance(plain, nn.InstanceNorm2d) or found[1][0].is_contiguous(memory_format=layout)
    for expected, got in zip(*found, strict=True):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=1e-2 if precision != torch.float32 else 1e-4, atol=2e-3)


def test_a_single_pixel_cannot_be_normalised() -> None:
    """As in torch: all its maps would be zero, and nothing would say so."""
    norm = nn.Sequential(nn.InstanceNorm2d(3))
    use_cpu_kernels(norm)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        norm(torch.ones(2, 3, 1, 1))


def test_layers_keep_their_weights() -> None:
    """Only layers that gain are exchanged; names and values stay."""
    norms = (nn.InstanceNorm2d(9), nn.InstanceNorm2d(9, affine=True))
    network = nn.Sequential(nn.Conv2d(1, 9, 3), nn.PReLU(), nn.Conv2d(16, 32, 3), nn.PReLU(9), *norms)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    use_cpu_kernels(network)

    assert [type(layer) for layer in network] == [
        *(ChannelsLastConv2d, FastPReLU, nn.Conv2d, nn.PReLU),
        *(RowInstanceNorm2d, nn.InstanceNorm2d),
    ]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
