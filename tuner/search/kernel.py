"""Covariance between points of a conditional space, with lengths that stay what they are from study to study.

A point is three things: its loss, the coordinates of what every trial has, and those of what only its loss has.

    k(x, x') = loss [same loss] + common M(dS) + branch [same loss] M(dS + dB)

M is the Matern kernel of smoothness 5/2 and dS, dB are squared distances of the two groups of coordinates, each divided
by its length. Where a value is missing there is a coordinate of its own, so distances stay Euclidean, and the
covariance positive definite, whatever is missing.

Shapes: n, m points; p coordinates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tuner.registry import Scalar
from tuner.search.distributions import single
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Floats, Ints

LOSS, SEED = "loss", "train.seed"
_MISSING = 0.5
"""Distance, in lengths, between a value and none."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the coordinate of a number is 0 and 1."""

    low: float
    high: float
    log: bool

    def coordinate(self, value: float) -> float:
        """Return where a number lies; outside of the interval below 0 or above 1."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log(max(value, 1e-300))
        return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True, slots=True)
class Amplitudes:
    """Variances of the three terms."""

    loss: float = 0.4
    common: float = 0.2
    branch: float = 0.4


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """Variances and lengths, for values of a task whose standard deviation is 1."""

    shared: Amplitudes = field(default_factory=Amplitudes)
    """Of what all tasks have in common."""
    own: Amplitudes = field(default_factory=Amplitudes)
    """Of what a task has for itself."""
    noise: float = 0.1
    """Variance between seeds."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """By parameter, as shares of its interval."""
    length: float = 0.8
    """Of every other parameter."""


@dataclass(frozen=True, slots=True)
class Points:
    """Points as coordinates, divided by their lengths."""

    losses: Ints
    """[n], a number for each loss."""
    common: Floats
    """[n, p] of what every trial has."""
    branch: Floats
    """[n, p'] of what only the trials of one loss have."""

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, places: Ints) -> "Points":
        """Return some of the points."""
        return Points(self.losses[places], self.common[places], self.branch[places])

    @staticmethod
    def join(several: Sequence["Points"]) -> "Points":
        """Return the points of several, one after the other."""
        return Points(
            np.concatenate([p.losses for p in several]),
            np.concatenate([p.common for p in several]),
            np.concatenate([p.branch for p in several]),
        )


class Encoder:
    """Turns parameters into coordinates.

    Args:
        space: What is searched. What is not is left out of the distance, and the training seed: where it is searched,
            trials that differ in it alone are one point, measured again.
        settings: Lengths.
        intervals: Of the parameters that are known from elsewhere; for others that of the space.
    """

    def __init__(self, space: SearchSpace, settings: KernelSettings, intervals: Mapping[str, Interval]) -> None:
        self.space = space
        self._losses: dict[Scalar, int] = {}
        searched = [d for d in space if d.name not in (LOSS, SEED) and not single(d)]
        unknown = sum(d.name not in settings.lengths for d in searched if d.when is None)
        width = settings.length * math.sqrt(max(1, unknown))
        columns = [
            _Column(d, settings.lengths.get(d.name, width), intervals.get(d.name, Interval(d.low, d.high, d.log)))
            for d in searched
        ]
        self._common = _Group([c for c in columns if c.dimension.when is None])
        self._branch = _Group([c for c in columns if c.dimension.when is not None])

    def encode(self, points: Sequence[Mapping[str, Scalar]]) -> Points:
        """Return the coordinates of points; parameters that a point lacks are missing values."""
        losses = [self._losses.setdefault(params.get(LOSS), len(self._losses)) for params in points]
        return Points(np.array(losses, np.int64), self._common.encode(points), self._branch.encode(points))


class _Column:
    """One parameter as coordinates: the number, or one coordinate for each choice; and one for a missing value."""

    def __init__(self, dimension: Dimension, length: float, interval: Interval) -> None:
        self.dimension, self._length, self._interval = dimension, length, interval
        self._choices = {(type(c).__name__, c): i for i, c in enumerate(dimension.choices)}
        self.width = (len(dimension.choices) if dimension.kind == "categorical" else 1) + 1

    def place(self, value: Scalar) -> tuple[int, float] | None:
        """Return which coordinate of the value is not 0, and what it is; None for a value outside of the choices."""
        if self.dimension.kind == "categorical":
            place = self._choices.get((type(value).__name__, value))
            return None if place is None else (place, math.sqrt(0.5) / self._length)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return 0, (self._interval.coordinate(float(value)) - 0.5) / self._length
        return None


class _Group:
    """Several parameters, side by side."""

    def __init__(self, columns: Sequence[_Column]) -> None:
        starts = np.cumsum([0, *(c.width for c in columns)]).tolist()
        self._columns = {c.dimension.name: (start, c) for c, start in zip(columns, starts, strict=False)}
        self._missing = np.zeros(starts[-1])
        self._missing[[start + c.width - 1 for start, c in self._columns.values()]] = _MISSING

    def encode(self, points: Sequence[Mapping[str, Scalar]]) -> Floats:
        """Return the coordinates [n, p] of points."""
        found = np.tile(self._missing, (len(points), 1))
        for row, params in zip(found, points, strict=True):
            for name, value in params.items():
                if name in self._columns:
                    start, column = self._columns[name]
                    placed = column.place(value)
                    if placed is not None:
                        row[start + column.width - 1] = 0.0
                        row[start + placed[0]] = placed[1]
        return found


def covariance(one: Points, other: Points, amplitudes: Sequence[Amplitudes]) -> list[Floats]:
    """Return a covariance [n, m] for each of several amplitudes, from the same distances."""
    same = one.losses[:, None] == other.losses[None, :]
    far = _squared(one.common, other.common)
    common = _matern(far)
    branch = np.where(same, _matern(far + _squared(one.branch, other.branch)), 0.0)
    return [a.loss * same + a.common * common + a.branch * branch for a in amplitudes]


def _squared(one: Floats, other: Floats) -> Floats:
    found: Floats = (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :] - 2.0 * one @ other.T
    return np.maximum(found, 0.0)


def _matern(squared: Floats) -> Floats:
    r = np.sqrt(5.0 * squared)
    found: Floats = (1.0 + r + r * r / 3.0) * np.exp(-r)
    return found
