"""Lovász-softmax: the convex extension of the Jaccard loss, exact, with one sort per class."""

import numpy as np
import torch
from torch import Tensor

from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import class_mean
from tuner.losses.view import View


@segmentation_loss()
def lovasz_softmax(view: View, *, classes: str, per_image: bool) -> Tensor:
    """Lovász-softmax loss (Berman, Rannen Triki, Blaschko 2018): mean_c sum_k e_(k) (J_k - J_(k-1)). In [0, 1].

    e = |t_c - p_c| over valid pixels in descending order; J_k is the Jaccard loss of the first k errors. The steps
    of J are constants, so the loss is a weighted sum of probabilities, and only the weights need the sort.
    """
    p, labels, void, counts = view.probabilities, view.flat_labels, view.flat_void, view.counts
    if not per_image:
        p = p.transpose(0, 1).flatten(1).unsqueeze(0)
        labels, counts = labels.reshape(1, -1), counts.sum(0, keepdim=True)
        void = None if void is None else void.reshape(1, -1)
    with torch.no_grad():
        slopes, hits = _slopes(p.detach(), labels, void, counts, every=classes == "all")
    units = (counts.sum(1) > 0).to(p.dtype)
    return class_mean((p * slopes).sum(-1) + hits, counts, units, classes=classes)


def _slopes(p: Tensor, labels: Tensor, void: Tensor | None, counts: Tensor, *, every: bool) -> tuple[Tensor, Tensor]:
    """Return dL_c/dp_c [U, C, N] and the constant that the true pixels add to L_c, [U, C]."""
    slopes, hits = torch.zeros_like(p), p.new_zeros(p.shape[:2])
    on_host = p.device.type == "cpu"
    for unit in range(p.shape[0]):
        for c in range(p.shape[1]):
            if on_host and not every and counts[unit, c] == 0:
                continue
            true = labels[unit] == c
            if void is not None:
                true &= ~void[unit]
            error = torch.where(true, 1 - p[unit, c], p[unit, c]).clamp_min_(0)
            if void is not None:
                error.masked_fill_(void[unit], -1)
            order, hit = _descending(error, true)
            step = jaccard_steps(hit, counts[unit, c])
            hits[unit, c] = (step * hit).sum()
            slopes[unit, c].scatter_(0, order, torch.where(hit, -step, step))
    return (slopes if void is None else slopes.masked_fill_(void.unsqueeze(1), 0)), hits


def _descending(error: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of the errors, largest first, and whether the class is true there.

    On the CPU without those below the smallest error of a true pixel: all true pixels lie before them, so J has
    reached 1 and their steps are 0.
    """
    if error.device.type != "cpu":
        order = error.argsort(descending=True)
        return order, true[order]
    errors, truth = error.numpy(), true.numpy()
    least = errors[truth].min() if truth.any() else errors.max()
    kept = np.flatnonzero(errors >= max(least, 0))
    hits = truth[kept]
    if errors.dtype != np.float32:
        places = np.argsort(-errors[kept], kind="stable")
        return torch.from_numpy(kept[places]), torch.from_numpy(hits[places])
    # numpy sorts 64-bit integers several times faster than it argsorts floats: the bits of a non-negative float
    # order like the float, and position and truth ride along in the lower half
    keys = errors[kept].view(np.int32).astype(np.int64)
    np.subtract(0x7FFFFFFF, keys, out=keys)
    keys <<= 32
    keys |= (kept << 1) | hits
    keys.sort()
    return torch.from_numpy((keys & 0xFFFFFFFF) >> 1), torch.from_numpy((keys & 1).astype(bool))


def jaccard_steps(hit: Tensor, total: Tensor) -> Tensor:
    """Return J_k - J_(k-1) for hit [N], true in the order of the errors; total is the number of true pixels.

    In closed form: with h hits and b misses among the first k, a hit adds 1 / (G + b) and a miss
    (G - h) / ((G + b - 1) (G + b)); where nothing is true, the first miss alone adds 1.
    """
    hits = hit.cumsum(0)
    union = torch.arange(1, len(hit) + 1, device=hit.device).sub_(hits).to(total.dtype).add_(total)
    missed = (total - hits) / (union * (union - 1)).clamp_min_(1)
    step = torch.where(hit, 1 / union.clamp_min(1), missed)
    step[:1] = torch.where(total > 0, step[:1], 1)
    return step


def lovasz_hinge(logits: Tensor, target: Tensor, *, ignore_index: int, per_image: bool) -> Tensor:
    """Lovász hinge, the binary form on one channel: e = 1 - z (2t - 1), sum_k relu(e_(k)) (J_k - J_(k-1)).

    logits [B, 1, *S]; target [B, *S] of 0 and 1; void pixels are dropped before sorting.
    """
    flat, labels = logits[:, 0].flatten(1), target.flatten(1)
    units = list(zip(flat, labels, strict=True)) if per_image else [(flat.flatten(), labels.flatten())]
    losses = []
    for scores, truth in units:
        z, t = scores[truth != ignore_index], truth[truth != ignore_index].to(logits.dtype)
        error, order = torch.sort(1 - z * (2 * t - 1), descending=True)
        losses.append((torch.relu(error) * jaccard_steps(t[order] > 0, t.sum())).sum())
    return torch.stack(losses).mean()
