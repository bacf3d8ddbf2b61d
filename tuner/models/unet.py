"""The U-Net that the loss survey compares with: Ronneberger's, padded and normalised, in 2-D and 3-D."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from tuner.models.layers import convolution, dropout_of, norm_name, normalisation, transposed
from tuner.registry import Scalar


class Block(nn.Sequential):
    """Two 3x3 convolutions, each normalised and rectified; whole channels are dropped between them."""

    def __init__(self, inside: int, outside: int, *, norm: str, dropout: float, dims: int) -> None:
        conv, drop = convolution(dims), dropout_of(dims)
        super().__init__(
            conv(inside, outside, 3, padding=1, bias=False),
            normalisation(norm, outside, dims),
            nn.ReLU(inplace=True),
            drop(dropout) if dropout > 0 else nn.Identity(),
            conv(outside, outside, 3, padding=1, bias=False),
            normalisation(norm, outside, dims),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015), with padding, so that the output is as large as the input.

    `width` channels at full resolution, doubled at each of `depth` halvings; skip connections by concatenation.
    Convolutions are initialised as in the paper (He et al. 2015).
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        spatial_dims: int,
        width: int,
        depth: int,
        norm: str,
        dropout: float,
        upsampling: str,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        inputs = [channels, *widths[:-1]]
        self.stride = 2**depth
        self.encoder = nn.ModuleList(
            Block(inside, outside, dropout=dropout, norm=norm, dims=spatial_dims)
            for inside, outside in zip(inputs, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2) if spatial_dims == 2 else nn.MaxPool3d(2)
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_doubling(low, high, upsampling, spatial_dims) for low, high in upwards)
        self.decoder = nn.ModuleList(
            Block(2 * high, high, dropout=dropout, norm=norm, dims=spatial_dims) for _, high in upwards
        )
        self.head = convolution(spatial_dims)(width, classes, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=1 / math.sqrt(width))

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S]."""
        kept: list[Tensor] = []
        x = images
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        for double, block, skip in zip(self.up, self.decoder, kept[-2::-1], strict=True):
            x = block(torch.cat([skip, double(x)], 1))
        return cast(Tensor, self.head(x))

    @property
    def classifier(self) -> nn.Module:
        """The layer that makes logits of features."""
        return self.head

    def effective_options(self) -> dict[str, Scalar]:
        """Read the options from the layers."""
        first = cast(Block, self.encoder[0])
        drops = [m.p for m in self.modules() if isinstance(m, (nn.Dropout2d, nn.Dropout3d))]
        return {
            "width": cast(nn.Conv2d, first[0]).out_channels,
            "depth": len(self.up),
            "norm": norm_name(first[1]),
            "dropout": drops[0] if drops else 0.0,
            "upsampling": "interpolated" if isinstance(self.up[0], nn.Sequential) else "transposed",
        }


def unet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    depth: int,
    norm: str,
    dropout: float,
    upsampling: str,
) -> UNet:
    """Build the registry's `unet`."""
    return UNet(
        channels,
        classes,
        spatial_dims=spatial_dims,
        width=width,
        depth=depth,
        norm=norm,
        dropout=dropout,
        upsampling=upsampling,
    )


def _doubling(low: int, high: int, upsampling: str, dims: int) -> nn.Module:
    if upsampling == "interpolated":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution(dims)(low, high, 1))
    return transposed(dims)(low, high, 2, stride=2)
