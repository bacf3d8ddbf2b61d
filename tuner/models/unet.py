"""U-Net (Ronneberger's, padded and normalised) and ResUNet (Zhang, Liu, Wang 2018), in 2-D and 3-D."""

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tuner.registry import Scalar

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


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, normalised and rectified before each, and a shortcut around both.

    The first unit of the network convolves the image as it is. The shortcut is a 1x1 convolution with normalisation
    where size or channels change.
    """

    def __init__(
        self, inside: int, outside: int, *, stride: int, first: bool, norm: str, dropout: float, dims: int
    ) -> None:
        super().__init__()
        conv = convolution(dims)
        before = [] if first else [normalisation(norm, inside, dims), nn.ReLU()]
        self.body = nn.Sequential(
            *before,
            conv(inside, outside, 3, stride=stride, padding=1, bias=False),
            normalisation(norm, outside, dims),
            nn.ReLU(inplace=True),
            dropout_of(dims)(dropout) if dropout > 0 else nn.Identity(),
            conv(outside, outside, 3, padding=1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(
                conv(inside, outside, 1, stride=stride, bias=False), normalisation(norm, outside, dims)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inside, *S] to [B, outside, *S / stride]."""
        return cast(Tensor, self.body(x) + self.shortcut(x))


class ResUNet(nn.Module):
    """ResUNet: `width · 2^level` channels, an encoding unit a level, a bridge, a decoding unit a level.

    The paper has width 64 and depth 3, and 7.8 million weights in its 3x3 convolutions. It leaves open how maps are
    enlarged; `interpolated` repeats pixels, and `transposed` learns it.
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

        def unit(inside: int, outside: int, stride: int = 1, *, first: bool = False) -> ResidualUnit:
            return ResidualUnit(
                inside, outside, stride=stride, first=first, norm=norm, dropout=dropout, dims=spatial_dims
            )

        self.stride = 2**depth
        self.encoder = nn.ModuleList(
            unit(inside, outside, 2 if level else 1, first=level == 0)
            for level, (inside, outside) in enumerate(zip([channels, *widths[:-1]], widths, strict=True))
        )
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            transposed(spatial_dims)(low, low, 2, stride=2)
            if upsampling == "transposed"
            else nn.Upsample(scale_factor=2, mode="nearest")
            for low, _ in upwards
        )
        self.decoder = nn.ModuleList(unit(low + high, high) for low, high in upwards)
        self.classifier = convolution(spatial_dims)(width, classes, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=1 / math.sqrt(width))

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S]."""
        kept: list[Tensor] = []
        x = images
        for unit in self.encoder:
            x = unit(x)
            kept.append(x)
        return cast(Tensor, self.classifier(decode(kept, self.up, self.decoder)[0]))

    def effective_options(self) -> dict[str, Scalar]:
        """Read the options from the layers."""
        body = cast(ResidualUnit, self.encoder[0]).body
        drops = [m.p for m in self.modules() if isinstance(m, (nn.Dropout2d, nn.Dropout3d))]
        return {
            "width": cast(nn.Conv2d, body[0]).out_channels,
            "depth": len(self.up),
            "norm": norm_name(body[1]),
            "dropout": drops[0] if drops else 0.0,
            "upsampling": "interpolated" if isinstance(self.up[0], nn.Upsample) else "transposed",
        }


def resunet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    depth: int,
    norm: str,
    dropout: float,
    upsampling: str,
) -> ResUNet:
    """Build the registry's `resunet`."""
    return ResUNet(
        channels,
        classes,
        spatial_dims=spatial_dims,
        width=width,
        depth=depth,
        norm=norm,
        dropout=dropout,
        upsampling=upsampling,
    )


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
    Convolutions are initialised as in the paper (He et al. 2015). With `deep_supervision` it has, in training mode, an
    output for each level of the decoder but the coarsest, which nnU-Net builds and gives the weight 0.
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
        deep_supervision: bool = False,
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
        coarser = widths[1 : depth - 1] if deep_supervision else []
        self.coarser_heads = nn.ModuleList(convolution(spatial_dims)(channels, classes, 1) for channels in coarser)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for head in (self.head, *self.coarser_heads):
            weight = cast(nn.Conv2d, head).weight
            nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1]))

    @property
    def deep_supervision(self) -> bool:
        """Whether it has coarser outputs in training mode."""
        return len(self.coarser_heads) > 0

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S].

        With deep supervision and in training mode to those, and to logits [B, classes, *S / 2^level].
        """
        kept: list[Tensor] = []
        x = images
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        if not (self.training and self.deep_supervision):
            return cast(Tensor, self.head(decode(kept, self.up, self.decoder)[0]))
        heads = [self.head, *self.coarser_heads]
        decoded = decode(kept, self.up, self.decoder, levels=len(heads))
        return [head(maps) for head, maps in zip(heads, decoded, strict=True)]

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
            "deep_supervision": self.deep_supervision,
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
    deep_supervision: bool,
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
        deep_supervision=deep_supervision,
    )


def _doubling(low: int, high: int, upsampling: str, dims: int) -> nn.Module:
    if upsampling == "interpolated":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution(dims)(low, high, 1))
    return transposed(dims)(low, high, 2, stride=2)


def decode(
    encoded: Sequence[Tensor], up: Iterable[nn.Module], blocks: Iterable[nn.Module], *, levels: int = 1
) -> list[Tensor]:
    """Take a U-Net's maps back to full resolution: enlarged, beside the encoder's of that size, through a block.

    Args:
        encoded: Maps of the encoder [B, channels, *S / 2^level], the finest first.
        up: Doubles the size of a map, the coarsest level first.
        blocks: Follow each enlargement.
        levels: How many maps are returned.

    Returns:
        Maps of the decoder, the finest first.
    """
    decoded: list[Tensor] = []
    x = encoded[-1]
    for double, block, skip in zip(up, blocks, encoded[-2::-1], strict=True):
        x = block(torch.cat([skip, double(x)], 1))
        decoded = [x, *decoded][:levels]
    return decoded
