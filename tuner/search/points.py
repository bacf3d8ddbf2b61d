"""When two trials have the same point. Imports neither Optuna nor numpy: the storage asks."""

from collections.abc import Iterable, Mapping

from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace

PointKey = tuple[tuple[str, float], ...]


def point_key(space: SearchSpace, params: Mapping[str, Scalar]) -> PointKey | None:
    """Return what two equal points have in common; None for what is no whole point of the space."""
    active = space.active(params)
    if any(d.name not in params or not d.contains(params[d.name]) for d in active):
        return None
    return tuple((d.name, _number(d, params[d.name])) for d in active)


def point_keys(space: SearchSpace, points: Iterable[Mapping[str, Scalar]]) -> set[PointKey]:
    """Return the keys of whole points."""
    return {key for params in points if (key := point_key(space, params)) is not None}


def _number(dimension: Dimension, value: Scalar) -> float:
    if dimension.kind == "categorical":
        # by type as well: True == 1 == 1.0 in Python, and a list of choices may hold all three
        return float(next(i for i, c in enumerate(dimension.choices) if c == value and type(c) is type(value)))
    return float(value)  # type: ignore[arg-type]
