"""TransUNet (Chen et al. 2021): a residual network, a transformer over its coarsest map, a decoder with skips.

It is the network of "Big Transfer" (Kolesnikov et al. 2020) as the hybrid of the Vision Transformer (Dosovitskiy et
al. 2021) has it: its last stage is left out and its units move to the third, (3, 4, 9) of them. Weights are
standardised as Qiao et al. 2019. All normalisations have 32 groups, as in the published weights; the pooling pads by
a pixel, where TransUNet's code pools without and fills the skip connection up with zeros.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.registry import Scalar

EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.out = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, D] to [B, N, D]."""
        batch, tokens, hidden = x.shape
        parts = (
            layer(x).view(batch, tokens, self.heads, hidden // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, tokens, hidden)
        return cast(Tensor, self.dropout(self.out(mixed)))


class Block(nn.Module):
    """Attention and a perceptron, each normalised before and added to its input."""

    def __init__(self, hidden: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden, EPSILON), nn.LayerNorm(hidden, EPSILON)
        self.attention = Attention(hidden, heads, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, hidden), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, N, D] to [B, N, D]."""
        x = x + self.attention(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


def init_linear(layer: nn.Linear) -> None:
    """Initialise as the Vision Transformer: Xavier's uniform weights, biases next to nothing."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias, std=1e-6)


def resize_positions(positions: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Resize a position embedding [1, N, D] from a grid of N patches to another one, linearly in each direction."""
    if tuple(before) == tuple(after):
        return positions
    way = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(before)]
    grid = positions.transpose(1, 2).reshape(1, positions.shape[2], *before)
    resized = F.interpolate(grid.float(), size=tuple(after), mode=way, align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)


GROUPS = 32


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


PATCH = 16
"""Pixels of a patch, in each direction: what the residual network makes one of."""


class ConvNormReLU(nn.Sequential):
    """A 3x3 convolution, batch normalisation, rectification."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
        )


class Cascade(nn.Module):
    """The cascaded upsampler: four doublings, the first three with a map of the residual network beside."""

    def __init__(self, hidden: int, skips: tuple[int, ...], width: int) -> None:
        super().__init__()
        widths = (2 * width, width, width // 2, width // 4, width // 16)
        self.first = ConvNormReLU(hidden, widths[0])
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormReLU(inside + skip, outside), ConvNormReLU(outside, outside))
            for (inside, outside), skip in zip(pairwise(widths), (*skips, 0), strict=True)
        )
        self.width = widths[-1]

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Map [B, hidden, H/16, W/16] and maps at 1/8, 1/4 and 1/2 to [B, width, H, W]."""
        x = self.first(x)
        for number, level in enumerate(self.levels):
            x = self.up(x)
            x = level(torch.cat([x, skips[number]], 1) if number < len(skips) else x)
        return x


class TransUNet(nn.Module):
    """TransUNet; as published it is R50-ViT-B/16, and a tiny one is of the same build.

    Grey images are repeated to three channels, as the paper's code does, so that published weights fit; images of any
    other number of channels have a root of their own. The position embedding is learned on a grid of `grid` x `grid`
    patches and resized to the grid of the input.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        hidden: int,
        layers: int,
        heads: int,
        mlp: int,
        stem_width: int,
        stem_units: str,
        decoder_width: int,
        grid: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stride = PATCH
        self.repeats = 3 if channels == 1 else 1
        self.grid = grid
        self.stem = Stem(channels * self.repeats, stem_width, tuple(int(n) for n in stem_units.split("-")))
        *skips, deepest = self.stem.widths
        self.embedding = nn.Conv2d(deepest, hidden, 1)
        self.positions = nn.Parameter(torch.zeros(1, grid * grid, hidden))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden, heads, mlp, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden, EPSILON)
        self.decoder = Cascade(hidden, tuple(reversed(skips)), decoder_width)
        self.classifier = nn.Conv2d(self.decoder.width, classes, 3, padding=1)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, H, W], both divisible by 16, to logits [B, classes, H, W]."""
        *skips, deepest = self.stem(images.repeat(1, self.repeats, 1, 1) if self.repeats > 1 else images)
        x = self.embedding(deepest)
        sizes = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.dropout(tokens + resize_positions(self.positions, (self.grid, self.grid), sizes))
        for block in self.blocks:
            tokens = block(tokens)
        x = self.norm(tokens).transpose(1, 2).reshape(len(images), -1, *sizes)
        return cast(Tensor, self.classifier(self.decoder(x, skips[::-1])))

    def adapted(self, name: str, value: Tensor) -> Tensor:
        """Fit pretrained weights to this build: a position embedding of another square grid is resized."""
        if name != "positions" or value.ndim != 3:
            return value
        edge = round(value.shape[1] ** 0.5)
        return resize_positions(value, (edge, edge), (self.grid, self.grid)) if edge**2 == value.shape[1] else value

    def effective_options(self) -> dict[str, Scalar]:
        """Read the options from the layers."""
        block = cast(Block, self.blocks[0])
        return {
            "hidden": self.embedding.out_channels,
            "layers": len(self.blocks),
            "heads": block.attention.heads,
            "mlp": cast(nn.Linear, block.mlp[0]).out_features,
            "stem_width": self.stem.root.out_channels,
            "stem_units": "-".join(str(sum(isinstance(m, Bottleneck) for m in s.modules())) for s in self.stem.stages),
            "decoder_width": cast(nn.Conv2d, cast(nn.Sequential, self.decoder.first)[0]).out_channels // 2,
            "grid": round(self.positions.shape[1] ** 0.5),
            "dropout": self.dropout.p,
        }


def transunet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    hidden: int,
    layers: int,
    heads: int,
    mlp: int,
    stem_width: int,
    stem_units: str,
    decoder_width: int,
    grid: int,
    dropout: float,
) -> TransUNet:
    """Build the registry's `transunet` and `transunet_tiny`, for images (`spatial_dims` 2)."""
    return TransUNet(
        channels,
        classes,
        hidden=hidden,
        layers=layers,
        heads=heads,
        mlp=mlp,
        stem_width=stem_width,
        stem_units=stem_units,
        decoder_width=decoder_width,
        grid=grid,
        dropout=dropout,
    )
