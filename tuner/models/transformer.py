"""The encoder of the Vision Transformer (Dosovitskiy et al. 2021), without class token, for grids of any size."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

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
