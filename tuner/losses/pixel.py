"""Pixel losses: cross-entropy, focal, top-k, OHEM, poly-1, logit adjustment, margins, NACL."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.autograd import class_weights, focal_mean, mean_of, pixel_mean, window_mean
from tuner.losses.batch import END, EpochProgress, LossInputs, segmentation_loss
from tuner.losses.dense import one_against_the_rest
from tuner.losses.distance_transform import target_map
from tuner.losses.softmax_stats import on_host

MIN_PRIOR = 1e-8


@segmentation_loss()
def poly1(view: LossInputs, *, epsilon: float) -> Tensor:
    """Poly-1 cross-entropy (Leng et al. 2022): mean over V of -ln p_t + epsilon (1 - p_t). Ours: MONAI has none."""
    return pixel_mean(view.nll - epsilon * torch.expm1(-view.nll), view)


@segmentation_loss()
def logit_adjusted_ce(view: LossInputs, *, class_frequencies: Tensor | Sequence[float], tau: float) -> Tensor:
    """Logit-adjusted cross-entropy (Menon et al. 2021): cross-entropy of z + tau ln f, f the class frequencies.

    For training only: the network is read without the adjustment, and so favours rare classes. Ours: MONAI has none.
    """
    prior = torch.as_tensor(class_frequencies, dtype=view.logits.dtype, device=view.logits.device)
    shift = tau * (prior / prior.sum()).clamp_min(MIN_PRIOR).log()
    logits = view.logits + shift.view(1, -1, *(1,) * (view.logits.ndim - 2))
    adjusted = replace(view, logits=logits)
    return pixel_mean(adjusted.nll, adjusted)


@segmentation_loss()
def nacl(view: LossInputs, *, weight: float) -> Tensor:
    """Neighbour-aware calibration (Murugesan et al. 2023): cross-entropy + weight mean_{V, C} |z - u|.

    u is the mean of the one-hot target over the 3 x 3 (3 x 3 x 3) neighbourhood, zero outside the image and on void
    pixels; z are the logits themselves, so a constant added to them is seen. Ours equals MONAI's `NACLLoss`,
    which knows no ignore_index.
    """
    hot = F.one_hot(view.labels, view.classes).movedim(-1, 1).to(view.logits.dtype)
    if view.void is not None:
        hot = hot.masked_fill(view.void.unsqueeze(1), 0)
    soft = window_mean(hot, 3)
    gap = (view.clean_logits - soft).abs().flatten(2) * view.valid.unsqueeze(1)
    if view.per_pixel:
        return view.pixel_map(view.nll + weight * gap.mean(1))
    return pixel_mean(view.nll, view) + weight * gap.sum() / (view.n_valid * view.classes)


@segmentation_loss()
def cross_entropy(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    class_weight_exponent: float,
    label_smoothing: float,
    normalise: str,
) -> Tensor:
    """Cross-entropy: mean over V of w_y (-ln p_t), with label smoothing.

        L = sum_V w_y [(1 - e) (-ln p_t) + (e / C) sum_c (-ln p_c)] / D,   w_c = f_c^-class_weight_exponent

    The smoothed term has the weight of the true class. torch weighs it by w_c, under which a pixel of a frequent class
    is best answered with the rarest one as soon as their weights differ by more than a factor 1 + C (1 - e) / e.
    D: "weights", the sum of w_y over V, or "count", the number of valid pixels.
    logits [B, C, *S], target [B, *S]; a scalar, at least 0.
    """
    weights = None
    if class_weight_exponent != 0:
        weights = class_weights(class_frequencies, class_weight_exponent, view.logits)
    return weighted_cross_entropy(view, weights=weights, label_smoothing=label_smoothing, normalise=normalise)


def weighted_cross_entropy(
    view: LossInputs, *, weights: Tensor | None, label_smoothing: float = 0.0, normalise: str = "weights"
) -> Tensor:
    """Cross-entropy with given class weights [C]; see `cross_entropy`."""
    if weights is None and label_smoothing == 0 and not view.per_pixel:
        return mean_of(view.total_nll, view)
    value = view.nll
    if label_smoothing != 0:
        # sum_c (-ln p_c) / C = -ln p_y + z_y - mean_c z_c
        value = value + label_smoothing * view.lead()
    if weights is not None:
        value = value * view.of_class(weights)
    if weights is None or normalise == "count" or view.per_pixel:
        return pixel_mean(value, view)
    mass = view.mass(weights)
    total = value if view.label_weights is None else value * view.label_weights
    return total.sum() / torch.where(mass > 0, mass, 1)


@segmentation_loss()
def topk(view: LossInputs, *, k: float, warmup: float, moment: EpochProgress = END) -> Tensor:
    """TopK cross-entropy (Wu, Shen, van den Hengel 2016): mean of the k per cent largest -ln p_t of the batch.

    K = max(1, floor(k/100 |V|)), counted over valid pixels only. Pixels that tie for the last places share them.
    `warmup`: share of the training over which k falls linearly from 100 to its value.
    """
    if warmup > 0 and moment.progress < warmup:
        k = 100 + (k - 100) * moment.progress / warmup
    return hardest_mean(view, k / 100)


def hardest_mean(view: LossInputs, share: float) -> Tensor:
    """Return the mean of the largest -ln p_t, over a share of the valid pixels of the batch, at least one."""
    weight, chosen = _hardest(view.nll.detach(), view, share)
    return view.pixel_map(view.nll * weight) if view.per_pixel else (view.nll * weight).sum() / chosen


@segmentation_loss()
def ohem_ce(view: LossInputs, *, threshold: float, minimum_share: float) -> Tensor:
    """Cross-entropy with online hard example mining (Shrivastava, Gupta, Girshick 2016).

    Mean of -ln p_t over the pixels with p_t below `threshold`; where these are fewer than `minimum_share` of the
    valid pixels of the batch, over that share, the hardest first. Ours: MONAI has none.
    """
    nll = view.nll
    hard = (nll.detach() > -math.log(threshold)).to(nll.dtype)
    if view.label_weights is not None:
        hard = hard * view.label_weights
    fewest, chosen = _hardest(nll.detach(), view, minimum_share)
    enough = hard.sum() >= chosen
    weight = torch.where(enough, hard, fewest)
    if view.per_pixel:
        return view.pixel_map(nll * weight)
    return (nll * weight).sum() / torch.where(enough, hard.sum(), chosen)


@segmentation_loss()
def distance_map_ce(
    view: LossInputs, *, own_distance: Tensor | None = None, map: str, weight: float, decay_px: float
) -> Tensor:
    """Distance-map cross-entropy (Caliva et al. 2019): mean over V of (1 + weight phi) (-ln p_t).

    d is the distance to the nearest pixel of another class. "reversed": phi = max d - d, over the pixel's class and
    image; "reversed_norm": divided by its maximum, in [0, 1]; "exp": phi = exp(-d / decay_px). phi is 0 where it would
    be 0/0 and in images of one class. The survey calls phi the inverse of d; it is the reverse.
    """
    distance = target_map(view, "own_distance", own_distance).flatten(1)
    phi = torch.exp(-distance / decay_px) * (distance > 0) if map == "exp" else reversed_distance(view, distance)
    if map == "reversed_norm":
        top = _largest_of_class(view, phi)
        phi = torch.where(top > 0, phi / torch.where(top > 0, top, 1), 0)
    return pixel_mean(view.nll * (1 + weight * phi), view)


def reversed_distance(view: LossInputs, distance: Tensor) -> Tensor:
    """Return max d - d [B, N], the maximum over the pixel's class in its image."""
    return _largest_of_class(view, distance) - distance


def _largest_of_class(view: LossInputs, values: Tensor) -> Tensor:
    known = values if view.flat_void is None else values.masked_fill(view.flat_void, 0)
    top = known.new_zeros(len(known), view.classes).scatter_reduce(1, view.flat_labels, known, "amax")
    return top.gather(1, view.flat_labels)


def _hardest(nll: Tensor, view: LossInputs, share: float) -> tuple[Tensor, Tensor]:
    """Return weights [B, N] that choose the hardest share of the valid pixels, and how many these are."""
    ranked = nll if view.flat_void is None else nll.masked_fill(view.flat_void, -1)
    if view.label_weights is not None:
        ranked = nll.masked_fill(view.label_weights == 0, -1)
    chosen = (view.n_valid.double() * share + 1e-9).floor().clamp_min(1)
    if on_host(nll):
        # several times faster than torch.kthvalue
        place = ranked.numel() - int(chosen)
        last = nll.new_tensor(np.partition(ranked.numpy(), place, axis=None)[place])
    else:
        order = ranked.flatten().sort(descending=True).values
        last = order.gather(0, chosen.long().unsqueeze(0) - 1)
    above = (ranked > last).to(nll.dtype)
    level = (ranked == last).to(nll.dtype)
    places = (chosen.to(nll.dtype) - above.sum()) / level.sum()
    return above.add_(level.mul_(places)), chosen.to(nll.dtype)


@segmentation_loss()
def focal(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    gamma: float,
    class_weight_exponent: float,
) -> Tensor:
    """Focal loss (Lin et al. 2017), softmax form: mean over V of w_y (1 - p_t)^gamma (-ln p_t).

    w_c = f_c^-class_weight_exponent. gamma = 0 is cross-entropy (divided by the count of pixels). The paper's own
    form is one sigmoid per class (`sigmoid_focal`); many libraries also divide by the number of classes.
    """
    weights = None
    if class_weight_exponent != 0:
        weights = class_weights(class_frequencies, class_weight_exponent, view.logits)
    return weighted_focal(view, weights=weights, gamma=gamma)


def weighted_focal(view: LossInputs, *, weights: Tensor | None, gamma: float) -> Tensor:
    """Focal loss with given class weights [C]; see `focal`."""
    return focal_mean(view, gamma, weights=None if weights is None else view.of_class(weights))


@segmentation_loss()
def sigmoid_focal(view: LossInputs, *, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss as Lin et al. (2017, section 3.2) wrote it: mean of a_t (1 - p_t)^gamma (-ln p_t), p = sigmoid(z).

    One sigmoid for every class, also where classes exclude each other; two classes are one sigmoid, of z_1 - z_0. a_t
    is alpha where the class is true and 1 - alpha elsewhere, None for no weights. The mean is over pixels and classes;
    the paper divides by the number of anchors with an object. Where classes overlap and alpha is None it is `focal`.
    MONAI's `FocalLoss(use_softmax=False)` is equal where no index is ignored, but weighs only with alpha.
    """
    each = one_against_the_rest(view)
    weights = None
    if alpha is not None:
        weights = alpha + (1 - 2 * alpha) * each.on_background()
    value = focal_mean(each, gamma, weights=weights)
    # a value for every pixel, where the target has one label for each
    return value if value.ndim == 0 or each is view else value.mean(1)


@segmentation_loss()
def ldam(view: LossInputs, *, class_frequencies: Tensor | Sequence[float], max_margin: float, scale: float) -> Tensor:
    """Label-distribution-aware margin loss (Cao et al. 2019): cross-entropy of scale (z - D_y e_y).

        D_c = max_margin (f_c / min f)^(-1/4)

    f are the class frequencies: the rarest class has the largest margin. The published scale of 30 belongs to logits
    that are cosines, in [-1, 1]; those of a segmentation network have no bound. The network is read without margins.
    Ours: MONAI has none.
    """
    shares = torch.as_tensor(class_frequencies, dtype=view.logits.dtype, device=view.logits.device)
    rarest = torch.where(shares > 0, shares, torch.inf).amin()
    margins = max_margin * (torch.where(shares > 0, shares, rarest) / rarest).pow(-0.25)
    pulled = view.logits.flatten(2).scatter_add(1, view.flat_labels.unsqueeze(1), -view.of_class(margins).unsqueeze(1))
    held = replace(view, logits=scale * pulled.view_as(view.logits))
    return pixel_mean(held.nll, held)


@segmentation_loss()
def balanced_softmax(view: LossInputs, *, class_frequencies: Tensor | Sequence[float]) -> Tensor:
    """Balanced softmax (Ren et al. 2020): cross-entropy of z + ln f, f the class frequencies.

    `logit_adjusted_ce` at tau = 1 under the name that it has there. Ours: MONAI has none.
    """
    value: Tensor = logit_adjusted_ce.formula(view, class_frequencies=class_frequencies, tau=1.0)
    return value
