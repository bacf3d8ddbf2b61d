"""Pixel losses, as sums over a list of pixels."""

import numpy as np

from tests.losses.by_hand.maps import own_distance, shifted, steps
from tests.losses.by_hand.reading import Array, Batch, Labels, one_against_the_rest, read


def cross_entropy(
    z: Array,
    y: Labels,
    *,
    class_weights: list[float] | None = None,
    normalise: str = "weights",
    label_smoothing: float = 0.0,
) -> float:
    b = read(z, y)
    w = np.ones(b.classes) if class_weights is None else np.array(class_weights)
    per_class = -np.moveaxis(_log_softmax(b.z), 1, -1)[b.v]
    hard = (w[b.labels] * b.nll).sum()
    # by the weight of the true class, not of the class that the term is about
    soft = (w[b.labels] * per_class.sum(1)).sum()
    total = (1 - label_smoothing) * hard + label_smoothing / b.classes * soft
    return float(total / (w[b.labels].sum() if normalise == "weights" else b.v.sum()))


def binary_cross_entropy(z: Array, y: Labels, *, pos_weight: float) -> float:
    b = read(z, y)
    s = 1 / (1 + np.exp(-z[:, 0][b.v]))
    return float(np.where(b.labels == 1, -pos_weight * np.log(s), -np.log(1 - s)).mean())


def topk(z: Array, y: Labels, *, k_percent: float) -> float:
    return hardest(read(z, y).nll, k_percent / 100)


def hardest(nll: Array, share: float) -> float:
    return float(np.sort(nll)[::-1][: max(1, int(np.floor(share * len(nll) + 1e-9)))].mean())


def ohem_ce(z: Array, y: Labels, *, threshold: float, minimum_share: float) -> float:
    nll = read(z, y).nll
    hard = nll[nll > -np.log(threshold)]
    least = max(1, int(np.floor(minimum_share * len(nll) + 1e-9)))
    return float(hard.mean()) if len(hard) >= least else hardest(nll, minimum_share)


def focal(z: Array, y: Labels, *, gamma: float, alpha: list[float] | None = None) -> float:
    b = read(z, y)
    weight = 1.0 if alpha is None else np.array(alpha)[b.labels]
    return float((weight * (1 - np.exp(-b.nll)) ** gamma * b.nll).mean())


def sigmoid_focal(z: Array, y: Labels, *, gamma: float, alpha: float | None) -> float:
    """A sigmoid for every class, the mean over pixels and classes."""
    b = read(z, y)
    found = []
    for score, t in zip(*(np.moveaxis(maps, 1, 0) for maps in one_against_the_rest(b)), strict=True):
        p = 1 / (1 + np.exp(-score))
        p_t = np.where(t == 1, p, 1 - p)[b.v]
        a_t = 1.0 if alpha is None else np.where(t == 1, alpha, 1 - alpha)[b.v]
        found.append((a_t * (1 - p_t) ** gamma * -np.log(p_t)).mean())
    return float(np.mean(found))


def ldam(z: Array, y: Labels, *, class_frequencies: list[float], max_margin: float, scale: float) -> float:
    b = read(z, y)
    f = np.array(class_frequencies)
    margins = f**-0.25 / (f**-0.25).max() * max_margin
    held = b.z.copy()
    for c in range(b.classes):
        held[:, c] = np.where(y == c, b.z[:, c] - margins[c], b.z[:, c])
    return float(read(scale * held, y).nll.mean())


def balanced_softmax(z: Array, y: Labels, *, class_frequencies: list[float]) -> float:
    b = read(z, y)
    odds = np.moveaxis(np.exp(b.z), 1, -1)[b.v] * np.array(class_frequencies)
    return float(-np.log(odds[np.arange(len(odds)), b.labels] / odds.sum(1)).mean())


def distance_map_ce(z: Array, y: Labels, *, phi: str, lam: float = 1.0, sigma: float = 5.0) -> float:
    b = read(z, y)
    weights = np.zeros(y.shape)
    for n, image in enumerate(y):
        d = own_distance(image)
        if phi == "exp":
            weights[n] = np.exp(-d / sigma) * (d > 0)
            continue
        for label in np.unique(image):
            own = image == label
            turned = d[own].max() - d[own]
            top = turned.max() if phi == "reversed_norm" and turned.max() > 0 else 1.0
            weights[n][own] = turned / top
    return float(((1 + lam * weights[b.v]) * b.nll).mean())


def poly1(z: Array, y: Labels, *, epsilon: float) -> float:
    nll = read(z, y).nll
    return float((nll + epsilon * (1 - np.exp(-nll))).mean())


def logit_adjusted(z: Array, y: Labels, *, prior: list[float], tau: float) -> float:
    b = read(z, y)
    shift = (tau * np.log(np.array(prior) / np.sum(prior))).reshape(1, -1, *(1,) * len(b.sizes))
    return cross_entropy(b.z + shift, y)


def nacl(z: Array, y: Labels, *, weight: float) -> float:
    b = read(z, y)
    near = [b.t, *(shifted(b.t, s, 0.0) for s in steps(len(b.sizes), diagonal=True))]
    u = np.asarray(sum(near)) / 3 ** len(b.sizes)
    gap = np.moveaxis(np.abs(b.z - u), 1, -1)[b.v]
    return float(b.nll.mean() + weight * gap.mean())


def class_weights(frequencies: list[float], exponent: float) -> Array:
    w = np.array(frequencies) ** -exponent
    return w / w.mean()


def valid_sum(b: Batch, values: Array) -> Array:
    """Sum over the batch and space, per channel."""
    return values.sum((0, *b.axes))


def _log_softmax(z: Array) -> Array:
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))
