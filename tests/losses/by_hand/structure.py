"""Region losses that look at neighbourhoods, centre lines and objects."""

import itertools
from typing import Any

import numpy as np

from tests.losses.by_hand import maps
from tests.losses.by_hand.reading import VOID, Array, Labels, class_average, read


def rmi_parts(z: Array, y: Labels, *, radius: int, pool: str, pool_size: int) -> dict[str, float]:
    b = read(z, y)
    s = 1 / (1 + np.exp(-b.z))
    entropy = -(b.t * np.log(s) + (1 - b.t) * np.log(1 - s)) * b.v[:, None]
    guess = _pooled(s * b.v[:, None] + 1e-6, pool, pool_size)
    truth = _pooled(b.t, pool, pool_size)
    total, ridge = 0.0, 5e-4
    for n, c in itertools.product(range(len(y)), range(b.classes)):
        yy, pp = _neighbourhoods(truth[n, c], radius), _neighbourhoods(guess[n, c], radius)
        yy, pp = yy - yy.mean(1, keepdims=True), pp - pp.mean(1, keepdims=True)
        eye = np.eye(len(yy))
        a = yy @ yy.T - yy @ pp.T @ np.linalg.inv(pp @ pp.T + ridge * eye) @ pp @ yy.T
        total += 0.5 * np.linalg.slogdet(a + ridge * eye)[1] / len(yy)
    return {"bce": float(entropy.sum() / (b.v.sum() + 1)), "rmi": total / len(y)}


def rmi(z: Array, y: Labels, **params: Any) -> float:
    lam = params["lambda"]
    known = {key: params[key] for key in ("radius", "pool", "pool_size")}
    parts = rmi_parts(z, y, **known)
    return lam * parts["bce"] + (1 - lam) * parts["rmi"]


def _pooled(m: Array, pool: str, size: int) -> Array:
    if size == 1:
        return m
    edge = size // 2
    fill = -np.inf if pool == "max" else 0.0
    padded = np.pad(m, [(0, 0), (0, 0)] + [(edge, edge)] * (m.ndim - 2), constant_values=fill)
    counts = [(n - size) // size + 1 for n in padded.shape[2:]]
    found = np.empty((*m.shape[:2], *counts))
    for place in np.ndindex(*counts):
        block = padded[(slice(None), slice(None), *(slice(i * size, (i + 1) * size) for i in place))]
        axes = tuple(range(2, m.ndim))
        found[(slice(None), slice(None), *place)] = block.max(axes) if pool == "max" else block.mean(axes)
    return found


def _neighbourhoods(m: Array, radius: int) -> Array:
    spans = [n - radius + 1 for n in m.shape]
    return np.stack(
        [
            m[tuple(slice(o, o + n) for o, n in zip(offset, spans, strict=True))].ravel()
            for offset in np.ndindex(*(radius,) * m.ndim)
        ]
    )


def soft_cldice(
    z: Array, y: Labels, *, iter: int, smooth: float, channel: int | None = None, classes: str = "all"
) -> float:
    b = read(z, y)
    found, sizes = [], []
    for c in [channel] if channel else range(1, b.classes):
        p, t = b.p[:, c : c + 1], b.t[:, c : c + 1]
        lines_p, lines_t = maps.soft_skeleton(p, iter) * b.v[:, None], maps.soft_skeleton(t, iter)
        precision = ((lines_p * t).sum() + smooth) / (lines_p.sum() + smooth)
        recall = ((lines_t * p).sum() + smooth) / (lines_t.sum() + smooth)
        found.append(1 - 2 * precision * recall / (precision + recall))
        sizes.append(t.sum())
    return class_average(np.array(found), np.array(sizes), classes)


def skeleton_recall(z: Array, y: Labels, *, smooth: float, classes: str) -> float:
    b = read(z, y)
    found, sizes = [], []
    for c in range(1, b.classes):
        # the foreground is thinned as a whole
        bones = np.stack([maps.skeleton((image > 0) & (image != VOID)) & (image == c) for image in y])
        found.append(1 - ((b.p[:, c] * bones).sum() + smooth) / (bones.sum() + smooth))
        sizes.append(bones.sum())
    return class_average(np.array(found), np.array(sizes), classes)


def blob(z: Array, y: Labels, *, smooth: float) -> float:
    b = read(z, y)
    per_image = []
    for n in range(len(y)):
        errors = []
        for c in range(1, b.classes):
            of_class = y[n] == c
            for piece in maps.objects(of_class):
                seen = b.v[n] & (piece | ~of_class)
                tp, p, t = (b.p[n, c] * piece).sum(), (b.p[n, c] * seen).sum(), piece.sum()
                errors.append(1 - (2 * tp + smooth) / (p + t + smooth))
        if errors:
            per_image.append(np.mean(errors))
    return float(np.mean(per_image)) if per_image else 0.0


def ssim(z: Array, y: Labels, *, window: int, compared: str, include_background: bool = False) -> float:
    b = read(z, y)
    total, count = 0.0, 0
    half = window // 2
    for c in range(0 if include_background else 1, b.classes):
        for n, *place in zip(*np.nonzero(b.v), strict=True):
            around = (n, *(slice(max(0, i - half), i + half + 1) for i in place))
            starts = [max(0, i - half) for i in place]
            v = b.v[around]
            away = sum(
                (np.arange(k).reshape([-1 if a == d else 1 for d in range(v.ndim)]) + s - i) ** 2.0
                for a, (k, s, i) in enumerate(zip(v.shape, starts, place, strict=True))
            )
            w = (np.exp(-away / (2 * 1.5**2)) * v)[v]
            w /= w.sum()
            p, t = b.p[around[0], c][around[1:]][v], b.t[around[0], c][around[1:]][v]
            mp, mt = w @ p, w @ t
            sp, st, spt = w @ (p - mp) ** 2, w @ (t - mt) ** 2, w @ ((p - mp) * (t - mt))
            value = (2 * spt + 9e-4) / (sp + st + 9e-4)
            if compared == "all":
                value *= (2 * mp * mt + 1e-4) / (mp**2 + mt**2 + 1e-4)
            total, count = total + value, count + 1
    return float(1 - total / count)


def cbdice(z: Array, y: Labels, *, iterations: int, smooth: float, classes: str = "all") -> float:
    b = read(z, y)
    found, sizes = [], []
    for c in range(1, b.classes):
        ways, lines = [0.0, 0.0], [0.0, 0.0]
        for n in range(len(y)):
            p, t = b.p[n, c], b.t[n, c]
            guess, truth = _tube(p > 0.5, iterations), _tube(t > 0, iterations)
            soft = [part * p for part in guess]
            for k, (one, other) in enumerate(((soft, truth), (truth, soft))):
                depth, _, weight = other[0], other[1], one[2]
                radius = np.where((one[1] != 0) & (other[1] == 0), one[1], other[1])
                ways[k] += (weight * depth).sum()
                lines[k] += (weight * radius).sum()
        precision, recall = ((a + smooth) / (b_ + smooth) for a, b_ in zip(ways, lines, strict=True))
        found.append(1 - 2 * precision * recall / (precision + recall))
        sizes.append(b.t[:, c].sum())
    return class_average(np.array(found), np.array(sizes), classes)


def _tube(mask: Any, iterations: int) -> list[Array]:
    """Depth inside, radius on the skeleton, weight of the skeleton, of one mask [*S]."""
    outside, depth = np.argwhere(~mask), np.zeros(mask.shape)
    for place in np.argwhere(mask):
        depth[tuple(place)] = np.sqrt(((outside - place) ** 2).sum(1)).min() if len(outside) else 1.0
    bones = maps.soft_skeleton(mask[None, None].astype(float), iterations)[0, 0] > 0.5
    radius = np.where(bones, depth, 0.0)
    largest = max(radius.max(), 1.0)
    weight = np.where(bones, (1 + largest - radius) / largest, 0.0) ** (mask.ndim - 1)
    return [np.minimum(depth, largest) / largest, radius / largest, weight]
