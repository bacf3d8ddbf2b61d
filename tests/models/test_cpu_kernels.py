"""Faster layers compute the same."""

import pytest
import torch
from torch import nn

from tuner.models.cpu_kernels import ChannelsLastConv2d, FastPReLU, OneSlope, use_cpu_kernels


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


def test_layers_keep_their_weights() -> None:
    """Only layers that gain are exchanged; names and values stay."""
    network = nn.Sequential(nn.Conv2d(1, 9, 3), nn.PReLU(), nn.Conv2d(16, 32, 3), nn.PReLU(9))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    use_cpu_kernels(network)

    assert [type(layer) for layer in network] == [ChannelsLastConv2d, FastPReLU, nn.Conv2d, nn.PReLU]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
