"""Region mutual information: neighbourhoods of prediction and label should tell each other much."""

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
    y, p = _centred(_neighbourhoods(truth, radius)), _centred(_neighbourhoods(guess, radius))
    d = y.shape[2]
    ridge = RIDGE * torch.eye(d, dtype=y.dtype, device=y.device)
    cross = y @ p.mT
    left = y @ y.mT - cross @ torch.linalg.solve(p @ p.mT + ridge, cross.mT)
    # symmetric in theory only: the factorisation reads one half
    left = (left + left.mT) / 2 + ridge
    factor = torch.linalg.cholesky_ex(left).L
    half_logdet = torch.log(factor.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)).sum(-1)
    units = (view.counts.sum(1) > 0).to(half_logdet.dtype)
    return (
        ((half_logdet.sum(1) / d * units).sum() / units.sum().clamp_min(1)).to(view.logits.dtype).to(view.logits.device)
    )


def _pooled(maps: Tensor, stride: int, pool: str) -> Tensor:
    if stride <= 1:
        return maps
    if maps.ndim == 4:
        pooling = F.max_pool2d if pool == "max" else F.avg_pool2d
    else:
        pooling = F.max_pool3d if pool == "max" else F.avg_pool3d
    return pooling(maps, stride, stride=stride, padding=stride // 2)


def _neighbourhoods(maps: Tensor, radius: int) -> Tensor:
    """Return [B, C, radius^dims, positions] of maps [B, C, *S], in float64 (on the CPU where the device has none)."""
    wide = (maps.cpu() if maps.device.type == "mps" else maps).double()
    for axis in range(2, maps.ndim):
        wide = wide.unfold(axis, radius, 1)
    return wide.flatten(maps.ndim).flatten(2, maps.ndim - 1).mT


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(-1, keepdim=True)
