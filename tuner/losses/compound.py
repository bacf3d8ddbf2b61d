"""Compound losses: a pixel term and an overlap term from one softmax."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tuner.errors import LossInputError
from tuner.losses.autograd import (
    class_mean,
    class_weights,
    focal_mean,
    mean_of,
    pixel_mean,
    power_sum,
    quotient,
    safe_power,
    weighed,
)
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import one_against_the_rest
from tuner.losses.pixel import hardest_mean, weighted_cross_entropy, weighted_focal
from tuner.losses.region import dice_error, exact_tversky_error, generalized_dice_error, overlap, share_of


@segmentation_loss(sums=True)
def combo(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    alpha: float,
    beta: float,
    class_weight_exponent: float,
    smooth: float,
) -> Tensor:
    """Combo loss (Taghanaki et al. 2019): alpha CE_w + (1 - alpha) (1 - Dice), sums over the batch.

    Two classes, the paper's form: CE_w = mean over V of beta (-ln p) on the foreground and (1 - beta) (-ln p) on the
    background; Dice of the foreground. More classes, the survey's eq. 32: CE_w is divided by the sum of its weights,
    Dice is averaged over all classes. The paper subtracts Dice, which differs by the constant 1 - alpha.
    Class weights f_c^-class_weight_exponent multiply beta and 1 - beta.
    """
    if view.first_foreground == 0:
        return _combo_of_overlapping(view, class_frequencies, alpha, beta, class_weight_exponent, smooth)
    balance = torch.full((view.classes,), beta, dtype=view.logits.dtype, device=view.logits.device)
    balance[0] = 1 - beta
    weights = balance
    if class_weight_exponent != 0:
        weights = balance * class_weights(class_frequencies, class_weight_exponent, view.logits)
    if view.classes == 2:
        return combo_parts(view, weights=weights, normalise="count", alpha=alpha, smooth=smooth, background=False)
    return combo_parts(view, weights=weights, normalise="weights", alpha=alpha, smooth=smooth, background=True)


def _combo_of_overlapping(
    view: LossInputs,
    frequencies: Tensor | Sequence[float],
    alpha: float,
    beta: float,
    exponent: float,
    smooth: float,
) -> Tensor:
    """Return the two-class form for every class against the rest, averaged over the classes."""
    value = view.nll * (beta + (1 - 2 * beta) * view.on_background())
    if exponent != 0:
        value = value * view.of_class(class_weights(frequencies, exponent, view.logits))
    of = overlap(view, batch=True, include_background=True)
    error = class_mean(dice_error(of, smooth=smooth), of.t, of.units, classes="all", weights=view.class_weights)
    return alpha * pixel_mean(value, view) + (1 - alpha) * error


def combo_parts(
    view: LossInputs, *, weights: Tensor, normalise: str, alpha: float, smooth: float, background: bool
) -> Tensor:
    """Return alpha CE_w + (1 - alpha) Dice loss with given class weights [C]."""
    of = overlap(view, batch=True, include_background=background)
    error = class_mean(dice_error(of, smooth=smooth), of.t, of.units, classes="all", weights=view.class_weights)
    entropy = weighted_cross_entropy(view, weights=weights, normalise=normalise)
    return alpha * entropy + (1 - alpha) * error


@segmentation_loss(sums=True)
def exponential_logarithmic(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    dice_weight: float,
    gamma: float,
    smooth: float,
    batch: bool,
    classes: str,
) -> Tensor:
    """Exponential logarithmic loss (Wong et al. 2018).

        L = w mean_c (-ln D_c)^gamma + (1 - w) mean_V w_y (-ln p_t)^gamma,   w_c = sqrt(sum_k f_k / f_c)

    D_c = (2 TP_c + s) / (P_c + T_c + s), s = `smooth` (1 in the paper), w = `dice_weight`. The logarithms are of Dice
    and of p_t (the survey prints the logarithm of the losses, under which a perfect prediction is infinitely bad).
    """
    shares = torch.as_tensor(class_frequencies, dtype=view.logits.dtype, device=view.logits.device)
    occurs = shares > 0
    weights = torch.where(occurs, (shares.sum() / torch.where(occurs, shares, 1)).sqrt(), 1)
    of = overlap(view, batch=batch, include_background=True)
    missed, false = view.error_sums(per_image=not batch)
    # a power magnifies what rounding leaves of a Dice that is nearly 1, so there its distance from 1 is taken
    error = share_of(missed + false, 2 * of.tp + smooth)
    index = quotient(2 * of.tp + smooth, of.p + (of.t + smooth), positive=smooth > 0)
    depth = torch.where(error < 0.5, -torch.log1p(-error.clamp_max(0.5)), -torch.log(index.clamp(1e-12, 1)))
    rough = class_mean(safe_power(depth, gamma), of.t, of.units, classes=classes, weights=view.class_weights)
    of_pixel = weighed(view, view.of_class(weights))
    assert of_pixel is not None
    fine = mean_of(power_sum(view.exact_nll if gamma < 1 else view.nll, gamma, of_pixel), view)
    return dice_weight * rough + (1 - dice_weight) * fine


@segmentation_loss(sums=True)
def unified_focal(
    view: LossInputs, *, weight: float, delta: float, gamma: float, asymmetric: bool, smooth: float, classes: str
) -> Tensor:
    """Unified focal loss (Yeung et al. 2022): weight * focal + (1 - weight) * focal Tversky, per image.

    Class 0 is common (b), all others rare (f); TI_c weighs false negatives by delta, false positives by 1 - delta.
    asymmetric: focal = mean_V delta (-ln p_f) on rare, (1 - delta)(1 - p_b)^gamma (-ln p_b) on common pixels;
    Tversky = mean of (1 - TI_f)^(1 - gamma) and 1 - TI_b. Otherwise both exponents hold for every class, as in the
    authors' code (the paper swaps gamma and 1 - gamma there; equal at 0.5).
    """
    common = view.on_background()
    balance = delta + (1 - 2 * delta) * common
    focused = common if asymmetric else None
    pixels = focal_mean(view, gamma, weights=balance, focused=focused)
    of = overlap(view, batch=False, include_background=True)
    missed, false = view.error_sums(per_image=True)
    error = exact_tversky_error(of, missed, false, alpha=1 - delta, beta=delta, smooth=smooth)
    sharp = safe_power(error, 1 - gamma)
    if asymmetric and view.first_foreground == 1:
        sharp = torch.cat([error[:, :1], sharp[:, 1:]], 1)
    regions = class_mean(sharp, of.t, of.units, classes=classes, weights=view.class_weights)
    return weight * pixels + (1 - weight) * regions


def _weights(view: LossInputs, class_frequencies: Tensor | Sequence[float], exponent: float) -> Tensor | None:
    """Return the class weights [C] f_c^-exponent; None where all are 1."""
    return None if exponent == 0 else class_weights(class_frequencies, exponent, view.logits)


def _mean_dice_error(
    view: LossInputs, smooth: float, *, squared: bool, batch: bool, background: bool, classes: str
) -> Tensor:
    """Return 1 - Dice, averaged over the classes."""
    of = overlap(view, batch=batch, include_background=background)
    error = dice_error(of, smooth=smooth, squared=squared)
    return class_mean(error, of.t, of.units, classes=classes, weights=view.class_weights)


@segmentation_loss(sums=True, squares=True)
def dice_cross_entropy(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    weight: float,
    class_weight_exponent: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Dice and cross-entropy: weight * cross-entropy + (1 - weight) * Dice loss.

    The presets nnunet_2d and nnunet_3d are nnU-Net's (Isensee et al. 2021), halved: Dice of all classes but the
    background, over the batch or per image as its plans have it. Ours: MONAI's `DiceCELoss` is equal with
    lambdas 1 - weight and weight and classes="all", but knows no ignore_index.
    """
    weights = _weights(view, class_frequencies, class_weight_exponent)
    error = _mean_dice_error(view, smooth, squared=squared, batch=batch, background=include_background, classes=classes)
    return weight * weighted_cross_entropy(view, weights=weights) + (1 - weight) * error


@segmentation_loss(sums=True, squares=True)
def bce_dice(
    view: LossInputs,
    *,
    weight: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Binary cross-entropy and Dice of sigmoids: weight * BCE + (1 - weight) * Dice loss.

    One sigmoid for every class, also where classes exclude each other; two classes are one sigmoid, of z_1 - z_0, and
    one Dice, that of class 1. BCE is the mean over pixels and classes. The arithmetic is that of `dice_cross_entropy`,
    which it is where classes overlap. MONAI's `DiceCELoss(sigmoid=True)` is equal for one channel with lambdas
    1 - weight and weight.
    """
    each = one_against_the_rest(view)
    value: Tensor = dice_cross_entropy.formula(
        each,
        class_frequencies=(),
        weight=weight,
        class_weight_exponent=0.0,
        smooth=smooth,
        squared=squared,
        batch=batch,
        # of two classes the background has no channel
        include_background=include_background or each.classes == 1,
        classes=classes,
    )
    return value


@segmentation_loss(sums=True, squares=True)
def marginal_dice_cross_entropy(
    view: LossInputs,
    *,
    labelled: Tensor | None = None,
    weight: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Marginal Dice and cross-entropy for images in which some classes are not labelled (Shi et al. 2021).

        q_0 = p_0 + sum of p_c over the classes that are not labelled,   q_c = p_c for those that are

    and `dice_cross_entropy` of q: where a class is not labelled, its pixels are background, which must not be held
    against it. labelled [B, C] bool says which classes are, image by image (the background always is); where it is left
    out, those that occur in the image. The sum is taken of logits, ln sum exp z_c. Equal to `dice_cross_entropy` where
    every class is labelled. MONAI's `MaskedDiceLoss` masks pixels, not classes; it has no marginal loss.
    """
    known = _labelled_classes(view, labelled)
    labels = torch.where(known.gather(1, view.flat_labels), view.flat_labels, 0).view_as(view.labels)
    by_class = known.view(*known.shape, *(1,) * (view.labels.ndim - 1))
    # what stands on void pixels may be infinite
    logits = view.clean_logits
    rest = torch.where(by_class[:, 1:], -torch.inf, logits[:, 1:])
    background = torch.cat([logits[:, :1], rest], 1).logsumexp(1, keepdim=True)
    merged = torch.cat([background, torch.where(by_class[:, 1:], logits[:, 1:], -torch.inf)], 1)
    value: Tensor = dice_cross_entropy.formula(
        replace(view, logits=merged, labels=labels),
        class_frequencies=(),
        weight=weight,
        class_weight_exponent=0.0,
        smooth=smooth,
        squared=squared,
        batch=batch,
        include_background=include_background,
        classes=classes,
    )
    return value


def _labelled_classes(view: LossInputs, labelled: Tensor | None) -> Tensor:
    """Return which classes are labelled in every image, [B, C] bool, the background always."""
    if labelled is None:
        known = view.counts > 0
    else:
        if labelled.shape != view.counts.shape:
            raise LossInputError(
                f"labelled is {list(labelled.shape)}, but logits are {list(view.logits.shape)}: it must be "
                f"{list(view.counts.shape)}, for every image and class whether the class is labelled there."
            )
        known = labelled.to(view.logits.device) > 0
    return torch.cat([torch.ones_like(known[:, :1]), known[:, 1:]], 1)


@segmentation_loss(sums=True, squares=True)
def dice_focal(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    weight: float,
    gamma: float,
    class_weight_exponent: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Dice and focal: weight * focal loss (softmax form) + (1 - weight) * Dice loss.

    Ours: MONAI's `DiceFocalLoss` takes sigmoids for the focal part, divides it by the number of classes, and knows no
    ignore_index.
    """
    weights = _weights(view, class_frequencies, class_weight_exponent)
    error = _mean_dice_error(view, smooth, squared=squared, batch=batch, background=include_background, classes=classes)
    return weight * weighted_focal(view, weights=weights, gamma=gamma) + (1 - weight) * error


@segmentation_loss(sums=True, squares=True)
def dice_topk(
    view: LossInputs,
    *,
    weight: float,
    k: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Dice and TopK (Ma et al. 2021): weight * TopK cross-entropy + (1 - weight) * Dice loss.

    Ours: MONAI has none, and nnU-Net's counts void pixels among the hardest.
    """
    error = _mean_dice_error(view, smooth, squared=squared, batch=batch, background=include_background, classes=classes)
    return weight * hardest_mean(view, k / 100) + (1 - weight) * error


@segmentation_loss(sums=True)
def generalized_dice_focal(
    view: LossInputs,
    *,
    class_frequencies: Tensor | Sequence[float],
    weight: float,
    gamma: float,
    class_weight_exponent: float,
    class_weighting: str,
    smooth: float,
    batch: bool,
    include_background: bool,
) -> Tensor:
    """Generalized Dice and focal: weight * focal loss (softmax form) + (1 - weight) * generalized Dice loss.

    Ours: MONAI's `GeneralizedDiceFocalLoss` takes sigmoids for the focal part, divides it by the number of classes, and
    knows no ignore_index.
    """
    weights = _weights(view, class_frequencies, class_weight_exponent)
    of = overlap(view, batch=batch, include_background=include_background)
    error = generalized_dice_error(of, class_weighting=class_weighting, smooth=smooth)
    rough = (error * of.units).sum() / of.units.sum().clamp_min(1)
    return weight * weighted_focal(view, weights=weights, gamma=gamma) + (1 - weight) * rough
