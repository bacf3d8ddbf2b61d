"""Boundary losses, with brute-force distances and explicit neighbours."""

import itertools
import math
from typing import Any

import numpy as np

from tests.losses.by_hand import maps
from tests.losses.by_hand.reading import VOID, Array, Batch, Labels, class_average, read
from tests.losses.by_hand.region import dice


def _pixel_mean(b: Batch, values: Array, classes: list[int]) -> float:
    return float(values[:, classes].sum() / (b.v.sum() * len(classes)))


def boundary(
    z: Array, y: Labels, *, idc: list[int], inner_offset: float = 1.0, normalise: bool = False, **schedule: Any
) -> float:
    b = read(z, y)
    phi = np.stack([[maps.signed_distance(image == c, inner_offset) for c in range(b.classes)] for image in y])
    scale = math.hypot(*b.sizes) if normalise else 1.0
    value = _pixel_mean(b, phi / scale * b.p, idc)
    if not schedule:
        return value
    alpha = max(0.01, 1 - 0.01 * schedule["epoch"])
    region = dice(z, y, smooth=1e-5, classes="all")
    if schedule["schedule"] == "rebalance":
        return alpha * region + (1 - alpha) * value
    weight = 0.01 + 0.01 * schedule["epoch"] if schedule["schedule"] == "increase" else 0.01
    return region + weight * value


def hausdorff_dt(
    z: Array, y: Labels, *, alpha: float = 2.0, include_background: bool = False, frozen: Array | None = None
) -> float:
    b, fixed = read(z, y), read(z if frozen is None else frozen, y)
    kept = list(range(0 if include_background else 1, b.classes))
    value = np.zeros_like(b.p)
    for n, c in itertools.product(range(len(y)), kept):
        guess, truth = fixed.p[n, c] > 0.5, y[n] == c
        d_guess = maps.border_distance(guess)
        if guess.all() or not guess.any():
            # all or nothing is as far as can be from a target that is not
            d_guess = np.full(d_guess.shape, 0.0 if (guess == truth).all() else math.hypot(*b.sizes))
        d = d_guess**alpha + maps.border_distance(truth) ** alpha
        value[n, c] = (b.p[n, c] - b.t[n, c]) ** 2 * d
    return _pixel_mean(b, value, kept)


def log_hausdorff(z: Array, y: Labels, **options: Any) -> float:
    return math.log(1 + hausdorff_dt(z, y, **options))


def hausdorff_er(z: Array, y: Labels, *, alpha: float, erosions: int, include_background: bool) -> float:
    b = read(z, y)
    kept = list(range(0 if include_background else 1, b.classes))
    bound, total = (b.p - b.t) ** 2, np.zeros_like(b.p)
    cross = maps.steps(len(b.sizes), diagonal=False)
    for k in range(1, erosions + 1):
        mean = (bound + sum(maps.shifted(bound, s, 0.0) for s in cross)) / (len(cross) + 1)
        bound = np.maximum(mean - 0.5, 0)
        for n, c in itertools.product(range(len(y)), range(b.classes)):
            low, high = bound[n, c].min(), bound[n, c].max()
            if high > low:
                bound[n, c] = (bound[n, c] - low) / (high - low)
        total += bound * k**alpha
    return _pixel_mean(b, total * b.v[:, None], kept)


def boundary_aware(z: Array, y: Labels, *, R: int, K: int, classes: int = 2) -> float:
    v, total = y != VOID, 0.0
    for n, image in enumerate(y):
        depth = np.minimum(np.ceil(maps.own_distance(image)), R)
        bins = np.floor(np.where((image > 0) & v[n], depth, 0) * K / (R + 1))
        for k in range(K):
            s = 1 / (1 + np.exp(-z[n, k]))
            total += (-np.where(bins == k, np.log(s), np.log(1 - s)))[v[n]].sum()
    return float(total / (v.sum() * K))


def boundary_dou(z: Array, y: Labels, *, smooth: float, alpha_max: float, classes: str = "all") -> float:
    b = read(z, y)
    found, sizes = [], []
    for c in range(b.classes):
        rim = 0
        for image in y:
            own = image == c
            core = np.logical_and.reduce([maps.shifted(own, s, False) for s in maps.steps(own.ndim, diagonal=False)])
            rim += (own & ~core).sum()
        area = b.t[:, c].sum()
        alpha = min(1 - 2 * (rim + smooth) / (area + smooth), alpha_max)
        both, inter = (b.p[:, c] ** 2).sum() + (b.t[:, c] ** 2).sum(), (b.p[:, c] * b.t[:, c]).sum()
        found.append((both - 2 * inter + smooth) / (both - (1 + alpha) * inter + smooth))
        sizes.append(area)
    return class_average(np.array(found), np.array(sizes), classes)


def region_wise(z: Array, y: Labels, *, map: str) -> float:
    b = read(z, y)
    value = np.zeros_like(b.p)
    for n, c in itertools.product(range(len(y)), range(b.classes)):
        own = y[n] == c
        if map.startswith("boundary"):
            full = not own.any() or own.all()
            value[n, c] = 0 if full else maps.inside_distance(~own) - maps.inside_distance(own)
        else:
            inside = maps.inside_distance(own)
            deep = -inside / inside.max() if inside.max() > 0 else -np.ones(own.shape)
            value[n, c] = np.where(own, deep, 1.0)
    return _pixel_mean(b, value * b.p, list(range(b.classes)))


def edge_entropy(z: Array, y: Labels) -> float:
    """InverseForm's border term: BCE of how much probabilities and labels vary in 3 x 3 neighbourhoods."""
    b = read(z, y)
    p, t = b.p, b.t
    if z.ndim == 5:
        p, t = (np.moveaxis(m, 2, 1).reshape(-1, m.shape[1], *m.shape[3:]) for m in (p, t))
    v = b.v.reshape(-1, *b.sizes[-2:])
    guess, truth = _range(p).max(1), _range(t).max(1)
    sure = np.clip(guess, 1e-6, 1 - 1e-6)
    return float((-(truth * np.log(sure) + (1 - truth) * np.log(1 - sure)) * v).sum() / b.v.sum())


def _range(m: Array) -> Array:
    around = maps.steps(2, diagonal=True)
    high = np.maximum.reduce([m, *(maps.shifted(m, s, -np.inf) for s in around)])
    low = np.minimum.reduce([m, *(maps.shifted(m, s, np.inf) for s in around)])
    return np.asarray(high - low)
