"""Region losses, unit by unit and class by class."""

import math
from typing import Any

import numpy as np

from tests.losses.by_hand.reading import (
    VOID,
    Array,
    Batch,
    Labels,
    class_average,
    one_against_the_rest,
    ratio,
    read,
)


def _counts(b: Batch) -> tuple[Array, Array, Array]:
    axes = (0, *b.axes)
    return (b.p * b.t).sum(axes), b.p.sum(axes), b.t.sum(axes)


def _average(z: Array, y: Labels, value: Any, *, batch: bool, include_background: bool, classes: str) -> float:
    first = 0 if include_background else 1
    found = []
    for unit in read(z, y).units(batch=batch):
        of = value(unit)
        found.append(class_average(of[first:], unit.t.sum((0, *unit.axes))[first:], classes))
    return float(np.mean(found))


def dice(
    z: Array,
    y: Labels,
    *,
    smooth: float = 0.0,
    squared: bool = False,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
) -> float:
    def error(b: Batch) -> Array:
        tp, p, t = _counts(b)
        mass = (b.p**2).sum((0, *b.axes)) if squared else p
        return 1 - ratio(2 * tp + smooth, mass + t + smooth)

    return _average(z, y, error, batch=batch, include_background=include_background, classes=classes)


def log_cosh_dice(z: Array, y: Labels, **options: Any) -> float:
    return math.log(math.cosh(dice(z, y, **options)))


def jaccard(
    z: Array,
    y: Labels,
    *,
    smooth: float = 0.0,
    squared: bool = False,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
) -> float:
    def error(b: Batch) -> Array:
        tp, p, t = _counts(b)
        mass = (b.p**2).sum((0, *b.axes)) if squared else p
        return 1 - ratio(tp + smooth, mass + t - tp + smooth)

    return _average(z, y, error, batch=batch, include_background=include_background, classes=classes)


def focal_tversky(
    z: Array,
    y: Labels,
    *,
    fp_weight: float,
    fn_weight: float,
    gamma: float = 1.0,
    smooth: float = 0.0,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
    reduce: str = "mean",
) -> float:
    def error(b: Batch) -> Array:
        tp, p, t = _counts(b)
        index = ratio(tp + smooth, tp + fp_weight * (p - tp) + fn_weight * (t - tp) + smooth)
        return np.maximum(1 - index, 0) ** (1 / gamma)

    value = _average(z, y, error, batch=batch, include_background=include_background, classes=classes)
    return value * read(z, y).classes if reduce == "sum" else value


def wasserstein(
    z: Array, y: Labels, *, M: list[list[float]], weighting: str = "default", background: int = 0, eps: float = 0.0
) -> float:
    m = np.array(M, float) / np.max(M)
    found = []
    for b in read(z, y).units(batch=False):
        p, labels = np.moveaxis(b.p, 1, -1)[b.v], b.labels
        w = (m[labels] * p).sum(1)
        if weighting.lower() == "gdl":
            a = np.array([1 / ((labels == c).sum() + 1) for c in range(b.classes)])[labels]
            found.append(1 - (2 * (a * (1 - w)).sum() + eps) / ((a * (2 - w)).sum() + eps))
        else:
            tp = ((m[labels, background] - w) * (labels != background)).sum()
            found.append(1 - ratio(2 * tp + eps, 2 * tp + w.sum() + eps))
    return float(np.mean(found))


def lovasz(z: Array, y: Labels, *, classes: str = "present", per_image: bool = False) -> float:
    def value(b: Batch) -> Array:
        found = []
        for c in range(b.classes):
            p, t = b.p[:, c][b.v], b.t[:, c][b.v]
            order = np.argsort(-np.abs(t - p), kind="stable")
            found.append(np.abs(t - p)[order] @ _jaccard_steps(t[order]))
        return np.array(found)

    return _average(z, y, value, batch=not per_image, include_background=True, classes=classes)


def lovasz_hinge(z: Array, y: Labels, *, per_image: bool = False, classes: str = "all") -> float:
    found = []
    for b in read(z, y).units(batch=not per_image):
        of_class, sizes = [], []
        for score, truth in zip(*(np.moveaxis(maps, 1, 0) for maps in one_against_the_rest(b)), strict=True):
            t = truth[b.v]
            error = 1 - score[b.v] * (2 * t - 1)
            order = np.argsort(-error, kind="stable")
            of_class.append(np.maximum(error[order], 0) @ _jaccard_steps(t[order]))
            sizes.append(t.sum())
        found.append(class_average(np.array(of_class), np.array(sizes), classes))
    return float(np.mean(found))


def log_dice(z: Array, y: Labels, *, smooth: float, squared: bool = False, **of: Any) -> float:
    def depth(b: Batch) -> Array:
        tp, p, t = _counts(b)
        mass = (b.p**2).sum((0, *b.axes)) if squared else p
        return -np.log((2 * tp + smooth) / (mass + t + smooth))

    return _average(z, y, depth, **({"batch": True, "include_background": True} | of))


def jdt(
    z: Array,
    y: Labels,
    *,
    label_smoothing: float,
    window: int,
    alpha: float,
    beta: float,
    smooth: float,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "present",
) -> float:
    first = 0 if include_background else 1
    found = []
    for b in read(z, y).units(batch=batch):
        t = _smoothed(b, label_smoothing, window)
        axes = (0, *b.axes)
        tp, p, size = np.minimum(b.p, t).sum(axes), b.p.sum(axes), t.sum(axes)
        error = 1 - (tp + smooth) / (tp + alpha * (p - tp) + beta * (size - tp) + smooth)
        found.append(class_average(error[first:], size[first:], classes))
    return float(np.mean(found))


def _smoothed(b: Batch, share: float, window: int) -> Array:
    """Labels of which a share is spread over the classes where a window holds two of them and no void."""
    t = b.t.copy()
    for n, *place in zip(*np.nonzero(b.v), strict=True):
        around = (n, *(slice(max(0, i - window // 2), i + window // 2 + 1) for i in place))
        seen = set(b.y[around].ravel())
        if len(seen) > 1 and VOID not in seen:
            here = (n, slice(None), *place)
            t[here] = (1 - share) * t[here] + share / b.classes
    return t


def _jaccard_steps(t: Array) -> Array:
    union = t.sum() + (1 - t).cumsum()
    j = 1 - (t.sum() - t.cumsum()) / union
    return np.diff(j, prepend=0.0)


def sensitivity_specificity(
    z: Array,
    y: Labels,
    *,
    r: float,
    smooth: float = 0.0,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
) -> float:
    def error(b: Batch) -> Array:
        axes = (0, *b.axes)
        square = (b.t - b.p) ** 2
        t, n = b.t.sum(axes), b.v.sum()
        missed, false = (b.t * square).sum(axes), ((1 - b.t) * square).sum(axes)
        return r * missed / np.where(t + smooth > 0, t + smooth, 1) + (1 - r) * false / (n - t + smooth)

    return _average(z, y, error, batch=batch, include_background=include_background, classes=classes)


def student_t(z: Array, y: Labels, *, nu: float, inv_scale: float = 1.0) -> float:
    found = []
    for b in read(z, y).units(batch=False):
        d = float(b.v.sum())
        for c in range(1, b.classes):
            s = ((b.p[:, c] - b.t[:, c])[b.v] ** 2).sum()
            half = (nu + d) / 2
            constant = -math.lgamma(half) + math.lgamma(nu / 2) + d / 2 * math.log(math.pi * nu / inv_scale)
            found.append(constant + half * math.log(1 + inv_scale * s / nu))
    return float(np.mean(found))


def generalized_dice(
    z: Array,
    y: Labels,
    *,
    smooth: float = 1e-5,
    w_type: str = "square",
    batch: bool = False,
    include_background: bool = True,
) -> float:
    first, power = (0 if include_background else 1), {"square": 2, "simple": 1, "uniform": 0}[w_type]
    found = []
    for b in read(z, y).units(batch=batch):
        tp, p, t = (part[first:] for part in _counts(b))
        w = np.array([1 / n**power if n > 0 else 0.0 for n in t])
        w[t == 0] = w.max() if w.max() > 0 else 1.0
        # counted in pixels of the rarest class
        s = smooth * w.max()
        found.append(1 - (2 * (w * tp).sum() + s) / ((w * (p + t)).sum() + s))
    return float(np.mean(found))


def mcc(
    z: Array,
    y: Labels,
    *,
    eps: float = 0.0,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
) -> float:
    def error(b: Batch) -> Array:
        tp, p, t = _counts(b)
        n = b.v.sum()
        fp, fn = p - tp, t - tp
        tn = n - tp - fp - fn
        # eps is added to a share of the pixels
        up = (tp * tn - fp * fn) / n**2
        down = np.sqrt(np.maximum((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), 0)) / n**2
        return 1 - up / np.where(down + eps > 0, down + eps, 1)

    return _average(z, y, error, batch=batch, include_background=include_background, classes=classes)


def dice_plus_plus(
    z: Array,
    y: Labels,
    *,
    gamma: float,
    smooth: float,
    batch: bool = True,
    include_background: bool = True,
    classes: str = "all",
) -> float:
    def error(b: Batch) -> Array:
        axes, v = (0, *b.axes), b.v[:, None]
        tp = (b.p * b.t).sum(axes)
        missed = ((b.t * (1 - b.p)) ** gamma * v).sum(axes)
        false = (((1 - b.t) * b.p) ** gamma * v).sum(axes)
        return 1 - (2 * tp + smooth) / (2 * tp + missed + false + smooth)

    return _average(z, y, error, batch=batch, include_background=include_background, classes=classes)
