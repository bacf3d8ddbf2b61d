"""What the formulas are written over: probabilities, one-hot labels and valid pixels, as flat arrays of float64."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
VOID = 255


@dataclass(frozen=True)
class Batch:
    """Logits z [N, C, *S], labels y [N, *S], softmax p and one-hot t [N, C, *S] (0 on void), valid v [N, *S]."""

    z: Array
    y: Labels
    p: Array
    t: Array
    v: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        return self.z.shape[1]

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(2, self.z.ndim))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.y.shape[1:])

    @property
    def nll(self) -> Array:
        """-ln of the true class's probability over the valid pixels of the batch, [V]."""
        log_p = self.z - self.z.max(1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
        return -np.moveaxis(log_p, 1, -1)[self.v][np.arange(self.v.sum()), self.labels]

    @property
    def labels(self) -> Labels:
        """Labels of the valid pixels, [V]."""
        return self.y[self.v]

    def units(self, *, batch: bool) -> list["Batch"]:
        """The whole batch as one unit, or each image that has a valid pixel."""
        if batch:
            return [self]
        kept = [n for n in range(len(self.y)) if self.v[n].any()]
        parts = (slice(n, n + 1) for n in kept)
        return [Batch(self.z[n], self.y[n], self.p[n], self.t[n], self.v[n]) for n in parts]


def read(z: Array, y: Labels) -> Batch:
    """Softmax and one-hot; one channel z stands for [0, z]."""
    if z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], 1)
    v = y != VOID
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True) * v[:, None]
    t = np.stack([(y == c) & v for c in range(z.shape[1])], 1).astype(float)
    return Batch(z, y, p, t, v)


def one_against_the_rest(b: Batch) -> tuple[Array, Array]:
    """Logits and labels [N, K, *S] of the classes that have a sigmoid: class 1 alone of two, else every one."""
    if b.classes == 2:
        return b.z[:, 1:] - b.z[:, :1], b.t[:, 1:]
    return b.z, b.t


def class_average(values: Array, sizes: Array, classes: str) -> float:
    """Mean over all classes, or over those with a target pixel; 0 if there is none."""
    kept = values if classes == "all" else values[sizes > 0]
    return float(kept.mean()) if kept.size else 0.0


def ratio(a: Array, b: Array) -> Array:
    """Quotient, and 1 where both are 0."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), 1)
