"""Layers by number of spatial dimensions and by name, and the way back from a layer to its name."""

import math

from torch import nn

GROUPS = 8
"""Group normalisation uses at most this many groups."""


def convolution(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the convolution for images (2) or volumes (3)."""
    return nn.Conv2d if dims == 2 else nn.Conv3d


def transposed(dims: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """Return the transposed convolution for images (2) or volumes (3)."""
    return nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d


def dropout_of(dims: int) -> type[nn.Dropout2d] | type[nn.Dropout3d]:
    """Return the dropout of whole channels for images (2) or volumes (3)."""
    return nn.Dropout2d if dims == 2 else nn.Dropout3d


def normalisation(name: str, channels: int, dims: int) -> nn.Module:
    """Build `batch`, `instance` or `group` normalisation, all with learned scale and shift."""
    if name == "batch":
        return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True) if dims == 2 else nn.InstanceNorm3d(channels, affine=True)
    return nn.GroupNorm(group_count(channels), channels)


def group_count(channels: int) -> int:
    """Return the number of groups: a divisor of `channels`, at most `GROUPS`."""
    return math.gcd(GROUPS, channels)


def norm_name(layer: nn.Module) -> str:
    """Name the normalisation that a layer is."""
    if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
        return "batch"
    if isinstance(layer, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
        return "instance"
    return "group" if isinstance(layer, nn.GroupNorm) else type(layer).__name__
