"""Boundary losses: boundary, region-wise, boundary DoU, and the Hausdorff losses."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tuner.losses.autograd import WeighedSum, class_mean, quotient
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import DenseInputs
from tuner.losses.distance_transform import squared_border_distances, target_map
from tuner.losses.softmax_stats import on_host, put_at, take_from


@segmentation_loss(logs=False)
def boundary(
    view: LossInputs, *, signed_distance: Tensor | None = None, include_background: bool, normalise: bool
) -> Tensor:
    """Boundary loss (Kervadec et al. 2019): mean over images, classes and V of phi_c p_c; negative at best.

    phi is the signed distance to the class's border, positive outside. `normalise` divides it by the image's
    diagonal. An absent class adds nothing, so false positives of it are the base's business. Equal to MONAI's
    `BoundaryLoss`.
    """
    phi = target_map(view, "signed_distance", signed_distance)
    first = 0 if include_background else 1
    scale = math.hypot(*phi.shape[2:]) if normalise else 1.0
    weighted: Tensor = WeighedSum.apply(view.probabilities, phi.flatten(2), first)  # type: ignore[no-untyped-call]
    return weighted / (scale * view.n_valid * (view.classes - first))


@segmentation_loss()
def region_wise(
    view: LossInputs,
    *,
    own_distance: Tensor | None = None,
    signed_distance: Tensor | None = None,
    map: str,
) -> Tensor:
    """Region-wise loss (Valverde and Tohka 2023): mean over images, classes and V of p_c z_c.

    "rrw": z_c = -d / max d inside class c (d the distance to its border, the maximum over class and image) and +1
    elsewhere, in [-1, 1]; -1 where a class fills the image. "boundary": z_c = distance to c outside, -d inside.
    """
    distance = target_map(view, "own_distance", own_distance).flatten(1)
    if map == "rrw":
        # z is 1 for every class but the true one, so the sum over classes is a function of p_t alone
        return (view.wrong - view.p_true * relative_depth(view, distance)).sum() / (view.n_valid * view.classes)
    phi = target_map(view, "signed_distance", signed_distance).flatten(2)
    z = phi.scatter(1, view.flat_labels.unsqueeze(1), -distance.unsqueeze(1))
    weighted: Tensor = WeighedSum.apply(view.probabilities, z, 0)  # type: ignore[no-untyped-call]
    return weighted / (view.n_valid * view.classes)


def relative_depth(view: LossInputs, distance: Tensor) -> Tensor:
    """Return d / max d over the pixel's class and image, [B, N] in (0, 1]; 1 where the class fills the image."""
    known = distance if view.flat_void is None else distance.masked_fill(view.flat_void, 0)
    top = known.new_zeros(len(known), view.classes).scatter_reduce(1, view.flat_labels, known, "amax")
    deepest = top.gather(1, view.flat_labels)
    return torch.where(deepest > 0, distance / torch.where(deepest > 0, deepest, 1), 1)


@segmentation_loss(sums=True, logs=False)
def boundary_dou(view: LossInputs, *, alpha_max: float, smooth: float, classes: str) -> Tensor:
    """Boundary difference over union (Sun, Luo, Li 2023), sums over the batch.

        mean_c (A - 2 I + s) / (A - (1 + alpha_c) I + s),   A = sum p^2 + sum t^2,   I = sum p t
        alpha_c = min(1 - 2 (C + s) / (S + s), alpha_max)

    S: pixels of the class, C: those of them with a neighbour along an axis outside it (the image's edge counts, void
    too). alpha falls to -1 for thin objects, as in the authors' code (the paper has it in [0, 1)).
    """
    of = view.overlap(per_image=False)
    missed, false = view.error_sums(per_image=False, power=2.0)
    rim = rim_counts(view)
    alpha = (1 - 2 * (rim + smooth) / (of.t + smooth).clamp_min(1e-12)).clamp(-1, alpha_max)
    # A - 2 I, the squared error
    off = missed + false + smooth
    error = quotient(off, off + (1 - alpha) * of.tp)
    return class_mean(error, of.t, of.units, classes=classes, weights=view.class_weights)


def rim_counts(view: LossInputs) -> Tensor:
    """Count the `rim_pixels` of each class in the batch: [1, C]."""
    if isinstance(view, DenseInputs):
        return _rims_of_overlapping(view)
    rim = rim_pixels(view)
    if not on_host(rim):
        return view.class_sums(rim.to(view.logits.dtype)).sum(0, keepdim=True)
    # they are few: counting them is faster than a sum over all pixels
    counted = torch.bincount(view.flat_labels[rim], minlength=view.classes)
    return counted.unsqueeze(0).to(view.logits.dtype)


def _rims_of_overlapping(view: DenseInputs) -> Tensor:
    masks = view.target * view.valid > 0
    masks = masks.reshape(view.logits.shape)
    padded = F.pad(masks, (1, 1) * (masks.ndim - 2), value=False)
    inner = masks
    for axis in range(2, masks.ndim):
        for start in (0, 2):
            window = [slice(None), slice(None), *[slice(1, -1)] * (masks.ndim - 2)]
            window[axis] = slice(start, start + masks.shape[axis])
            inner = inner & padded[tuple(window)]
    return (masks & ~inner).flatten(2).sum((0, 2)).unsqueeze(0).to(view.logits.dtype)


def rim_pixels(view: LossInputs) -> Tensor:
    """Say of every pixel, [B, N], whether it is valid and has a neighbour along an axis of another class, or none."""
    labels = view.labels if view.void is None else view.labels.masked_fill(view.void, -1)
    if view.classes < torch.iinfo(torch.int8).max:
        # an eighth of the memory to compare
        labels = labels.to(torch.int8)
    padded = F.pad(labels, (1, 1) * (labels.ndim - 1), value=-1)
    rim = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(1, labels.ndim):
        for start in (0, 2):
            window = [slice(None), *[slice(1, -1)] * (labels.ndim - 1)]
            window[axis] = slice(start, start + labels.shape[axis])
            rim |= padded[tuple(window)] != labels
    return (rim if view.void is None else rim & ~view.void).flatten(1)


EROSIONS = 10


@segmentation_loss(logs=False)
def hausdorff(
    view: LossInputs,
    *,
    own_distance: Tensor | None = None,
    signed_distance: Tensor | None = None,
    variant: str,
    alpha: float,
    include_background: bool,
    normalise: bool,
) -> Tensor:
    """Hausdorff distance loss (Karimi and Salcudean 2020), in two of the paper's forms.

    "distance": mean over images, classes and V of (p - t)^2 (d_p^alpha + d_t^alpha), d the distance to the border of
    the prediction (p > 0.5) and of the target; only (p - t)^2 has a gradient. Equal to MONAI's `HausdorffDTLoss` where
    the prediction of every class has a border. Without one, d is 0 where target and prediction agree, and otherwise
    (a class that is not found at all) the image's diagonal: 0, as there, makes finding nothing cheaper than finding
    half. "erosion": what is left of the squared error after each of ten erosions, times the
    number of the erosion to alpha (arithmetic of the public implementations, rescaled after each erosion).
    `normalise` divides distances by the image's diagonal.
    """
    if variant == "erosion":
        return erosion_form(view, alpha=alpha, include_background=include_background)
    scale = math.hypot(*view.labels.shape[1:]) if normalise else 1.0
    weights = border_weights(view, own_distance, signed_distance, alpha=alpha, first=0 if include_background else 1)
    return distance_form(view, weights, include_background=include_background, scale=scale**alpha)


@segmentation_loss(logs=False)
def log_hausdorff(
    view: LossInputs,
    *,
    own_distance: Tensor | None = None,
    signed_distance: Tensor | None = None,
    alpha: float,
    include_background: bool,
) -> Tensor:
    """Logarithm of the Hausdorff loss: ln(1 + its distance form), which takes its scale away.

    MONAI's form: ours equals `LogHausdorffDTLoss`, except for predictions without a border (see `hausdorff`); that
    knows no ignore_index and transforms with scipy, slowly.
    """
    weights = border_weights(view, own_distance, signed_distance, alpha=alpha, first=0 if include_background else 1)
    return torch.log1p(distance_form(view, weights, include_background=include_background, scale=1.0))


def border_weights(
    view: LossInputs, own_distance: Tensor | None, signed_distance: Tensor | None, *, alpha: float, first: int
) -> Tensor:
    """Return [B, C, N]: d_p^alpha + d_t^alpha of the classes from `first` on, 0 for those before.

    d_p, the distance to the border of {p_c > 0.5}, is 0 without a border where that is right, else the diagonal.
    """
    guess = view.probabilities.detach()[:, first:] > 0.5
    missed = _unfound(view, guess, first) * float(sum(side**2 for side in view.labels.shape[1:]))
    if view.logits.device.type != "cpu" and own_distance is None and signed_distance is None:
        # one transform for both: a device counts kernels, not masks
        truth = class_masks(view)[:, first:]
        squares = _squared_distances(view, torch.stack([truth, guess]))
        squares[1] += missed
        return F.pad(_power(squares, alpha / 2).sum(0), (0, 0, first, 0))
    weights = _power(border_map(view, own_distance, signed_distance), alpha)
    weights[:, first:] += _power(_squared_distances(view, guess) + missed, alpha / 2)
    weights[:, :first] = 0
    return weights


def class_masks(view: LossInputs) -> Tensor:
    """Return [B, C, N] bool: which pixels are labelled with each class; void pixels with none."""
    numbers = torch.arange(view.classes, device=view.labels.device).unsqueeze(1)
    masks = view.flat_labels.unsqueeze(1) == numbers
    return masks if view.flat_void is None else masks.logical_and_(~view.flat_void.unsqueeze(1))


def border_map(view: LossInputs, own_distance: Tensor | None, signed_distance: Tensor | None) -> Tensor:
    """Return [B, C, N]: the distance of every pixel to the border of every class of the target, 0 without one."""
    own = target_map(view, "own_distance", own_distance).flatten(1)
    signed = target_map(view, "signed_distance", signed_distance).flatten(2)
    distances = signed.clone(memory_format=torch.contiguous_format)
    put_at(distances, view.places, own)
    return distances


def distance_form(view: LossInputs, weights: Tensor, *, include_background: bool, scale: float) -> Tensor:
    """Return mean (p - t)^2 w / scale for weights [B, C, N]."""
    weighed: Tensor = WeighedErrors.apply(view.probabilities, weights, view.places, view.valid)  # type: ignore[no-untyped-call]
    return weighed / (float(scale) * view.n_valid * (view.classes - (0 if include_background else 1)))


def _squared_distances(view: LossInputs, masks: Tensor) -> Tensor:
    """Return the squared distance of every pixel to the border of masks [..., N], 0 without one, as floats."""
    squares = squared_border_distances(masks.reshape(-1, *view.labels.shape[1:]))
    return squares.view(masks.shape).to(view.logits.dtype)


def _unfound(view: LossInputs, guess: Tensor, first: int) -> Tensor:
    """Return [B, C - first, 1]: 1 where a guess [B, C - first, N] is all or nothing, and the target is not the same."""
    found, there = guess.sum(-1, keepdim=True), view.counts[:, first:].unsqueeze(-1)
    borderless = (found == 0) | (found == guess.shape[-1])
    return (borderless & (found != there)).to(view.logits.dtype)


class WeighedErrors(torch.autograd.Function):
    """Sum of w (p - t)^2; one pass back."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, weights: Tensor, places: Tensor, valid: Tensor) -> Tensor:
        """Return the sum over p and weights [B, C, N]; t is `valid` [B, N] at the true places, and 0 elsewhere."""
        errors = p.clone()
        take_from(errors, places, valid)
        weighed = weights * errors
        ctx.save_for_backward(weighed)
        total: Tensor = torch.linalg.vecdot(errors, weighed).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of p."""
        (weighed,) = ctx.saved_tensors
        return weighed * (2 * grad), None, None, None


def _power(base: Tensor, exponent: float) -> Tensor:
    """Raise a tensor that is ours to write to."""
    if exponent == 1:
        return base
    return base.square_() if exponent == 2 else base.pow_(exponent)


def _errors(view: LossInputs) -> Tensor:
    """Return p - t [B, C, N], 0 on void pixels."""
    truth = torch.zeros_like(view.probabilities).scatter_(1, view.flat_labels.unsqueeze(1), view.valid.unsqueeze(1))
    return view.probabilities - truth


def erosion_form(view: LossInputs, *, alpha: float, include_background: bool) -> Tensor:
    """Return mean sum_k b_k k^alpha, b_k the squared error after k erosions."""
    first = 0 if include_background else 1
    bound = _errors(view).square().reshape(view.logits.shape)[:, first:]
    total = torch.zeros_like(bound)
    for k in range(1, EROSIONS + 1):
        bound = _stretch(torch.relu(_cross_mean(bound) - 0.5))
        total = total + bound * k**alpha
    valid = view.valid.view(view.labels.shape).unsqueeze(1)
    return (total * valid).sum() / (view.n_valid * (view.classes - first))


def _cross_mean(maps: Tensor) -> Tensor:
    """Average over each pixel and its neighbours along the axes, zeros outside."""
    dims = maps.ndim - 2
    padded = F.pad(maps, (1, 1) * dims)
    total = maps
    for axis in range(2, maps.ndim):
        for start in (0, 2):
            window = [slice(None), slice(None), *[slice(1, -1)] * dims]
            window[axis] = slice(start, start + maps.shape[axis])
            total = total + padded[tuple(window)]
    return total / (2 * dims + 1)


def _stretch(maps: Tensor) -> Tensor:
    """Scale every image and class to [0, 1]; a constant map stays."""
    low = maps.flatten(2).amin(-1).view(*maps.shape[:2], *(1,) * (maps.ndim - 2))
    high = maps.flatten(2).amax(-1).view_as(low)
    spread = high - low
    varies = spread > 0
    return torch.where(varies, (maps - low) / torch.where(varies, spread, 1), maps)
