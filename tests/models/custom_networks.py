"""Networks as a user writes them; the tests name them by `model.entry`."""

from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn


class Plain(nn.Module):
    """Two convolutions; `shape` says in which of the customary ways the logits come."""

    def __init__(self, channels: int, classes: int, width: int, shape: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, classes, 1)
        self.shape = shape

    def forward(self, images: Tensor) -> Any:
        """Map [B, C, H, W] to logits in some shape."""
        logits = self.last(torch.relu(self.first(images)))
        coarse = nn.functional.avg_pool2d(logits, 2)
        return {
            "tensor": logits,
            "list": [logits, coarse],
            "stacked": torch.stack([logits, logits * 0], 1),
            "mapping": {"aux": coarse, "out": logits},
            "coarse": coarse,
        }[self.shape]


def plain(*, channels: int, classes: int, spatial_dims: int, width: int = 4, shape: str = "tensor") -> nn.Module:
    """Make the plain network."""
    return Plain(channels, classes, width, shape)


def supervised(*, channels: int, classes: int, spatial_dims: int, width: int) -> nn.Module:
    """Make MONAI's DynUNet with deep supervision, which returns all its outputs in one tensor while it trains."""
    net: nn.Module = DynUNet(
        spatial_dims,
        channels,
        classes,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[width, 2 * width, 4 * width],
        deep_supervision=True,
    )
    net.stride = 4  # type: ignore[assignment]
    net.classifier = net.output_block.conv.conv  # type: ignore[union-attr, assignment]
    return net


def broken(**options: object) -> nn.Module:
    """Fail, as code does."""
    raise ValueError("no such thing")


def nothing(**options: object) -> int:
    """Return something else than a network."""
    return 3
