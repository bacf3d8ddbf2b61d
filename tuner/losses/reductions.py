"""Small pieces of arithmetic that the formulas share: class averages, safe quotients, class weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tuner.losses.batch import View


def class_mean(value: Tensor, t: Tensor, units: Tensor, *, classes: str) -> Tensor:
    """Average value [U, C] over classes, then over the units that have a valid pixel.

    t [U, C]: target pixels; classes: "present" (those with t > 0; a unit without any gives 0) or "all".
    """
    if classes == "all":
        of_unit = value.mean(1)
    else:
        present = (t > 0).to(value.dtype)
        of_unit = (value * present).sum(1) / present.sum(1).clamp_min(1)
    return of_unit.squeeze(0) if len(of_unit) == 1 else (of_unit * units).sum() / units.sum().clamp_min(1)


def pixel_mean(value: Tensor, view: View) -> Tensor:
    """Average value [B, N], zero on void pixels, or its sum, over the valid pixels of the batch."""
    return value.sum() / (view.n_valid if view.void is not None else view.labels.numel())


def by_label(table: Tensor, view: View) -> Tensor:
    """Look up table [C] at every pixel's label: [B, N]; class 0 on void pixels."""
    # several times faster than indexing
    return table.index_select(0, view.flat_labels.flatten()).view_as(view.flat_labels)


def quotient(numerator: Tensor, denominator: Tensor, *, positive: bool = False) -> Tensor:
    """Divide; 0/0 is 1 (nothing to find and nothing found is a perfect overlap), with a zero gradient.

    `positive` says that the denominator is known to be more than 0, as smoothing makes it.
    """
    if positive:
        return numerator / denominator
    defined = denominator > 0
    return torch.where(defined, numerator / torch.where(defined, denominator, 1), 1)


def class_weights(frequencies: Tensor | Sequence[float], exponent: float, like: Tensor) -> Tensor:
    """Return w_c = f_c^-exponent, scaled to mean 1 over the classes that occur; a class that never occurs has 1."""
    shares = torch.as_tensor(frequencies, dtype=like.dtype, device=like.device)
    if exponent == 0:
        return torch.ones_like(shares)
    occurs = shares > 0
    weights = torch.where(occurs, torch.where(occurs, shares, 1).pow(-exponent), 0)
    return torch.where(occurs, weights * occurs.sum() / weights.sum(), 1)


def window_mean(maps: Tensor, size: int) -> Tensor:
    """Average maps [B, C, *S] over a window of odd side `size` around every pixel, zeros outside the image."""
    # padded first: torch's 3-D pooling refuses images that are smaller than its window even with padding
    padded = F.pad(maps, (size // 2,) * (2 * (maps.ndim - 2)))
    pool = F.avg_pool2d if maps.ndim == 4 else F.avg_pool3d
    return pool(padded, size, stride=1)


class WeighedSum(torch.autograd.Function):
    """Sum of p w over everything but the first channels; one pass back, where a slice and a product make three."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, weights: Tensor, first: int) -> Tensor:
        """Return the sum of p [B, C, N] times weights [B, C, N] over the channels from `first` on."""
        ctx.save_for_backward(weights)
        ctx.first = first
        rows = (len(p), 1, -1)
        kept, by = p[:, first:].reshape(rows), weights[:, first:].reshape(rows)
        return torch.bmm(kept, by.mT).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of p."""
        (weights,) = ctx.saved_tensors
        slope = weights * grad
        slope[:, : ctx.first] = 0
        return slope, None, None
