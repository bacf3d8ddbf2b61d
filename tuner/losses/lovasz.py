"""Lovász-softmax: the convex extension of the Jaccard loss, exact, with one sort per class."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tuner.losses.autograd import class_mean
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import DenseInputs, one_against_the_rest
from tuner.losses.softmax_stats import on_host, put_at


@segmentation_loss(logs=False)
def lovasz_softmax(view: LossInputs, *, classes: str, per_image: bool, bins: int) -> Tensor:
    """Lovász-softmax loss (Berman, Rannen Triki, Blaschko 2018): mean_c sum_k e_(k) (J_k - J_(k-1)). In [0, 1].

    e = |t_c - p_c| over valid pixels in descending order; J_k is the Jaccard loss of the first k errors. The steps
    of J are constants, so the loss is a weighted sum of probabilities, and only the weights need the sort.

    bins = 0 is exact. With bins > 0 the errors are ranked by `bins` equal intervals of [0, 1] instead of a sort, and
    those in one interval share its rise of J evenly. The rises are not negative and add up to at most 1, and errors of
    an interval are at most 1 / bins apart, so the value is off by no more than 1 / bins.
    """
    if isinstance(view, DenseInputs):
        return _lovasz_of_overlapping(view, classes=classes, per_image=per_image)
    counts = view.counts if per_image else view.counts.sum(0, keepdim=True)
    p = view.probabilities
    with torch.no_grad():
        if bins:
            slopes, hits = _slopes_by_histogram(p.detach(), view.flat_labels, view.flat_void, counts, bins)
        else:
            slopes, hits = _slopes(view, counts, every=classes == "all")
    value: Tensor = RankedErrors.apply(p, slopes, hits)  # type: ignore[no-untyped-call]
    return class_mean(value, counts, (counts.sum(1) > 0).to(p.dtype), classes=classes, weights=view.class_weights)


@segmentation_loss(logs=False)
def lovasz_hinge(view: LossInputs, *, classes: str, per_image: bool) -> Tensor:
    """Lovász hinge (Yu, Blaschko 2015; Berman et al. 2018): sum_k max(e_(k), 0) (J_k - J_(k-1)).

    e = 1 - z (2 t - 1), the hinge errors of the logits in descending order; J_k is the Jaccard loss of the first k. One
    for every class against the rest, also where classes exclude each other; two classes are one, of z_1 - z_0, the
    published binary form. Not negative, without a bound. MONAI has none.
    """
    each = one_against_the_rest(view)
    errors = 1 - each.flat * (2 * each.target - 1)
    return _extension(each, errors, classes=classes, per_image=per_image)


def _lovasz_of_overlapping(view: DenseInputs, *, classes: str, per_image: bool) -> Tensor:
    """Return the loss of every class against the rest, errors |t - sigmoid(z)|."""
    errors = (view.target - view.probabilities).abs()
    return _extension(view, errors, classes=classes, per_image=per_image)


def _extension(view: DenseInputs, errors: Tensor, *, classes: str, per_image: bool) -> Tensor:
    """Return the mean over classes of the extension of the Jaccard loss at errors [B, C, N], by a sort.

    Errors that are not positive cost nothing.
    """
    void = None if view.weight is None else view.weight <= 0
    hits = view.target > 0 if void is None else (view.target > 0) & ~void
    value: Tensor = SortedErrors.apply(errors, hits, void, per_image)  # type: ignore[no-untyped-call]
    total = hits.sum(-1)
    counted = errors.new_ones(len(total)) if void is None else (~void).any(-1).any(1).to(errors.dtype)
    if not per_image:
        total, counted = total.sum(0, keepdim=True), counted.amax(0, keepdim=True)
    return class_mean(value, total.to(value.dtype), counted, classes=classes, weights=view.class_weights)


class SortedErrors(torch.autograd.Function):
    """The extension of the Jaccard loss at errors [B, C, N], per image and class or per class: [U, C].

    hits [B, C, N] are the true pixels, void [B, 1 or C, N] those that do not count, None where all do. The steps of J
    are constants, so that they are the gradient. On the host row by row.
    """

    @staticmethod
    def forward(ctx: Any, errors: Tensor, hits: Tensor, void: Tensor | None, per_image: bool) -> Tensor:
        """Return the values."""
        errors = errors.clamp_min(0) if void is None else errors.masked_fill(void, 0).clamp_min_(0)
        if on_host(errors):
            values, steps = _ranked_by_row(errors, hits, len(errors) if per_image else 1)
        elif per_image:
            values, steps = _ranked(errors, hits)
        else:
            rows = [maps.transpose(0, 1).flatten(1) for maps in (errors, hits)]
            values, steps = _ranked(*rows)
            values = values.unsqueeze(0)
            steps = steps.view(errors.shape[1], len(errors), -1).transpose(0, 1)
        ctx.save_for_backward(steps)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the errors."""
        (steps,) = ctx.saved_tensors
        return steps * grad.unsqueeze(-1), None, None, None


def _ranked_by_row(errors: Tensor, hits: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """Return what `_ranked` does of maps [B, C, N], values [units, C]; what one pass wrote is in the cache."""
    steps = torch.empty_like(errors)
    values = errors.new_empty(units, errors.shape[1])
    for unit in range(units):
        part = slice(unit, unit + 1) if units == len(errors) else slice(None)
        for c in range(errors.shape[1]):
            values[unit, c], of_row = _ranked(errors[part, c].flatten(), hits[part, c].flatten())
            steps[part, c] = of_row.view(-1, errors.shape[2])
    return values, steps


def _ranked(errors: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extension [...] at errors [..., N] that are not negative, and its slopes [..., N]."""
    order = _falling(errors).sort(-1).indices
    # several times faster than gathering, where it serves
    hit = hits.index_select(0, order) if hits.ndim == 1 else hits.gather(-1, order)
    steps = torch.empty_like(errors).scatter_(-1, order, jaccard_steps(hit, hits.sum(-1).to(errors.dtype)))
    steps.mul_(errors > 0)
    return torch.linalg.vecdot(errors, steps), steps


def _falling(errors: Tensor) -> Tensor:
    """Return numbers that rise as errors [..., N] fall; as `_ranks` in 24 bits, of the largest error of the row."""
    if errors.dtype != torch.float32:
        return errors.neg()
    top = errors.amax(-1, keepdim=True).clamp_min(1e-30)
    return ((top - errors) * ((2**24 - 1) / top)).to(torch.int32)


class RankedErrors(torch.autograd.Function):
    """Sum over pixels of p times slopes, both [B, C, N], plus constants [U, C], U being 1 or B; p alone has a slope."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, slopes: Tensor, constants: Tensor) -> Tensor:
        """Return [U, C]."""
        ctx.save_for_backward(slopes)
        of_image: Tensor = torch.linalg.vecdot(p, slopes)
        return constants + (of_image if len(constants) == len(p) else of_image.sum(0, keepdim=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of p."""
        (slopes,) = ctx.saved_tensors
        return slopes * grad.unsqueeze(-1), None, None


def _slopes(view: LossInputs, counts: Tensor, *, every: bool) -> tuple[Tensor, Tensor]:
    """Return dL_c/dp_c [B, C, N] and the constants that the true pixels add to L_c, [U, C]; counts are [U, C]."""
    p, labels, void = view.probabilities.detach(), view.flat_labels, view.flat_void
    slopes, hits = torch.zeros_like(p), torch.zeros_like(counts)
    ranks = _ranks(p, view.p_true.detach(), view.places, void)
    for unit, total in enumerate(counts):
        images = slice(unit, unit + 1) if len(counts) == len(p) else slice(None)
        marked = labels[images].reshape(-1)
        if void is not None:
            marked = marked.masked_fill(void[images].reshape(-1), p.shape[1])
        for c in range(p.shape[1]):
            if on_host(p) and not every and total[c] == 0:
                continue
            order = torch.sort(ranks[images, c].reshape(-1)).indices
            hit = (marked == c).index_select(0, order)
            step = jaccard_steps(hit, total[c])
            hits[unit, c] = torch.dot(step, hit.to(step.dtype))
            signed = torch.empty_like(step).scatter_(0, order, step)
            slopes[images, c] = signed.mul_(1 - 2 * (marked == c).to(step.dtype)).view(-1, p.shape[2])
    return (slopes if void is None else slopes.masked_fill_(void.unsqueeze(1), 0)), hits


def _ranks(p: Tensor, p_true: Tensor, places: Tensor, void: Tensor | None) -> Tensor:
    """Return numbers [B, C, N] that rise as the errors fall, void pixels last.

    In float32 as whole multiples of 2^-24, what float32 itself resolves below 1: torch sorts integers of 24 bits by
    radix, ten times faster than floats.
    """
    whole = p.dtype == torch.float32
    rank = p.neg().add_(1)
    put_at(rank, places, p_true)
    if void is not None:
        rank.masked_fill_(void.unsqueeze(1), 1 + 2**-23)
    return rank.mul_(2**24).to(torch.int32) if whole else rank


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
    if on_host(places) and bool(valid.all()):
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


def jaccard_steps(hit: Tensor, total: Tensor) -> Tensor:
    """Return J_k - J_(k-1) for hit [..., N], true in the order of the errors; total [...] is the number of true pixels.

    In closed form: with h hits and b misses among the first k, a hit adds 1 / (G + b) and a miss
    (G - h) / ((G + b - 1) (G + b)); where nothing is true, the first miss alone adds 1.
    """
    wide = torch.float64 if hit.shape[-1] >= 2**24 or total.dtype == torch.float64 else total.dtype
    hits = hit.cumsum(-1, dtype=torch.int32).to(wide)
    left = total.to(wide).unsqueeze(-1) - hits
    # G + b, b misses being the places so far without the hits
    union = torch.arange(1, hit.shape[-1] + 1, device=hit.device, dtype=wide) + left
    missed = left.div_((union * (union - 1)).clamp_min_(1))
    found = union.clamp_min_(1).reciprocal_()
    # arithmetic instead of a choice, which is several times slower
    step = missed.addcmul_(hit.to(wide), found.sub_(missed)).to(total.dtype)
    step[..., :1] = torch.where(total.unsqueeze(-1) > 0, step[..., :1], 1)
    return step
