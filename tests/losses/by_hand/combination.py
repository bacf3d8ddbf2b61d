"""Combinations: a weighted pixel term and an overlap term."""

from typing import Any

import numpy as np

from tests.losses.by_hand.pixel import cross_entropy, focal, topk
from tests.losses.by_hand.reading import Array, Labels, class_average, one_against_the_rest, read
from tests.losses.by_hand.region import dice, generalized_dice


def combo(
    z: Array,
    y: Labels,
    *,
    alpha: float,
    beta: float = 0.5,
    smooth: float = 1.0,
    form: str = "survey",
    class_weights: list[float] | None = None,
) -> float:
    b = read(z, y)
    if "multi-class" in form:
        entropy = cross_entropy(z, y, class_weights=class_weights)
        return alpha * entropy + (1 - alpha) * dice(z, y, smooth=smooth, classes="all")
    p, t = b.p[:, 1][b.v], b.t[:, 1][b.v]
    entropy = float((-beta * t * np.log(p) - (1 - beta) * (1 - t) * np.log(1 - p)).mean())
    overlap = float((2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth))
    rest = -overlap if form.startswith("original") else 1 - overlap
    return alpha * entropy + (1 - alpha) * rest


def exp_log(
    z: Array,
    y: Labels,
    *,
    w_dice: float,
    w_ce: float,
    gamma_dice: float,
    gamma_ce: float,
    class_freq: list[float] | None,
    eps: float = 1.0,
    classes: str = "all",
    batch: bool = True,
) -> float:
    b = read(z, y)
    w = np.ones(b.classes) if class_freq is None else np.sqrt(np.sum(class_freq) / np.array(class_freq))
    rough = []
    for unit in b.units(batch=batch):
        axes = (0, *unit.axes)
        d = (2 * (unit.p * unit.t).sum(axes) + eps) / ((unit.p + unit.t).sum(axes) + eps)
        rough.append(class_average((-np.log(d)) ** gamma_dice, unit.t.sum(axes), classes))
    return float(w_dice * np.mean(rough) + w_ce * (w[b.labels] * b.nll**gamma_ce).mean())


def unified_focal(
    z: Array,
    y: Labels,
    *,
    delta: float,
    gamma: float,
    asym: bool,
    eps: float = 0.0,
    classes: str = "all",
    rare: list[int] | None = None,
    **weight: float,
) -> float:
    lam = weight["lambda"]
    b = read(z, y)
    common = b.labels == 0
    focused = (1 - np.exp(-b.nll)) ** gamma * b.nll
    pixels = np.where(common, (1 - delta) * focused, delta * (b.nll if asym else focused))
    regions = []
    for unit in b.units(batch=False):
        axes = (0, *unit.axes)
        tp, p, t = (unit.p * unit.t).sum(axes), unit.p.sum(axes), unit.t.sum(axes)
        error = 1 - (tp + eps) / (tp + delta * (t - tp) + (1 - delta) * (p - tp) + eps)
        bent = error ** (1 - gamma)
        if asym:
            bent[0] = error[0]
        regions.append(class_average(bent, t, classes))
    return float(lam * pixels.mean() + (1 - lam) * np.mean(regions))


def dice_cross_entropy(
    z: Array, y: Labels, *, weight: float, class_weights: list[float] | None = None, **overlap: Any
) -> float:
    return weight * cross_entropy(z, y, class_weights=class_weights) + (1 - weight) * dice(z, y, **overlap)


def dice_focal(
    z: Array, y: Labels, *, weight: float, gamma: float, class_weights: list[float] | None = None, **overlap: Any
) -> float:
    return weight * focal(z, y, gamma=gamma, alpha=class_weights) + (1 - weight) * dice(z, y, **overlap)


def dice_topk(z: Array, y: Labels, *, weight: float, k: float, **overlap: Any) -> float:
    return weight * topk(z, y, k_percent=k) + (1 - weight) * dice(z, y, **overlap)


def generalized_dice_focal(
    z: Array, y: Labels, *, weight: float, gamma: float, class_weighting: str, smooth: float, batch: bool
) -> float:
    rough = generalized_dice(z, y, smooth=smooth, w_type=class_weighting, batch=batch)
    return weight * focal(z, y, gamma=gamma) + (1 - weight) * rough


def bce_dice(
    z: Array,
    y: Labels,
    *,
    weight: float,
    smooth: float,
    squared: bool,
    batch: bool,
    include_background: bool,
    classes: str,
) -> float:
    b = read(z, y)
    score, _ = one_against_the_rest(b)
    p = 1 / (1 + np.exp(-score))
    errors, entropies = [], []
    for image in [slice(None)] if batch else [slice(n, n + 1) for n in range(len(y)) if b.v[n].any()]:
        of_class, sizes = [], []
        for k in range(0 if include_background or b.classes == 2 else 1, p.shape[1]):
            v = b.v[image]
            found, truth = p[image, k][v], one_against_the_rest(b)[1][image, k][v]
            mass = (found**2).sum() if squared else found.sum()
            of_class.append(1 - (2 * (found * truth).sum() + smooth) / (mass + truth.sum() + smooth))
            sizes.append(truth.sum())
        errors.append(class_average(np.array(of_class), np.array(sizes), classes))
    for k in range(p.shape[1]):
        found, truth = p[:, k][b.v], one_against_the_rest(b)[1][:, k][b.v]
        entropies.append(-(truth * np.log(found) + (1 - truth) * np.log(1 - found)).mean())
    return float(weight * np.mean(entropies) + (1 - weight) * np.mean(errors))


def marginal_dice_cross_entropy(
    z: Array, y: Labels, *, weight: float, labelled: list[list[int]] | None = None, **overlap: Any
) -> float:
    b = read(z, y)
    merged, target = b.z.copy(), y.copy()
    for n in range(len(y)):
        known = {int(label) for label in y[n][b.v[n]]} if labelled is None else set(np.nonzero(labelled[n])[0])
        for c in range(1, b.classes):
            if c not in known:
                merged[n, 0] = np.log(np.exp(merged[n, 0]) + np.exp(b.z[n, c]))
                merged[n, c] = -1e3
                target[n][target[n] == c] = 0
    return dice_cross_entropy(merged, target, weight=weight, **overlap)
