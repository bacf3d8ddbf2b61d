"""TransUNet (Chen et al. 2021): a residual network, a transformer over its coarsest map, and a decoder with skips."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from tuner.models.transformer import EPSILON, Block, init_linear, resize_positions
from tuner.models.weight_standardised import Bottleneck, Stem
from tuner.registry import Scalar

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
