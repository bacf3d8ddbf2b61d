"""The residual network that looks at the image first in TransUNet: R50 with standardised weights and group norm.

It is the network of "Big Transfer" (Kolesnikov et al. 2020) as the hybrid of the Vision Transformer (Dosovitskiy et al.
2021) has it: its last stage is left out and its units move to the third, (3, 4, 9) of them. Weights are standardised as
Qiao et al. 2019. All normalisations have 32 groups, as in the published weights; the pooling pads by a pixel, where
TransUNet's code pools without and fills the skip connection up with zeros.
"""

import math
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
EPSILON = 1e-6


class StandardConv(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 for each output channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [B, C, H, W]."""
        kernel = self.weight.float()
        mean = kernel.mean((1, 2, 3), keepdim=True)
        variance = kernel.var((1, 2, 3), keepdim=True, unbiased=False)
        kernel = ((kernel - mean) * (variance + 1e-5).rsqrt()).to(self.weight.dtype)
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)


def group_norm(channels: int) -> nn.GroupNorm:
    """Build a group normalisation of 32 groups, fewer where they do not divide the channels."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels, eps=EPSILON)


def standard_conv(inside: int, outside: int, size: int, stride: int = 1) -> StandardConv:
    """Build a convolution without bias that keeps the size, but for the stride."""
    return StandardConv(inside, outside, size, stride=stride, padding=size // 2, bias=False)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each normalised, around which the input goes by a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        narrow = outside // 4
        self.conv1, self.norm1 = standard_conv(inside, narrow, 1), group_norm(narrow)
        self.conv2, self.norm2 = standard_conv(narrow, narrow, 3, stride), group_norm(narrow)
        self.conv3, self.norm3 = standard_conv(narrow, outside, 1), group_norm(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(standard_conv(inside, outside, 1, stride), group_norm(outside))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inside, H, W] to [B, outside, H / stride, W / stride]."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.relu(self.norm2(self.conv2(y)))
        return cast(Tensor, self.relu(self.norm3(self.conv3(y)) + self.shortcut(x)))


class Stem(nn.Module):
    """Root and three stages: maps at 1/2, 1/4, 1/8 and 1/16 of the size, of w, 4w, 8w and 16w channels."""

    def __init__(self, channels: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.root, self.norm = standard_conv(channels, width, 7, 2), group_norm(width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.widths = (width, *(4 * width * 2**level for level in range(len(units))))
        self.stages = nn.ModuleList(
            nn.Sequential(
                Bottleneck(inside, outside, 1 if level == 0 else 2),
                *(Bottleneck(outside, outside, 1) for _ in range(number - 1)),
            )
            for level, (inside, outside, number) in enumerate(zip(self.widths, self.widths[1:], units, strict=False))
        )
        for module in self.modules():
            if isinstance(module, StandardConv):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map [B, channels, H, W] to the maps of root and stages, the finest first."""
        x = F.relu(self.norm(self.root(images)))
        maps = [x]
        x = self.pool(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
