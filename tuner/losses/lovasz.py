"""Lovász-softmax: the convex extension of the Jaccard loss, exact, with one sort per class."""

import numpy as np
import torch
from torch import Tensor

from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import class_mean
from tuner.losses.view import View


@segmentation_loss()
def lovasz_softmax(view: View, *, classes: str, per_image: bool, bins: int) -> Tensor:
    """Lovász-softmax loss (Berman, Rannen Triki, Blaschko 2018): mean_c sum_k e_(k) (J_k - J_(k-1)). In [0, 1].

    e = |t_c - p_c| over valid pixels in descending order; J_k is the Jaccard loss of the first k errors. The steps
    of J are constants, so the loss is a weighted sum of probabilities, and only the weights need the sort.

    bins = 0 is exact. With bins > 0 the errors are ranked by `bins` equal intervals of [0, 1] instead of a sort, and
    those in one interval share its rise of J evenly. The rises are not negative and add up to at most 1, and errors of
    an interval are at most 1 / bins apart, so the value is off by no more than 1 / bins.
    """
    if bins:
        return _by_histogram(view, classes=classes, per_image=per_image, bins=bins)
    p, labels, void, counts = view.probabilities, view.flat_labels, view.flat_void, view.counts
    if not per_image:
        p = p.transpose(0, 1).flatten(1).unsqueeze(0)
        labels, counts = labels.reshape(1, -1), counts.sum(0, keepdim=True)
        void = None if void is None else void.reshape(1, -1)
    with torch.no_grad():
        slopes, hits = _slopes(p.detach(), labels, void, counts, every=classes == "all")
    units = (counts.sum(1) > 0).to(p.dtype)
    return class_mean((p * slopes).sum(-1) + hits, counts, units, classes=classes)


def _by_histogram(view: View, *, classes: str, per_image: bool, bins: int) -> Tensor:
    p = view.probabilities
    counts = view.counts if per_image else view.counts.sum(0, keepdim=True)
    with torch.no_grad():
        slopes, hits = _slopes_by_histogram(p.detach(), view.flat_labels, view.flat_void, counts, bins)
    value: Tensor = torch.linalg.vecdot(p, slopes)
    value = (value if per_image else value.sum(0, keepdim=True)) + hits
    return class_mean(value, counts, (counts.sum(1) > 0).to(p.dtype), classes=classes)


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


def _slopes_by_histogram(
    p: Tensor, labels: Tensor, void: Tensor | None, counts: Tensor, bins: int
) -> tuple[Tensor, Tensor]:
    """Return dL_c/dp_c [B, C, N] and the constants [U, C], counts [U, C] being per image or of the whole batch."""
    first = torch.arange(counts.numel(), dtype=torch.int32, device=p.device).view(*counts.shape, 1) * bins
    first, size = first.expand(len(p), -1, 1), counts.numel() * bins
    places = (p * bins).to(torch.int32).clamp_(0, bins - 1).add_(first)
    picked = labels.unsqueeze(1)
    behind = ((1 - p.gather(1, picked)) * bins).to(torch.int32).clamp_(0, bins - 1)
    at_truth = behind + first.squeeze(-1).gather(1, labels).unsqueeze(1)
    valid = torch.ones_like(labels) if void is None else (~void).long()
    valid = valid.unsqueeze(1)
    missed = _histogram(places, valid, size) - _histogram(places.gather(1, picked), valid, size)
    hit = _histogram(at_truth, valid, size).view(*counts.shape, bins)
    share = _shares(hit, missed.view_as(hit), counts).to(p.dtype)
    table = share.flatten()
    # several times faster than indexing
    slopes = table.index_select(0, places.flatten()).view_as(p)
    slopes.scatter_(1, picked, -table[at_truth])
    return (slopes if void is None else slopes.masked_fill_(void.unsqueeze(1), 0)), (share * hit).sum(-1)


def _histogram(places: Tensor, valid: Tensor, size: int) -> Tensor:
    """Count valid places, in whole numbers."""
    if places.device.type == "cpu" and bool(valid.all()):
        return torch.bincount(places.flatten(), minlength=size)
    counts = torch.zeros(size, dtype=torch.int64, device=places.device)
    return counts.scatter_add_(0, places.flatten().long(), valid.expand_as(places).flatten())


def _shares(hit: Tensor, missed: Tensor, total: Tensor) -> Tensor:
    """Return the rise of J over each bin per pixel in it, for histograms [U, C, bins] of rising errors."""
    found, wrong = (part.flip(-1).cumsum(-1).double() for part in (hit, missed))
    g = total.unsqueeze(-1).double()
    union = g + wrong
    jaccard = torch.where(union > 0, 1 - (g - found) / union.clamp_min(1), 0)
    rise = jaccard.diff(dim=-1, prepend=torch.zeros_like(g)).flip(-1)
    return rise / (hit + missed).clamp_min(1)


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
