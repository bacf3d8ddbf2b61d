"""A dimension in three other forms: Optuna's distribution, its internal number, a share of the unit interval."""

import math
from collections.abc import Mapping

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return the distribution that Optuna stores with a parameter."""
    if dimension.kind == "categorical":
        return CategoricalDistribution(dimension.choices)
    if dimension.kind == "int":
        step = 1 if dimension.step is None else int(dimension.step)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(float(dimension.low), float(dimension.high), log=dimension.log, step=dimension.step)


def distributions(space: SearchSpace, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
    """Return the distribution of every parameter in `params`, in the space's order, as storing them needs it."""
    return {d.name: distribution(d) for d in space.active(params) if d.name in params}


def single(dimension: Dimension) -> bool:
    """Tell whether there is nothing to choose."""
    return len(dimension.choices) == 1 if dimension.kind == "categorical" else dimension.low == dimension.high


def internal(dimension: Dimension, value: Scalar) -> float:
    """Return the number by which Optuna stores a value: the index of a choice, else the value itself."""
    if dimension.kind == "categorical":
        # By type as well: True == 1 == 1.0 in Python, and a list of choices may hold all three.
        return float(next(i for i, c in enumerate(dimension.choices) if c == value and type(c) is type(value)))
    return float(value)  # type: ignore[arg-type]


def external(dimension: Dimension, number: float) -> Scalar:
    """Return the value that an internal number stands for, inside the dimension."""
    if dimension.kind == "categorical":
        return dimension.choices[int(number)]
    return dimension.bounded(float(number))


def from_unit(dimension: Dimension, share: float) -> Scalar:
    """Map a share in [0, 1) to a value: evenly over the choices, the interval or its logarithm."""
    if dimension.kind == "categorical":
        return dimension.choices[min(int(share * len(dimension.choices)), len(dimension.choices) - 1)]
    if single(dimension):
        return external(dimension, dimension.low)
    low, high = _edges(dimension)
    point = low + share * (high - low)
    return external(dimension, math.exp(point) if dimension.log else point)


def to_unit(dimension: Dimension, value: Scalar) -> float:
    """Map a value of an interval to its share in [0, 1]; the inverse of `from_unit` but for rounding."""
    low, high = _edges(dimension)
    number = internal(dimension, value)
    point = math.log(number) if dimension.log else number
    return (point - low) / (high - low) if high > low else 0.5


def _edges(dimension: Dimension) -> tuple[float, float]:
    """Return the interval, half a step wider on both sides where there are steps, in logarithms where asked."""
    step = dimension.step or (1.0 if dimension.kind == "int" else 0.0)
    margin = step / 2
    low, high = dimension.low - margin, dimension.high + margin
    return (math.log(low), math.log(high)) if dimension.log else (low, high)
