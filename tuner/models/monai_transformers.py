"""MONAI's transformers, for inputs of any size. MONAI is imported when one is built."""

import math
from typing import Any, cast

from torch import Tensor, nn

from tuner.models.monai import CONVOLUTIONS, Wrapped, first_dropout, first_norm, norm_argument
from tuner.models.monai_import import monai_network
from tuner.models.transunet import resize_positions
from tuner.registry import Scalar

PATCH = 16
READ = (3, 6, 9)
"""Blocks of the transformer whose tokens UNETR's decoder reads, beside the last one's."""


class AnySizeUNETR(Wrapped):
    """MONAI's `UNETR`, whose position embedding is resized to the grid of the input."""

    def __init__(self, net: Any, *, grid: tuple[int, ...], options: dict[str, Scalar]) -> None:
        super().__init__(net, stride=PATCH, classifier=net.out.conv.conv, options=options)
        self.grid = grid

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by 16, to logits [B, classes, *S]."""
        net = cast(Any, self.net)
        embedding = net.vit.patch_embedding
        x = embedding.patch_embeddings(images)
        sizes = x.shape[2:]
        positions = resize_positions(embedding.position_embeddings, self.grid, sizes)
        tokens = embedding.dropout(x.flatten(2).transpose(1, 2) + positions)

        def as_map(tokens: Tensor) -> Tensor:
            return tokens.transpose(1, 2).reshape(len(images), -1, *sizes)

        read: list[Tensor] = []
        for number, block in enumerate(net.vit.blocks):
            tokens = block(tokens)
            if number in READ:
                read.append(as_map(tokens))
        second, third, fourth = read
        y = net.decoder5(as_map(net.vit.norm(tokens)), net.encoder4(fourth))
        y = net.decoder4(y, net.encoder3(third))
        y = net.decoder3(y, net.encoder2(second))
        return cast(Tensor, net.out(net.decoder2(y, net.encoder1(images))))

    def adapted(self, name: str, value: Tensor) -> Tensor:
        """Fit pretrained weights to this build: a position embedding of another grid of equal edges is resized."""
        if not name.endswith("position_embeddings") or value.ndim != 3:
            return value
        edge = round(value.shape[1] ** (1 / len(self.grid)))
        whole = edge ** len(self.grid) == value.shape[1]
        return resize_positions(value, (edge,) * len(self.grid), self.grid) if whole else value


def unetr(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    hidden: int,
    heads: int,
    mlp: int,
    norm: str,
    grid: int,
    dropout: float,
) -> AnySizeUNETR:
    """Build the registry's `unetr`."""
    UNETR = monai_network("unetr", "UNETR")

    net = UNETR(
        channels,
        classes,
        img_size=PATCH * grid,
        feature_size=width,
        hidden_size=hidden,
        mlp_dim=mlp,
        num_heads=heads,
        norm_name=norm_argument(norm, math.gcd(8, width)),
        dropout_rate=dropout,
        spatial_dims=spatial_dims,
    )
    for block in net.vit.blocks:
        block.norm_cross_attn = nn.Identity()  # MONAI makes one even where nothing is attended to
    block = net.vit.blocks[0]
    options = {
        "width": net.out.conv.conv.in_channels,
        "hidden": block.norm1.normalized_shape[0],
        "heads": block.attn.num_heads,
        "mlp": block.mlp.linear1.out_features,
        "norm": first_norm(net.encoder1),
        "grid": round(net.vit.patch_embedding.n_patches ** (1 / spatial_dims)),
        "dropout": first_dropout(net.vit),
    }
    return AnySizeUNETR(net, grid=(grid,) * spatial_dims, options=options)


def swin_unetr(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    window: int,
    norm: str,
    residual: bool,
    dropout: float,
    drop_path: float,
) -> Wrapped:
    """Build the registry's `swin_unetr`."""
    SwinUNETR = monai_network("swin_unetr", "SwinUNETR")

    net = SwinUNETR(
        channels,
        classes,
        feature_size=width,
        window_size=window,
        norm_name=norm_argument(norm, math.gcd(8, width)),
        drop_rate=dropout,
        dropout_path_rate=drop_path,
        use_v2=residual,
        spatial_dims=spatial_dims,
    )
    block = net.swinViT.layers4[0].blocks[-1]
    options = {
        "width": net.out.conv.conv.in_channels,
        "window": net.swinViT.window_size[0],
        "norm": first_norm(net.encoder1),
        "residual": any(isinstance(m, CONVOLUTIONS) for m in net.swinViT.layers1c.modules()) if residual else False,
        "dropout": net.swinViT.pos_drop.p,
        "drop_path": getattr(block.drop_path, "drop_prob", 0.0),
    }
    return Wrapped(net, stride=32, classifier=net.out.conv.conv, options=options)
