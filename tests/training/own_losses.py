"""Losses of a user's own, as docs/library.md shows them."""

from typing import Annotated

import torch
from torch import Tensor, nn

from tuner import losses

# [docs] what stands between these marks is the example of docs/library.md
Exponent = Annotated[float, losses.Range(0, 5, search=(0.5, 4))]


def soft_focal(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int,
    gamma: Exponent = 2.0,
    mode: Annotated[str, losses.Choices("mean", "hardest", search=True)] = "mean",
) -> Tensor:
    value = losses.functional.focal(logits, target, gamma=gamma, ignore_index=ignore_index, reduction="none")
    return value.mean() if mode == "mean" else value.flatten(1).topk(10).values.mean()


# [docs]


class Tempered(nn.Module):
    """A loss that learns a temperature."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(start))

    def forward(self, logits: Tensor, target: Tensor, *, ignore_index: int) -> Tensor:
        return nn.functional.cross_entropy(logits / self.temperature, target, ignore_index=ignore_index)


def without_default(logits: Tensor, target: Tensor, *, ignore_index: int, gamma: float) -> Tensor:
    raise NotImplementedError


def computed_limit(
    logits: Tensor, target: Tensor, *, ignore_index: int, gamma: Annotated[float, losses.Range(0, 2 + 3j)] = 9.0
) -> Tensor:
    raise NotImplementedError


def returns_a_map(logits: Tensor, target: Tensor, *, ignore_index: int) -> Tensor:
    return logits
