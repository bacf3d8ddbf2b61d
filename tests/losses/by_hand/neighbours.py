"""The two boundary losses that are sums over pixels and each of their neighbours."""

import itertools
from functools import cache

import numpy as np

from tests.losses.by_hand import maps
from tests.losses.by_hand.reading import VOID, Array, Labels, read

# down, up, left, right, up-right, down-right, up-left, down-left
AROUND_2D = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
AROUND_3D = tuple(s for s in itertools.product((0, 1, -1), repeat=3) if any(s))


def active_boundary(
    z: Array,
    y: Labels,
    *,
    max_N_ratio: float,
    theta: float,
    label_smoothing: float,
    detach_neighbours: bool = True,
    truncate_distance: bool = False,
    frozen: Array | None = None,
) -> float:
    b, fixed = read(z, y), read(z if frozen is None else frozen, y)
    around = AROUND_2D if len(b.sizes) == 2 else AROUND_3D
    found = []
    for n, image in enumerate(y):
        distance = _border_distance(image)
        if distance is None:
            continue
        distance = distance.astype(int).astype(float) if truncate_distance else distance
        moving = _predicted_border(fixed.z[n], b.v[n], max_N_ratio) & b.v[n]
        for place in map(tuple, np.argwhere(moving)):
            near = [tuple(a + s for a, s in zip(place, step, strict=True)) for step in around]
            inside = [all(0 <= a < m for a, m in zip(other, b.sizes, strict=True)) for other in near]
            values = [distance[o] if ok else 1e5 for o, ok in zip(near, inside, strict=True)] + [distance[place]]
            best = int(np.argmin(values))
            if best == len(around):
                continue
            held = [tuple(min(max(a, 0), m - 1) for a, m in zip(o, b.sizes, strict=True)) for o in near]
            kl = np.array([_divergence(_at(fixed.z[n], o), _at(b.z[n], place)) for o in held])
            log_q = kl - kl.max() - np.log(np.exp(kl - kl.max()).sum())
            target = np.full(len(around), label_smoothing / len(around))
            target[best] = 1 - label_smoothing
            found.append(-(target * log_q).sum() * min(distance[place], theta) / theta)
    return float(np.mean(found)) if found else 0.0


def _at(z: Array, place: tuple[int, ...]) -> Array:
    return z[(slice(None), *place)]


def _divergence(of: Array, to: Array) -> float:
    log_p, log_q = (s - s.max() - np.log(np.exp(s - s.max()).sum()) for s in (of, to))
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def _border_distance(image: Labels) -> Array | None:
    return _distance_of(image.tobytes(), image.shape)


@cache
def _distance_of(content: bytes, shape: tuple[int, ...]) -> Array | None:
    image = np.frombuffer(content, np.int64).reshape(shape)
    border = image == VOID
    for place in np.ndindex(*image.shape):
        for axis in range(image.ndim):
            after = tuple(a + (k == axis) for k, a in enumerate(place))
            if after[axis] < image.shape[axis] and image[place] != image[after]:
                border[place] = True
    if not border.any():
        return None
    return np.maximum(maps.inside_distance(~border) - 1, 0)


def _predicted_border(z: Array, valid: maps.Mask, ratio: float) -> maps.Mask:
    return _predicted(z.tobytes(), z.shape, valid.tobytes(), ratio)


@cache
def _predicted(content: bytes, shape: tuple[int, ...], kept: bytes, ratio: float) -> maps.Mask:
    z, valid = np.frombuffer(content, np.float64).reshape(shape), np.frombuffer(kept, bool).reshape(shape[1:])
    change = np.zeros(valid.shape)
    for place in np.ndindex(*valid.shape):
        for axis in range(valid.ndim):
            after = tuple(a + (k == axis) for k, a in enumerate(place))
            if after[axis] < valid.shape[axis] and valid[place] and valid[after]:
                change[place] += _divergence(_at(z, place), _at(z, after))
    limit = 1e-5
    while (change > limit).sum() > ratio * change.size:
        limit *= 1.2
    border = change > limit
    around = maps.steps(valid.ndim, diagonal=True)
    return np.logical_or.reduce([border, *(maps.shifted(border, s, False) for s in around)])


def conditional_boundary(
    f: Array,
    *,
    z: Array,
    y: Labels,
    near: Array,
    weight: Array,
    bias: Array,
    kernel: int,
    w_ctx: float,
    w_nce: float,
    w_cn: float,
    filter_context_pairs: bool = False,
    frozen: Array | None = None,
) -> float:
    """As a function of the features f [N, D, *S]; `frozen` are those of the centres that get no gradient."""
    b = read(z, y)
    held = f if frozen is None else frozen
    reach = kernel // 2
    offsets = [s for s in itertools.product(range(-reach, reach + 1), repeat=len(b.sizes)) if any(s)]
    right = (b.z.argmax(1) == y) & b.v
    context = {s: [] for s in offsets}
    every: dict[int, list[float]] = {}
    hit: dict[int, list[float]] = {}
    pull: dict[int, list[float]] = {}
    for place in map(tuple, np.argwhere((near > 0) & b.v)):
        n, at, label = place[0], place[1:], int(y[place])
        own = f[(n, slice(None), *at)]
        inner = all(reach <= a < m - reach for a, m in zip(at, b.sizes, strict=True))
        same, good, good_held = [], [], []
        for s in offsets:
            other = tuple(a + d for a, d in zip(at, s, strict=True))
            if not all(0 <= a < m for a, m in zip(other, b.sizes, strict=True)) or not b.v[(n, *other)]:
                continue
            g = f[(n, slice(None), *other)]
            if inner:
                cosine = own @ g / (max(np.linalg.norm(own), 1e-4) * max(np.linalg.norm(g), 1e-4))
                context[s].append((cosine - (y[(n, *other)] == label)) ** 2)
            if y[(n, *other)] == label:
                same.append(g)
                if right[(n, *other)]:
                    good.append(g)
                    good_held.append(held[(n, slice(None), *other)])
        if same:
            every.setdefault(label, []).append(_entropy(np.sum(same, 0) / (len(same) + 1e-5), label, weight, bias))
        if good and right[place]:
            hit.setdefault(label, []).append(_entropy(np.sum(good, 0) / (len(good) + 1e-5), label, weight, bias))
            centre = np.sum(good_held, 0) / (len(good_held) + 1e-5)
            pull.setdefault(label, []).append(float(((own - centre) ** 2).mean()))
    ctx = sum(np.mean(v) if v else 0.0 for v in context.values()) / len(offsets)
    nce = _classwise(every) + _classwise(hit)
    return float(w_ctx * ctx + w_nce * nce + w_cn * _classwise(pull))


def _entropy(centre: Array, label: int, weight: Array, bias: Array) -> float:
    s = np.asarray(weight) @ centre + np.asarray(bias)
    return float(-(s[label] - s.max() - np.log(np.exp(s - s.max()).sum())))


def _classwise(values: dict[int, list[float]]) -> float:
    return float(np.mean([np.mean(v) for v in values.values()])) if values else 0.0
