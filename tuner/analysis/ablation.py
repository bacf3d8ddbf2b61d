"""Ablation path: which differences between the published defaults of a loss and its best trial make the gain.

Biedenkapp et al. 2017 (doi 10.1609/aaai.v31i1.10657): one parameter after the other takes its value of the best trial,
always the one with the best prediction. The surrogate is a kernel regression over the complete trials of the loss
(Gaussian weights in the searched ranges, numbers as shares of their axis, choices equal or not).

Symbols: N trials, P parameters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.registry import Scalar
from tuner.search.space import Dimension

MIN_TRIALS = 5
"""With fewer trials of a loss a prediction says nothing; `ablation_path` itself takes any number above 0."""
BANDWIDTH = 0.15
"""Width of a trial's weight, as a share of an axis."""
CHOICE_DISTANCE = 0.3
"""Distance between two different choices, as a share of an axis."""


@dataclass(frozen=True, slots=True)
class AblationStep:
    """One parameter takes its value of the best trial."""

    name: str
    before: Scalar
    after: Scalar
    predicted: float
    """Value after the step."""


def ablation_path(
    dimensions: Sequence[Dimension],
    start: Mapping[str, Scalar],
    end: Mapping[str, Scalar],
    params: Sequence[Mapping[str, Scalar]],
    values: Sequence[float],
    *,
    maximizes: bool,
) -> tuple[float, list[AblationStep]]:
    """Return the value that is predicted for the start, and the steps from there.

    Args:
        dimensions: P parameters that every trial has.
        start: Published defaults.
        end: Parameters of the best trial.
        params: Parameters of the N complete trials.
        values: Their N values.
        maximizes: Whether larger values are better.
    """
    surrogate = _Surrogate(dimensions, params, values)
    point = dict(start)
    first = surrogate.predict(point)
    left = [d.name for d in dimensions if d.name in end and point.get(d.name) != end[d.name]]
    steps = []
    while left:
        predicted = {name: surrogate.predict({**point, name: end[name]}) for name in left}
        name = (max if maximizes else min)(left, key=lambda key: predicted[key])
        steps.append(AblationStep(name, point.get(name), end[name], predicted[name]))
        point[name] = end[name]
        left.remove(name)
    return first, steps


class _Surrogate:
    """Kernel regression: the mean of the values, weighted by nearness."""

    def __init__(
        self, dimensions: Sequence[Dimension], params: Sequence[Mapping[str, Scalar]], values: Sequence[float]
    ) -> None:
        self._dimensions = dimensions
        self._places = [[_share(d, point.get(d.name)) for point in params] for d in dimensions]
        self._values = np.asarray(values, float)

    def predict(self, point: Mapping[str, Scalar]) -> float:
        """Return the predicted value of a point."""
        squared = np.zeros(len(self._values))
        for dimension, places in zip(self._dimensions, self._places, strict=True):
            squared += _squared_distances(_share(dimension, point.get(dimension.name)), places)
        weights = np.exp(-(squared - squared.min()) / (2 * BANDWIDTH**2))
        return float((weights * self._values).sum() / weights.sum())


def _squared_distances(place: float | str, places: Sequence[float | str]) -> NDArray[np.float64]:
    return np.array(
        [
            (place - other) ** 2
            if isinstance(place, float) and isinstance(other, float)
            else 0.0
            if place == other
            else CHOICE_DISTANCE**2
            for other in places
        ]
    )


def _share(dimension: Dimension, value: Scalar) -> float | str:
    """Return where a number lies on its axis, 0 to 1; of a choice, or of what is no number there, its text."""
    if isinstance(value, (bool, str)) or value is None or dimension.kind == "categorical":
        return repr(value)
    if dimension.high <= dimension.low:
        return 0.0
    if dimension.log and value > 0:
        return math.log(value / dimension.low) / math.log(dimension.high / dimension.low)
    return (value - dimension.low) / (dimension.high - dimension.low)
