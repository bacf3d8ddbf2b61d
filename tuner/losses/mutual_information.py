"""Region mutual information: neighbourhoods of prediction and label should tell each other much."""

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import DenseInputs

RIDGE = 5e-4
CLIP = 1e-6


@segmentation_loss()
def region_mutual_information(view: LossInputs, *, weight: float, radius: int, stride: int, pool: str) -> Tensor:
    """Region mutual information loss (Zhao et al. 2019): weight * BCE + (1 - weight) * R; may be negative.

    BCE: sigmoid cross-entropy of every class, summed, over |V| + 1. R is minus a lower bound of the mutual information
    of the radius x radius neighbourhoods in label and prediction maps, both pooled by `stride` ("max" or "avg"):
    see `region_information`. The probabilities are sigmoids, as in the authors' code, so a constant added to all
    logits is seen; the argmax is still the prediction.
    """
    return weight * binary_entropy(view) + (1 - weight) * region_information(
        view, radius=radius, stride=stride, pool=pool
    )


def binary_entropy(view: LossInputs) -> Tensor:
    """Return the sigmoid cross-entropy summed over classes and valid pixels, divided by |V| + 1."""
    if isinstance(view, DenseInputs):
        values = view.nll if view.label_weights is None else view.nll * view.label_weights
        return values.sum() / (view.n_valid / view.classes + 1)
    z = view.clean_logits.flatten(2)
    valid = view.valid.unsqueeze(1)
    labelled = z.gather(1, view.flat_labels.unsqueeze(1))
    return ((F.softplus(z).sum(1) - labelled.squeeze(1)) * valid.squeeze(1)).sum() / (view.counts.sum() + 1)


def region_information(view: LossInputs, *, radius: int, stride: int, pool: str) -> Tensor:
    """Return the mean over images and sum over classes of 0.5 logdet(A + a I) / d, in float64.

    A = Sy - Syp (Sp + a I)^-1 Syp^T, from the centred d = radius^dims vectors of label and prediction at every position
    (sums, not means); a = 5e-4. 0 where the pooled map is smaller than one neighbourhood.
    """
    truth, guess = _pooled_truth(view, stride, pool), _pooled_guess(view, stride, pool)
    dims = guess.ndim - 2
    if min(guess.shape[2:]) < radius:
        return guess.sum() * 0
    half_logdet: Tensor = HalfLogdet.apply(truth.flatten(0, 1), guess.flatten(0, 1), radius)  # type: ignore[no-untyped-call]
    of_image = half_logdet.view(len(truth), -1).sum(1)
    pixels = view.valid.flatten(1) if isinstance(view, DenseInputs) else view.counts
    units = (pixels.sum(1) > 0).to(half_logdet.device, half_logdet.dtype)
    mean: Tensor = (of_image / float(radius**dims) * units).sum() / units.sum().clamp_min(1)
    return mean.to(view.logits.device, view.logits.dtype)


def _pooled_truth(view: LossInputs, stride: int, pool: str) -> Tensor:
    """Return the one-hot labels [B, C, *S'], pooled; counted per block, so that they are never held at full size."""
    if isinstance(view, DenseInputs):
        return _pool((view.target * view.valid).reshape(view.logits.shape), stride, pool).clamp_min(0)
    sizes = view.labels.shape[1:]
    counts = _block_counts(sizes, stride)
    block = torch.zeros((), dtype=torch.int64, device=view.labels.device)
    kept = torch.ones((), dtype=view.logits.dtype, device=view.labels.device)
    for axis, (side, count) in enumerate(zip(sizes, counts, strict=True)):
        place = (torch.arange(side, device=block.device) + stride // 2) // max(stride, 1)
        row = (-1, *[1] * (len(sizes) - 1 - axis))
        block = block * count + place.clamp_max(count - 1).view(row)
        kept = kept * (place < count).to(kept.dtype).view(row)
    total = math.prod(counts)
    slots = (view.labels * total + block).flatten(1)
    hits = kept.expand(sizes).flatten() * view.valid
    truth = hits.new_zeros(len(slots), view.classes * total).scatter_add_(1, slots, hits)
    truth = truth.clamp_max_(1) if pool == "max" else truth / stride ** len(sizes)
    return truth.view(len(slots), view.classes, *counts)


def _pooled_guess(view: LossInputs, stride: int, pool: str) -> Tensor:
    """Return sigmoid probabilities [B, C, *S'], 0 on void pixels, plus 1e-6, pooled with zeros outside."""
    logits = view.clean_logits
    void = None if view.void is None else view.void.unsqueeze(1)
    if isinstance(view, DenseInputs) and view.weight is not None:
        void = (view.weight == 0).expand_as(view.target).reshape(logits.shape)
    if pool == "max":
        # the sigmoid rises with the logit, so only the largest one of a block needs it
        known = logits if void is None else logits.masked_fill(void, -math.inf)
        return torch.sigmoid(_pool(known, stride, pool)) + CLIP
    probabilities = torch.sigmoid(logits)
    return _pool((probabilities if void is None else probabilities.masked_fill(void, 0)) + CLIP, stride, pool)


def _block_counts(sizes: Sequence[int], stride: int) -> list[int]:
    if stride <= 1:
        return list(sizes)
    return [(side + 2 * (stride // 2) - stride) // stride + 1 for side in sizes]


def _pool(maps: Tensor, stride: int, pool: str) -> Tensor:
    """Pool maps [B, C, *S] over blocks of `stride` that begin half a block outside, where there is nothing.

    The blocks do not overlap, so reshaping replaces torch's pooling, which is far slower on the CPU.
    """
    if stride <= 1:
        return maps
    dims = maps.ndim - 2
    counts = _block_counts(maps.shape[2:], stride)
    padding = [
        edge
        for count, side in zip(reversed(counts), reversed(maps.shape[2:]), strict=True)
        for edge in (stride // 2, count * stride - side - stride // 2)
    ]
    blocks = F.pad(maps, padding, value=-math.inf if pool == "max" else 0.0)
    blocks = blocks.reshape(*blocks.shape[:2], *(part for count in counts for part in (count, stride)))
    # first the axes whose parts are whole rows
    for done, axis in enumerate(range(3, 3 + 2 * dims, 2)):
        blocks = _block_max(blocks, axis - done) if pool == "max" else reduce(torch.add, blocks.unbind(axis - done))
    return blocks if pool == "max" else blocks / stride**dims


def _block_max(blocks: Tensor, axis: int) -> Tensor:
    top: Tensor = BlockMax.apply(blocks, axis)  # type: ignore[no-untyped-call]
    return top


class BlockMax(torch.autograd.Function):
    """Largest value along a short axis; the first of equal ones takes the gradient, as in torch's pooling."""

    @staticmethod
    def forward(ctx: Any, blocks: Tensor, axis: int) -> Tensor:
        """Return the maximum of blocks over `axis`, which goes."""
        # the parts of a block one by one: reductions over a short axis are slow
        top = reduce(torch.maximum, blocks.unbind(axis))
        ctx.save_for_backward(blocks, top)
        ctx.axis = axis
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Hand each gradient to the part that was largest."""
        blocks, top = ctx.saved_tensors
        slope = torch.empty_like(blocks)
        for part, own in zip(blocks.unbind(ctx.axis), slope.unbind(ctx.axis), strict=True):
            own.copy_(grad * (part == top))
            grad = grad - own
        return slope, None


class HalfLogdet(torch.autograd.Function):
    """0.5 logdet(A + a I) of pairs of maps [P, *S], in float64 (on the CPU where the device has none).

    With W = (Sp + a I)^-1 Syp^T and B = (A + a I)^-1, the gradient of the centred prediction vectors is
    W B (W^T p - y): one product of small matrices with what the forward gathered.
    """

    @staticmethod
    def forward(ctx: Any, truth: Tensor, guess: Tensor, radius: int) -> Tensor:
        """Return [P] in float64; only `guess` has a gradient."""
        sizes = guess.shape[1:]
        d = radius ** len(sizes)
        vectors = _neighbourhoods(truth, guess, radius)
        mean = vectors.mean(-1, keepdim=True)
        scatter = vectors @ vectors.mT - vectors.shape[-1] * mean @ mean.mT
        ridge = RIDGE * torch.eye(d, dtype=scatter.dtype, device=scatter.device)
        cross = scatter[:, :d, d:]
        # not `solve`, which has the host wait to raise what the ridge excludes
        fit = torch.linalg.solve_ex(scatter[:, d:, d:] + ridge, cross.mT).result
        left = scatter[:, :d, :d] - cross @ fit
        # symmetric in theory only: the factorisation reads one half
        factor, failed = torch.linalg.cholesky_ex((left + left.mT) / 2 + ridge)
        # a matrix that rounding has made indefinite has no slope to follow
        ctx.usable = (failed == 0).view(-1, 1, 1)
        ctx.save_for_backward(vectors, mean, fit, factor)
        ctx.radius, ctx.like = radius, guess
        return torch.log(factor.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        """Chain through the small matrices, then lay the neighbourhoods over each other again."""
        vectors, mean, fit, factor = ctx.saved_tensors
        d = fit.shape[-1]
        eye = torch.eye(d, dtype=fit.dtype, device=fit.device)
        pulled = fit @ torch.cholesky_solve(eye, torch.where(ctx.usable, factor, eye))
        mixing = torch.cat([-pulled, pulled @ fit.mT], -1)
        mixing = torch.where(ctx.usable, mixing * grad.view(-1, 1, 1), 0)
        shape, radius = ctx.like.shape, ctx.radius
        slopes = (mixing @ vectors).sub_(mixing @ mean)
        slopes = slopes.view(len(slopes), d, *(side - radius + 1 for side in shape[1:]))
        total = slopes.new_zeros(shape)
        for k, window in enumerate(_windows(shape[1:], radius)):
            total[window] += slopes[:, k]
        return None, total.to(ctx.like.device, ctx.like.dtype), None


def _windows(sizes: Sequence[int], radius: int) -> list[tuple[slice, ...]]:
    """Return the radius^dims shifts of a map [P, *S] that keep every neighbourhood inside it."""
    return [
        (slice(None), *(slice(o, o + side - radius + 1) for o, side in zip(offset, sizes, strict=True)))
        for offset in itertools.product(range(radius), repeat=len(sizes))
    ]


def _neighbourhoods(truth: Tensor, guess: Tensor, radius: int) -> Tensor:
    """Return [P, 2 radius^dims, positions] in float64: the neighbourhoods in the label, then in the prediction."""
    device = torch.device("cpu") if guess.device.type == "mps" else guess.device
    windows = _windows(guess.shape[1:], radius)
    d = len(windows)
    sizes = [side - radius + 1 for side in guess.shape[1:]]
    vectors = torch.empty(len(guess), 2 * d, *sizes, dtype=torch.float64, device=device)
    for k, window in enumerate(windows):
        vectors[:, k] = truth[window]
        vectors[:, d + k] = guess[window]
    return vectors.flatten(2)
