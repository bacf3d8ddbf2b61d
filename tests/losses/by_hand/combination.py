"""Combinations: a weighted pixel term and an overlap term."""

from typing import Any

import numpy as np

from tests.losses.by_hand.pixel import cross_entropy, focal, topk
from tests.losses.by_hand.reading import Array, Labels, class_average, read
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
