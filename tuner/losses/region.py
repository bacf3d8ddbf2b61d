"""Region losses: Dice, Jaccard, Tversky, generalised Dice, sensitivity-specificity, MCC, Dice++, Wasserstein Dice.

TP_c, P_c, T_c are the sums over valid pixels of p_c t_c, p_c and t_c; FP_c = P_c - TP_c and FN_c = T_c - TP_c.
`batch` sums them over the whole batch (stable for rare classes), otherwise per image. `classes` averages over the
classes that are "present" in the unit, or over "all". `include_background` counts class 0 as well.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.autograd import class_mean, quotient, safe_power
from tuner.losses.batch import LossInputs, Overlap, segmentation_loss
from tuner.losses.dense import DenseInputs, with_target
from tuner.losses.neighbours import differs_around
from tuner.losses.softmax_stats import put_at

MIN_INDEX = 1e-12
"""Whatever Dice is below has its logarithm."""


@segmentation_loss(sums=True, squares=True, logs=False)
def dice(
    view: LossInputs, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Dice loss (Milletari, Navab, Ahmadi 2016): mean_c 1 - (2 TP_c + s) / (P_c + T_c + s).

    `squared` takes the sum of squares for P_c, the denominator of the paper. A scalar in [0, 1].
    Equal to MONAI's `DiceLoss(softmax=True, smooth_nr=s, smooth_dr=s)` for classes="all".
    """
    of = overlap(view, batch=batch, include_background=include_background)
    return class_mean(
        dice_error(of, smooth=smooth, squared=squared), of.t, of.units, classes=classes, weights=view.class_weights
    )


@segmentation_loss(sums=True, squares=True, logs=False)
def log_cosh_dice(
    view: LossInputs, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Log-cosh Dice loss (Jadon 2020): ln cosh of the Dice loss, averaged over classes first. In [0, 0.434]."""
    of = overlap(view, batch=batch, include_background=include_background)
    error = class_mean(
        dice_error(of, smooth=smooth, squared=squared), of.t, of.units, classes=classes, weights=view.class_weights
    )
    return error + F.softplus(-2 * error) - math.log(2)


@segmentation_loss(sums=True, squares=True, logs=False)
def log_dice(
    view: LossInputs, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Logarithmic Dice loss (Wong et al. 2018, its Dice term, gamma = 1): mean_c -ln ((2 TP_c + s) / (P_c + T_c + s)).

    The Dice half of `exponential_logarithmic` without its exponent. Not negative; a class that is missed altogether
    costs what `smooth` leaves. Ours: MONAI has none.
    """
    of = overlap(view, batch=batch, include_background=include_background)
    depth = -torch.log(dice_index(of, smooth=smooth, squared=squared).clamp_min(MIN_INDEX))
    return class_mean(depth, of.t, of.units, classes=classes, weights=view.class_weights)


@segmentation_loss(sums=True, squares=True, logs=False)
def jaccard(
    view: LossInputs, *, smooth: float, squared: bool, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Jaccard (IoU) loss (Rahman and Wang 2016): mean_c 1 - (TP_c + s) / (P_c + T_c - TP_c + s). In [0, 1].

    With soft labels TP_c is sum min(p, t), which makes it the Jaccard metric loss (Wang, Ning, Blaschko 2023).
    """
    of = overlap(view, batch=batch, include_background=include_background)
    union = predicted_mass(of, squared=squared) - of.tp + (of.t + smooth)
    index = quotient(of.tp + smooth, union, positive=smooth > 0)
    return class_mean(1 - index, of.t, of.units, classes=classes, weights=view.class_weights)


@segmentation_loss(sums=True, logs=False)
def tversky(
    view: LossInputs,
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
    return class_mean(
        tversky_error(of, alpha=alpha, beta=beta, smooth=smooth),
        of.t,
        of.units,
        classes=classes,
        weights=view.class_weights,
    )


@segmentation_loss(sums=True, logs=False)
def jdt(
    view: LossInputs,
    *,
    label_smoothing: float,
    window: int,
    alpha: float,
    beta: float,
    smooth: float,
    batch: bool,
    include_background: bool,
    classes: str,
) -> Tensor:
    """Jaccard, Dice and Tversky (semi)metric losses with boundary label smoothing (Wang et al. 2023). In [0, 1].

        mean_c 1 - (TP_c + s) / (TP_c + alpha FP_c + beta FN_c + s),   TP_c = sum min(p_c, t_c)

    t is the one-hot label, or (1 - e) t + e / C, e = `label_smoothing`, where the `window` around a pixel holds
    another class and no void pixel. alpha = beta = 1 is the Jaccard metric loss JML1, 1/2 the Dice semimetric loss
    DML1. What is new beside `jaccard`, `dice` and `tversky`, whose arithmetic this is, are the smoothed labels: without
    them they are equal. Soft targets are smoothed likewise, at borders of the likeliest class. Formula of the authors'
    `JDTLoss` for the dataset-level mean (mIoU-D). MONAI has none.
    """
    soft = with_target(view, smoothed_at_borders(view, label_smoothing, window))
    value: Tensor = tversky.formula(
        soft,
        alpha=alpha,
        beta=beta,
        smooth=smooth,
        batch=batch,
        include_background=include_background,
        classes=classes,
    )
    return value


def smoothed_at_borders(view: LossInputs, share: float, window: int) -> Tensor:
    """Return the target [B, C, N] of the logits' type, a share of it spread evenly over the classes at borders.

    A pixel is at a border if the window around it holds two classes and no pixel that does not count.
    """
    spread = share * _at_borders(view, window).to(view.logits.dtype)
    if isinstance(view, DenseInputs):
        kinds = 2 if view.overlapping else view.classes
        return torch.lerp(view.target, torch.full_like(view.target[:1, :1, :1], 1 / kinds), spread)
    target = (spread / view.classes).repeat(1, view.classes, 1)
    put_at(target, view.places, view.valid - spread[:, 0] * (1 - 1 / view.classes))
    return target


def _at_borders(view: LossInputs, window: int) -> Tensor:
    """Say of every pixel whether it is at a border, [B, 1, N], or [B, C, N] where classes overlap."""
    if not isinstance(view, DenseInputs):
        labels = view.labels.unsqueeze(1)
    elif view.overlapping:
        labels = (view.target > 0.5).view(view.logits.shape)
    else:
        labels = view.target.argmax(1).view(len(view.target), 1, *view.logits.shape[2:])
    # an eighth of the memory to compare
    small = labels.to(torch.int8 if view.classes < torch.iinfo(torch.int8).max else torch.int32)
    all_count = view.weight is None if isinstance(view, DenseInputs) else view.void is None
    if all_count:
        return differs_around(small, window).flatten(2)
    void = (view.valid <= 0).reshape(len(labels), -1, *labels.shape[2:])
    return differs_around(small, window, void).flatten(2)


@segmentation_loss(sums=True, logs=False)
def focal_tversky(
    view: LossInputs,
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
    missed, false = (sums[:, -of.t.shape[1] :] for sums in view.error_sums(per_image=not batch))
    error = exact_tversky_error(of, missed, false, alpha=alpha, beta=beta, smooth=smooth)
    return class_mean(safe_power(error, 1 / gamma), of.t, of.units, classes=classes, weights=view.class_weights)


def overlap(view: LossInputs, *, batch: bool, include_background: bool) -> Overlap:
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
    return 1 - dice_index(of, smooth=smooth, squared=squared)


def dice_index(of: Overlap, *, smooth: float, squared: bool = False) -> Tensor:
    """Return Dice of every unit and class, [U, C]."""
    mass = predicted_mass(of, squared=squared) + (of.t + smooth)
    return quotient(2 * of.tp + smooth, mass, positive=smooth > 0)


def tversky_error(of: Overlap, *, alpha: float, beta: float | None, smooth: float) -> Tensor:
    """Return 1 - TI of every unit and class, [U, C]; rounding never makes it negative."""
    missed = 1 - alpha if beta is None else beta
    mass = of.tp * (1 - alpha - missed) + of.p * alpha + (of.t * missed + smooth)
    index = quotient(of.tp + smooth, mass, positive=smooth > 0)
    return torch.clamp_min(1 - index, 0)


def exact_tversky_error(
    of: Overlap, missed: Tensor, false: Tensor, *, alpha: float, beta: float | None, smooth: float
) -> Tensor:
    """Return 1 - TI as its errors over the sum, [U, C]: for powers, which magnify what rounding leaves of 1 - TI.

    `missed` and `false` are `View.error_sums` of the classes of `of`.
    """
    errors = alpha * false + (1 - alpha if beta is None else beta) * missed
    return share_of(errors, of.tp + smooth)


def share_of(part: Tensor, rest: Tensor) -> Tensor:
    """Return part / (part + rest), 0 where both are 0."""
    whole = part + rest
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)


@segmentation_loss(sums=True, logs=False)
def sensitivity_specificity(
    view: LossInputs, *, sensitivity_ratio: float, smooth: float, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Sensitivity-specificity loss (Brosch et al. 2015). In [0, 1].

        mean_c r sum t_c (t_c - p_c)^2 / (T_c + s) + (1 - r) sum (1 - t_c)(t_c - p_c)^2 / (|V| - T_c + s)

    r = `sensitivity_ratio`, the price of missed pixels. The survey's eq. 18 subtracts one term from one, which
    rewards errors; this is the paper's sum of both errors.
    """
    missed, false = view.error_sums(per_image=not batch, power=2.0)
    of = view.overlap(per_image=not batch)
    rest = of.others(of.t)
    error = sensitivity_ratio * _rate(missed, of.t + smooth) + (1 - sensitivity_ratio) * _rate(false, rest + smooth)
    first = 0 if include_background else 1
    return class_mean(error[:, first:], of.t[:, first:], of.units, classes=classes, weights=view.class_weights)


def _rate(errors: Tensor, pixels: Tensor) -> Tensor:
    return errors / torch.where(pixels > 0, pixels, 1)


@segmentation_loss(sums=True, logs=False)
def generalized_dice(
    view: LossInputs, *, class_weighting: str, smooth: float, batch: bool, include_background: bool
) -> Tensor:
    """Generalized Dice loss (Sudre et al. 2017): 1 - (2 sum_c w_c TP_c + w s) / (sum_c w_c (P_c + T_c) + w s).

    w_c = 1 / T_c^2 ("square"), 1 / T_c ("simple") or 1 ("uniform"); an absent class takes the largest weight of the
    present ones. w is that largest weight, so that s counts pixels of the rarest class: MONAI's
    `GeneralizedDiceLoss`, which is equal at s = 0 and knows no ignore_index, adds s to sums of the order of 1 / T,
    and in a large image it outweighs them.
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
    # against weights of 1 / T^2 a constant is not small
    constant = smooth * weights.amax(1)
    found = 2 * (weights * of.tp).sum(1) + constant
    return 1 - quotient(found, (weights * (of.p + of.t)).sum(1) + constant)


@segmentation_loss(sums=True, logs=False)
def mcc(view: LossInputs, *, smooth: float, batch: bool, include_background: bool, classes: str) -> Tensor:
    """Matthews correlation coefficient loss (Abhishek and Hamarneh 2021), each class against the rest. In [0, 2].

    mean_c 1 - (TP TN - FP FN) / (sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)) + s)

    The four are shares of the pixels. s stands in the denominator only: in the numerator it would make a prediction
    without any object a perfect one, as both vanish there. A class that is absent or fills the unit has no
    correlation and costs 1, without a gradient. Equal to MONAI's `MCCLoss` without smoothing where every class is
    present; that takes counts (their product leaves float32), adds its constant under the root, and knows no
    ignore_index.
    """
    of = view.overlap(per_image=not batch)
    _, false = view.error_sums(per_image=not batch)
    n = of.valid_pixels().clamp_min(1)
    rest = of.others(of.t)
    # the root of four shares: the product of four counts leaves float32
    spread = (of.p / n) * (of.t / n) * (of.others(of.p) / n) * (rest / n)
    root = torch.where(spread > 0, torch.where(spread > 0, spread, 1).sqrt(), 0)
    # TP TN - FP FN = TP (T' - FP) - FP (T - TP), T' being the pixels of all others
    found = of.tp * rest - false * of.t
    deviation = root + smooth
    defined = deviation > 0
    correlation = torch.where(defined, found / n.square() / torch.where(defined, deviation, 1), 0)
    first = 0 if include_background else 1
    return class_mean(
        (1 - correlation)[:, first:], of.t[:, first:], of.units, classes=classes, weights=view.class_weights
    )


@segmentation_loss(sums=True, logs=False)
def dice_plus_plus(
    view: LossInputs, *, gamma: float, smooth: float, batch: bool, include_background: bool, classes: str
) -> Tensor:
    """Dice++ (Yeung et al. 2023): mean_c 1 - (2 TP + s) / (2 TP + FN_g + FP_g + s).

    FN_g = sum t (1 - p)^gamma and FP_g = sum (1 - t) p^gamma: unsure errors cost less, which calibrates. In [0, 1].
    Ours: MONAI has none.
    """
    missed, false = view.error_sums(per_image=not batch, power=gamma)
    of = view.overlap(per_image=not batch)
    index = quotient(2 * of.tp + smooth, 2 * of.tp + missed + false + smooth)
    first = 0 if include_background else 1
    return class_mean((1 - index)[:, first:], of.t[:, first:], of.units, classes=classes, weights=view.class_weights)


@segmentation_loss()
def generalized_wasserstein_dice(view: LossInputs, *, sibling_distance: float, weighting: str, smooth: float) -> Tensor:
    """Generalised Wasserstein Dice loss (Fidon et al. 2017), class 0 the background. In [0, 1].

    M[l, c] is 1 between background and any other class, and `sibling_distance` between two foreground classes;
    `wasserstein_dice` takes any matrix.
    """
    size, like = (view.classes, view.classes), view.logits
    distances = torch.full(size, sibling_distance, dtype=like.dtype, device=like.device)
    distances[0, :] = 1
    distances[:, 0] = 1
    distances.fill_diagonal_(0)
    return wasserstein_dice(view, distances=distances, weighting=weighting, background=0, smooth=smooth)


def wasserstein_dice(view: LossInputs, *, distances: Tensor, weighting: str, background: int, smooth: float) -> Tensor:
    """Wasserstein Dice with class distances M [C, C], symmetric, zero on the diagonal; divided by its maximum.

        W_n = sum_c M[y_n, c] p_n^c,   TP = sum_V [y != b] (M[y, b] - W)
        default: 1 - (2 TP + s) / (2 TP + sum_V W + s)
        gdl:     1 - (2 sum a_y (1 - W) + s) / (sum a_y (2 - W) + s),   a_l = 1 / (T_l + 1)

    Per image, then the mean over images with a valid pixel. The survey's eq. 9 prints only the diagonal, which is
    zero; this is the authors' code. "gdl" (Tilborghs et al. 2020) weighs classes by their volume.
    """
    matrix = distances.to(view.logits.device, view.logits.dtype)
    matrix = matrix / matrix.max()
    spread = torch.matmul(matrix, view.probabilities)
    error = spread.gather(1, view.flat_labels.unsqueeze(1)).squeeze(1)
    if weighting == "default":
        to_background = matrix[:, background][view.flat_labels]
        found = ((to_background - error) * (view.flat_labels != background) * view.valid).sum(1)
        index = quotient(2 * found + smooth, 2 * found + (error * view.valid).sum(1) + smooth)
    else:
        weights = (1 / (view.counts + 1)).gather(1, view.flat_labels) * view.valid
        index = quotient(2 * (weights * (1 - error)).sum(1) + smooth, (weights * (2 - error)).sum(1) + smooth)
    units = (view.counts.sum(1) > 0).to(index.dtype)
    return ((1 - index) * units).sum() / units.sum().clamp_min(1)
