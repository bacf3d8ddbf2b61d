"""Overlap losses that count errors otherwise than Dice does."""

import torch
from torch import Tensor

from tuner.losses.batch import Overlap, View
from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import class_mean, quotient
from tuner.losses.region import overlap


@segmentation_loss(sums=True, squares=True, logs=False)
def sensitivity_specificity(
    view: View, *, sensitivity_ratio: float, smooth: float, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Sensitivity-specificity loss (Brosch et al. 2015). In [0, 1].

        mean_c r sum t_c (t_c - p_c)^2 / (T_c + s) + (1 - r) sum (1 - t_c)(t_c - p_c)^2 / (|V| - T_c + s)

    r = `sensitivity_ratio`, the price of missed pixels. The survey's eq. 18 subtracts one term from one, which
    rewards errors; this is the paper's sum of both errors.
    """
    missed, false = squared_errors(view)
    of = view.overlap(per_image=not batch)
    if batch:
        missed, false = missed.sum(0, keepdim=True), false.sum(0, keepdim=True)
    others = of.t.sum(1, keepdim=True) - of.t
    error = sensitivity_ratio * _rate(missed, of.t + smooth) + (1 - sensitivity_ratio) * _rate(false, others + smooth)
    first = 0 if include_background else 1
    return class_mean(error[:, first:], of.t[:, first:], of.units, classes=classes)


def squared_errors(view: View) -> tuple[Tensor, Tensor]:
    """Return the sums of (1 - p_c)^2 over the pixels of c, and of p_c^2 over all others, each [B, C]."""
    of = view.overlap(per_image=True)
    if of.square is None:
        raise ValueError("this view was read without squares")
    missed = view.class_sums(view.wrong.square())
    # p^2 = (1 - p)^2 - 1 + 2 p: the sum over the class's own pixels needs no pass of its own
    return missed, of.square - (missed - of.t + 2 * of.tp)


def _rate(errors: Tensor, pixels: Tensor) -> Tensor:
    return errors / torch.where(pixels > 0, pixels, 1)


@segmentation_loss(sums=True, logs=False)
def generalized_dice(
    view: View, *, class_weighting: str, smooth: float, batch: bool, include_background: bool
) -> Tensor:
    """Generalized Dice loss (Sudre et al. 2017): 1 - (2 sum_c w_c TP_c + s) / (sum_c w_c (P_c + T_c) + s).

    w_c = 1 / T_c^2 ("square"), 1 / T_c ("simple") or 1 ("uniform"); an absent class takes the largest weight of the
    present ones. Ours equals MONAI's `GeneralizedDiceLoss`, which knows no ignore_index.
    """
    of = overlap(view, batch=batch, include_background=include_background)
    error = generalized_dice_error(of, class_weighting=class_weighting, smooth=smooth)
    return (error * of.units).sum() / of.units.sum().clamp_min(1)


def generalized_dice_error(of: Overlap, *, class_weighting: str, smooth: float) -> Tensor:
    """Return 1 - generalized Dice of every unit, [U]."""
    power = {"square": 2, "simple": 1, "uniform": 0}[class_weighting]
    present = of.t > 0
    weights = torch.where(present, torch.where(present, of.t, 1).pow(-power), 0)
    largest = weights.amax(1, keepdim=True)
    weights = torch.where(present, weights, torch.where(largest > 0, largest, 1))
    found = 2 * (weights * of.tp).sum(1) + smooth
    return 1 - quotient(found, (weights * (of.p + of.t)).sum(1) + smooth)


@segmentation_loss(sums=True, logs=False)
def mcc(view: View, *, smooth: float, batch: bool, include_background: bool, classes: str) -> Tensor:
    """Matthews correlation coefficient loss (Abhishek and Hamarneh 2021), each class against the rest. In [0, 2].

    mean_c 1 - (TP TN - FP FN + s) / (sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)) + s)

    The four are shares of the pixels. Ours equals MONAI's `MCCLoss`, which takes counts (their product leaves float32)
    and knows no ignore_index.
    """
    of = view.overlap(per_image=not batch)
    n = of.t.sum(1, keepdim=True)
    # shares instead of counts: the product of four counts leaves float32
    n = n.clamp_min(1)
    tp, p, t = of.tp / n, of.p / n, of.t / n
    spread = (p * t * (1 - p) * (1 - t)).clamp_min(0)
    root = torch.where(spread > 0, torch.where(spread > 0, spread, 1).sqrt(), 0)
    # TP TN - FP FN = n TP - P T, with all four as shares
    correlation = quotient(tp - p * t + smooth, root + smooth)
    first = 0 if include_background else 1
    return class_mean((1 - correlation)[:, first:], of.t[:, first:], of.units, classes=classes)


@segmentation_loss(sums=True, logs=False)
def dice_plus_plus(
    view: View, *, gamma: float, smooth: float, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Dice++ (Yeung et al. 2023): mean_c 1 - (2 TP + s) / (2 TP + FN_g + FP_g + s).

    FN_g = sum t (1 - p)^gamma and FP_g = sum (1 - t) p^gamma: unsure errors cost less, which calibrates. In [0, 1].
    Ours: MONAI has none.
    """
    powers = view.probabilities.pow(gamma).sum(-1)
    false = powers - view.class_sums(view.p_true.pow(gamma))
    missed = view.class_sums(view.wrong.pow(gamma))
    of = view.overlap(per_image=not batch)
    if batch:
        missed, false = missed.sum(0, keepdim=True), false.sum(0, keepdim=True)
    index = quotient(2 * of.tp + smooth, 2 * of.tp + missed + false.clamp_min(0) + smooth)
    first = 0 if include_background else 1
    return class_mean((1 - index)[:, first:], of.t[:, first:], of.units, classes=classes)
