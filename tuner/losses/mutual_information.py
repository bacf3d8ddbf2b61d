"""Region mutual information: neighbourhoods of prediction and label should tell each other much."""

import itertools
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.function import segmentation_loss
from tuner.losses.view import View

RIDGE = 5e-4
CLIP = 1e-6


@segmentation_loss()
def region_mutual_information(view: View, *, weight: float, radius: int, stride: int, pool: str) -> Tensor:
    """Region mutual information loss (Zhao et al. 2019): weight * BCE + (1 - weight) * R; may be negative.

    BCE: sigmoid cross-entropy of every class, summed, over |V| + 1. R is minus a lower bound of the mutual information
    of the radius x radius neighbourhoods in label and prediction maps, both pooled by `stride` ("max" or "avg"):
    see `region_information`. The probabilities are sigmoids, as in the authors' code, so a constant added to all
    logits is seen; the argmax is still the prediction.
    """
    return weight * binary_entropy(view) + (1 - weight) * region_information(
        view, radius=radius, stride=stride, pool=pool
    )


def binary_entropy(view: View) -> Tensor:
    """Return the sigmoid cross-entropy summed over classes and valid pixels, divided by |V| + 1."""
    z = view.clean_logits.flatten(2)
    valid = view.valid.unsqueeze(1)
    labelled = z.gather(1, view.flat_labels.unsqueeze(1))
    return ((F.softplus(z).sum(1) - labelled.squeeze(1)) * valid.squeeze(1)).sum() / (view.counts.sum() + 1)


def region_information(view: View, *, radius: int, stride: int, pool: str) -> Tensor:
    """Return the mean over images and sum over classes of 0.5 logdet(A + a I) / d, in float64.

    A = Sy - Syp (Sp + a I)^-1 Syp^T, from the centred d = radius^dims vectors of label and prediction at every position
    (sums, not means); a = 5e-4. 0 where the pooled map is smaller than one neighbourhood.
    """
    valid = 1 if view.void is None else (~view.void).unsqueeze(1).to(view.logits.dtype)
    hot = F.one_hot(view.labels, view.classes).movedim(-1, 1).to(view.logits.dtype) * valid
    probabilities = torch.sigmoid(view.clean_logits) * valid + CLIP
    truth, guess = _pooled(hot, stride, pool), _pooled(probabilities, stride, pool)
    if min(truth.shape[2:]) < radius:
        return probabilities.sum() * 0
    y, p = _neighbourhoods(truth, radius), _neighbourhoods(guess, radius)
    d = y.shape[2]
    ridge = RIDGE * torch.eye(d, dtype=y.dtype, device=y.device)
    cross = _scatter(y, p)
    left = _scatter(y, y) - cross @ torch.linalg.solve(_scatter(p, p) + ridge, cross.mT)
    # symmetric in theory only: the factorisation reads one half
    left = (left + left.mT) / 2 + ridge
    factor = torch.linalg.cholesky_ex(left).L
    half_logdet = torch.log(factor.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)).sum(-1)
    units = (view.counts.sum(1) > 0).to(half_logdet.dtype)
    return (
        ((half_logdet.sum(1) / d * units).sum() / units.sum().clamp_min(1)).to(view.logits.dtype).to(view.logits.device)
    )


def _pooled(maps: Tensor, stride: int, pool: str) -> Tensor:
    """Pool maps [B, C, *S] >= 0 over blocks of `stride` that begin half a block outside, zeros there.

    The blocks do not overlap, so reshaping replaces torch's pooling, which is far slower on the CPU.
    """
    if stride <= 1:
        return maps
    dims = maps.ndim - 2
    counts = [(side + 2 * (stride // 2) - stride) // stride + 1 for side in maps.shape[2:]]
    padding = [
        edge
        for count, side in zip(reversed(counts), reversed(maps.shape[2:]), strict=True)
        for edge in (stride // 2, count * stride - side - stride // 2)
    ]
    blocks = F.pad(maps, padding)
    blocks = blocks.reshape(*blocks.shape[:2], *(part for count in counts for part in (count, stride)))
    for axis in range(1 + 2 * dims, 2, -2):
        # the parts of a block one by one: reductions over a short axis are slow
        parts = blocks.unbind(axis)
        blocks = reduce(torch.maximum if pool == "max" else torch.add, parts)
    return blocks if pool == "max" else blocks / stride**dims


def _neighbourhoods(maps: Tensor, radius: int) -> Tensor:
    """Return [B, C, radius^dims, positions] of maps [B, C, *S], in float64 (on the CPU where the device has none)."""
    wide = (maps.cpu() if maps.device.type == "mps" else maps).double()
    sizes = [side - radius + 1 for side in maps.shape[2:]]
    windows = []
    for offset in itertools.product(range(radius), repeat=len(sizes)):
        window = [slice(start, start + size) for start, size in zip(offset, sizes, strict=True)]
        windows.append(wide[(slice(None), slice(None), *window)].flatten(2))
    return torch.stack(windows, 2)


def _scatter(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums over positions of the products of centred vectors, [B, C, d, d]."""
    return a @ b.mT - a.sum(-1, keepdim=True) @ b.mean(-1, keepdim=True).mT
