"""Custom autograd functions with closed-form gradients (powers, focal terms), and reductions that formulas share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tuner.losses.batch import LossInputs

TINY = 1e-7


def safe_power(base: Tensor, exponent: float) -> Tensor:
    """Raise a non-negative base; below 1, autograd's infinite slope at 0 is replaced by 0."""
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    raised: Tensor = SafePower.apply(base, exponent)  # type: ignore[no-untyped-call]
    return raised


class SafePower(torch.autograd.Function):
    """max(x, 0)^a, and with a < 1 zero for x <= 1e-7; the gradient is a x^a / x, zero where that is not finite."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, exponent: float) -> Tensor:
        """Return the power of base, any shape."""
        raised = _power(base, exponent)
        ctx.save_for_backward(base, raised)
        ctx.exponent = exponent
        return raised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of base."""
        base, raised = ctx.saved_tensors
        return (raised / base.clamp_min(TINY)).mul_(ctx.exponent).mul_(grad), None


def power_sum(base: Tensor, exponent: float, weights: Tensor) -> Tensor:
    """Return the sum of weights * safe_power(base), all of one shape."""
    if exponent in (0, 1):
        return (safe_power(base, exponent) * weights).sum()
    total: Tensor = PowerSum.apply(base, exponent, weights)  # type: ignore[no-untyped-call]
    return total


class PowerSum(torch.autograd.Function):
    """Sum of w max(x, 0)^a, as in `SafePower`; one pass back, for the slope is made on the way."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, exponent: float, weights: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        value = _power(base, exponent).mul_(weights)
        ctx.save_for_backward((value / base.clamp_min(TINY)).mul_(exponent))
        return value.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of base."""
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None


def focal_sum(nll: Tensor, gamma: float, *, p: Tensor, weights: Tensor | None, focused: Tensor | None = None) -> Tensor:
    """Return the sum of weights * (1 - p)^gamma nll over [B, N], nll = -ln p; a scalar.

    `focused` [B, N] is 1 where that holds and 0 where the term is nll itself.
    """
    if gamma == 0:
        return nll.sum() if weights is None else (nll * weights).sum()
    total: Tensor = FocalSum.apply(nll, p.detach(), gamma, weights, focused)  # type: ignore[no-untyped-call]
    return total


class FocalSum(torch.autograd.Function):
    """Sum of w q^g nll, as in `FocalTerm`; one pass back, for the slope is made on the way."""

    @staticmethod
    def forward(
        ctx: Any, nll: Tensor, p: Tensor, gamma: float, weights: Tensor | None, focused: Tensor | None
    ) -> Tensor:
        """Return the sum, a scalar; p gets no gradient of its own."""
        # where q is 1, so is its power, and it has no slope
        right = p if focused is None else p * focused
        wrong = 1 - right
        factor = _power(wrong, gamma)
        if weights is not None:
            factor.mul_(weights)
        bend = (nll * right).div_(wrong.clamp_min_(TINY))
        ctx.save_for_backward(torch.addcmul(factor, factor, bend, value=gamma))
        return factor.mul_(nll).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of nll."""
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None, None, None


def focal_term(nll: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma nll from nll = -ln p; 1 - p is taken as -expm1(-nll), exact where p nears 1."""
    if gamma == 0:
        return nll
    value: Tensor = FocalTerm.apply(nll, -torch.expm1(-nll.detach()), gamma)  # type: ignore[no-untyped-call]
    return value


class FocalTerm(torch.autograd.Function):
    """q^g nll with q = 1 - exp(-nll); its slope q^g + g nll (1 - q) q^(g - 1) serves any g > 0."""

    @staticmethod
    def forward(ctx: Any, nll: Tensor, wrong: Tensor, gamma: float) -> Tensor:
        """Return the focal term of nll, any shape; `wrong` is q, which gets no gradient of its own."""
        factor = _power(wrong, gamma)
        ctx.save_for_backward(nll, wrong, factor)
        ctx.gamma = gamma
        return factor * nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of nll."""
        nll, wrong, factor = ctx.saved_tensors
        # nll (1 - q) / q tends to 1 as q vanishes, and the factor to 0
        bend = (1 - wrong).mul_(nll).div_(wrong.clamp_min(TINY)).mul_(factor)
        return torch.add(factor, bend, alpha=ctx.gamma).mul_(grad), None, None


def _power(base: Tensor, exponent: float) -> Tensor:
    # a threshold is several times faster than a mask
    return (F.threshold(base, TINY, 0) if exponent < 1 else base.clamp_min(0)).pow_(exponent)


def class_mean(value: Tensor, t: Tensor, units: Tensor, *, classes: str, weights: Tensor | None = None) -> Tensor:
    """Average value [U, C] over classes, then over the units that have a valid pixel.

    t [U, C]: target pixels; classes: "present" (those with t > 0; a unit without any gives 0) or "all". weights: how
    much each class counts, those of the last C classes where the first was left out.
    """
    if weights is not None:
        counted = weights[-value.shape[1] :].to(value.dtype)
        counted = counted.expand_as(value) if classes == "all" else counted * (t > 0)
        mass = counted.sum(1)
        of_unit = (value * counted).sum(1) / torch.where(mass > 0, mass, 1)
    elif classes == "all":
        of_unit = value.mean(1)
    else:
        present = (t > 0).to(value.dtype)
        of_unit = (value * present).sum(1) / present.sum(1).clamp_min(1)
    return of_unit.squeeze(0) if len(of_unit) == 1 else (of_unit * units).sum() / units.sum().clamp_min(1)


def pixel_mean(value: Tensor, view: LossInputs) -> Tensor:
    """Average value [B, M], zero on void pixels, over the valid pixels of the batch; `per_pixel` gives them all."""
    if view.label_weights is not None:
        value = value * view.label_weights
    return view.pixel_map(value) if view.per_pixel else mean_of(value.sum(), view)


def mean_of(total: Tensor, view: LossInputs) -> Tensor:
    """Divide a sum over the valid pixels of the batch by their number."""
    return total / (view.labels.numel() if view.all_count_alike else view.n_valid)


def weighed(view: LossInputs, weights: Tensor | None) -> Tensor | None:
    """Return weights [B, M] of values times how much each value counts; None where all count 1."""
    if view.label_weights is None:
        return weights
    return view.label_weights if weights is None else weights * view.label_weights


def focal_mean(
    view: LossInputs, gamma: float, *, weights: Tensor | None = None, focused: Tensor | None = None
) -> Tensor:
    """Average weights * (1 - p_t)^gamma (-ln p_t), see `focal_sum`, as `pixel_mean` does."""
    weights = weighed(view, weights)
    if not view.per_pixel:
        return mean_of(focal_sum(view.nll, gamma, p=view.p_true, weights=weights, focused=focused), view)
    value = focal_term(view.nll, gamma)
    if focused is not None:
        value = torch.where(focused > 0, value, view.nll)
    return view.pixel_map(value if weights is None else value * weights)


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
