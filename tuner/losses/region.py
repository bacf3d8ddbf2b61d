"""Overlap losses: Dice, Jaccard, Tversky and kin, from the sums of probabilities over each class.

TP_c, P_c, T_c are the sums over valid pixels of p_c t_c, p_c and t_c; FP_c = P_c - TP_c and FN_c = T_c - TP_c.
`batch` sums them over the whole batch (stable for rare classes), otherwise per image. `classes` averages over
the classes that are "present" in the unit, or over "all". `include_background` counts class 0 as well.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.autograd import safe_power
from tuner.losses.batch import Overlap, View
from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import class_mean, quotient


@segmentation_loss(sums=True, squares=True, logs=False)
def dice(view: View, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str) -> Tensor:
    """Dice loss (Milletari, Navab, Ahmadi 2016): mean_c 1 - (2 TP_c + s) / (P_c + T_c + s).

    `squared` takes the sum of squares for P_c, the denominator of the paper. A scalar in [0, 1].
    Equal to MONAI's `DiceLoss(softmax=True, smooth_nr=s, smooth_dr=s)` for classes="all".
    """
    of = overlap(view, batch=batch, include_background=include_background)
    return class_mean(dice_error(of, smooth=smooth, squared=squared), of.t, of.units, classes=classes)


@segmentation_loss(sums=True, squares=True, logs=False)
def log_cosh_dice(
    view: View, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Log-cosh Dice loss (Jadon 2020): ln cosh of the Dice loss, averaged over classes first. In [0, 0.434]."""
    of = overlap(view, batch=batch, include_background=include_background)
    error = class_mean(dice_error(of, smooth=smooth, squared=squared), of.t, of.units, classes=classes)
    return error + F.softplus(-2 * error) - math.log(2)


@segmentation_loss(sums=True, squares=True, logs=False)
def jaccard(view: View, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str) -> Tensor:
    """Jaccard (IoU) loss (Rahman and Wang 2016): mean_c 1 - (TP_c + s) / (P_c + T_c - TP_c + s). In [0, 1]."""
    of = overlap(view, batch=batch, include_background=include_background)
    union = predicted_mass(of, squared=squared) - of.tp + (of.t + smooth)
    index = quotient(of.tp + smooth, union, positive=smooth > 0)
    return class_mean(1 - index, of.t, of.units, classes=classes)


@segmentation_loss(sums=True, logs=False)
def tversky(
    view: View,
    *,
    alpha: float,
    beta: float | None,
    smooth: float,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Tversky loss (Salehi, Erdogmus, Gholipour 2017): mean_c 1 - TI_c. In [0, 1].

        TI_c = (TP_c + s) / (TP_c + alpha FP_c + beta FN_c + s)

    alpha weighs false positives, beta false negatives (None: 1 - alpha), as in the paper and MONAI; the survey's
    text has them the other way round. alpha = beta = 0.5 is Dice (with half its smooth), 1 and 1 are Jaccard.
    """
    of = overlap(view, batch=batch, include_background=include_background)
    return class_mean(tversky_error(of, alpha=alpha, beta=beta, smooth=smooth), of.t, of.units, classes=classes)


@segmentation_loss(sums=True, logs=False)
def focal_tversky(
    view: View,
    *,
    alpha: float,
    beta: float | None,
    gamma: float,
    smooth: float,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Focal Tversky loss (Abraham and Khan 2019): mean_c (1 - TI_c)^(1/gamma). In [0, 1].

    The exponent is 1/gamma, as in the paper; alpha weighs false positives here (the paper's alpha weighs false
    negatives). The survey sums over classes; the mean does not depend on how many there are.
    """
    of = overlap(view, batch=batch, include_background=include_background)
    error = tversky_error(of, alpha=alpha, beta=beta, smooth=smooth)
    return class_mean(safe_power(error, 1 / gamma), of.t, of.units, classes=classes)


def overlap(view: View, *, batch: bool, include_background: bool) -> Overlap:
    """Return the sums of a batch in the unit and for the classes that a loss asks for."""
    of = view.overlap(per_image=not batch)
    return of if include_background else of.without_background()


def predicted_mass(of: Overlap, *, squared: bool) -> Tensor:
    """Return P_c, or the sum of squared probabilities."""
    if not squared:
        return of.p
    if of.square is None:
        raise ValueError("this batch was read without squares")
    return of.square


def dice_error(of: Overlap, *, smooth: float, squared: bool = False) -> Tensor:
    """Return 1 - Dice of every unit and class, [U, C]."""
    mass = predicted_mass(of, squared=squared) + (of.t + smooth)
    return 1 - quotient(2 * of.tp + smooth, mass, positive=smooth > 0)


def tversky_error(of: Overlap, *, alpha: float, beta: float | None, smooth: float) -> Tensor:
    """Return 1 - TI of every unit and class, [U, C]; rounding never makes it negative."""
    missed = 1 - alpha if beta is None else beta
    mass = of.tp * (1 - alpha - missed) + of.p * alpha + (of.t * missed + smooth)
    index = quotient(of.tp + smooth, mass, positive=smooth > 0)
    return torch.clamp_min(1 - index, 0)
