"""Losses that weigh probabilities by where they are relative to the true borders."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.batch import View
from tuner.losses.function import segmentation_loss
from tuner.losses.places import on_host
from tuner.losses.reductions import WeighedSum, class_mean, quotient
from tuner.losses.target_maps import target_map


@segmentation_loss(logs=False)
def boundary(view: View, *, signed_distance: Tensor | None = None, include_background: bool, normalise: bool) -> Tensor:
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
    view: View,
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


def relative_depth(view: View, distance: Tensor) -> Tensor:
    """Return d / max d over the pixel's class and image, [B, N] in (0, 1]; 1 where the class fills the image."""
    known = distance if view.flat_void is None else distance.masked_fill(view.flat_void, 0)
    top = known.new_zeros(len(known), view.classes).scatter_reduce(1, view.flat_labels, known, "amax")
    deepest = top.gather(1, view.flat_labels)
    return torch.where(deepest > 0, distance / torch.where(deepest > 0, deepest, 1), 1)


@segmentation_loss(sums=True, squares=True, logs=False)
def boundary_dou(view: View, *, alpha_max: float, smooth: float, classes: str) -> Tensor:
    """Boundary difference over union (Sun, Luo, Li 2023), sums over the batch.

        mean_c (A - 2 I + s) / (A - (1 + alpha_c) I + s),   A = sum p^2 + sum t^2,   I = sum p t
        alpha_c = min(1 - 2 (C + s) / (S + s), alpha_max)

    S: pixels of the class, C: those of them with a neighbour along an axis outside it (the image's edge counts, void
    too). alpha falls to -1 for thin objects, as in the authors' code (the paper has it in [0, 1)).
    """
    of = view.overlap(per_image=False)
    if of.square is None:
        raise ValueError("this view was read without squares")
    rim = rim_counts(view)
    alpha = (1 - 2 * (rim + smooth) / (of.t + smooth).clamp_min(1e-12)).clamp(-1, alpha_max)
    both = of.square + of.t
    error = quotient(both - 2 * of.tp + smooth, both - (1 + alpha) * of.tp + smooth)
    return class_mean(error, of.t, of.units, classes=classes)


def rim_counts(view: View) -> Tensor:
    """Count the `rim_pixels` of each class in the batch: [1, C]."""
    rim = rim_pixels(view)
    if not on_host(rim):
        return view.class_sums(rim.to(view.logits.dtype)).sum(0, keepdim=True)
    # they are few: counting them is faster than a sum over all pixels
    counted = torch.bincount(view.flat_labels[rim], minlength=view.classes)
    return counted.unsqueeze(0).to(view.logits.dtype)


def rim_pixels(view: View) -> Tensor:
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
