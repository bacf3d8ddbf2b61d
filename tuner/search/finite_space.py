"""Points that were not tried: where a space, or a part of it, holds a countable number of points, none is tried twice.

Samplers know nothing of this: their suggestion is kept unless its point is taken, and is then moved to the nearest one
that is not, at first with the same loss.
"""

import math
from collections.abc import Callable, Collection, Mapping
from itertools import product

import numpy as np

from tuner.registry import Scalar
from tuner.search.distributions import single, to_unit
from tuner.search.grid import combinations, switches
from tuner.search.points import PointKey, point_key
from tuner.search.sampler import suggestion_rng
from tuner.search.space import Dimension, SearchSpace

MAX_COMPARED = 4096
"""In a larger part of a space, the first untried point from a random one on is taken instead of the nearest."""
_STREAM = 9


def members(dimension: Dimension) -> int | None:
    """Return how many values a dimension has; None for an interval of real numbers."""
    if dimension.kind == "categorical":
        return len(dimension.choices)
    if single(dimension):
        return 1
    step = dimension.step or (1.0 if dimension.kind == "int" else None)
    return None if step is None else round((dimension.high - dimension.low) / step) + 1


def count_points(space: SearchSpace, fixed: Mapping[str, Scalar] | None = None) -> int | None:
    """Return the number of points of a space that have the fixed values; None when there is no end of them."""
    total = 0
    for block in combinations(space, fixed):
        sizes = [members(d) for d in _free(space, {**block, **(fixed or {})})]
        if None in sizes:
            return None
        total += math.prod(size for size in sizes if size is not None)
    return total


def can_repeat(space: SearchSpace, params: Mapping[str, Scalar]) -> bool:
    """Tell whether the point lies in a part of the space that is finite, so that it may come up by itself again."""
    return all(members(d) is not None for d in space.active(params))


def untried(
    space: SearchSpace,
    params: dict[str, Scalar],
    taken: Collection[PointKey],
    *,
    seed: int,
    slot: int,
    fixed: Mapping[str, Scalar],
    suggest: Callable[[Mapping[str, Scalar]], dict[str, Scalar]],
) -> dict[str, Scalar]:
    """Return a suggested point, or, when it is taken, another one; itself when all points are taken.

    Args:
        space: What is searched.
        params: The suggestion, a whole point.
        taken: Keys of the points that are finished, running or queued.
        seed: The study's.
        slot: The trial's place in the budget.
        fixed: Values that must be kept.
        suggest: Asks the sampler for a point with more values fixed.
    """
    if point_key(space, params) not in taken:
        return params
    rng = suggestion_rng(seed, slot, _STREAM)
    names = switches(space)
    here = {name: params[name] for name in names if name in params}
    others = [block for block in combinations(space, fixed) if block != here]
    for block in (here, *(others[i] for i in rng.permutation(len(others)))):
        kept = {**block, **fixed}
        wanted = params if block == here else suggest(kept)
        if point_key(space, wanted) not in taken:
            return wanted
        found = _nearest(space, wanted, taken, kept, rng)
        if found is not None:
            return found
    return params


def _free(space: SearchSpace, kept: Mapping[str, Scalar]) -> list[Dimension]:
    return [d for d in space.active(kept) if d.name not in kept]


def _nearest(
    space: SearchSpace,
    wanted: Mapping[str, Scalar],
    taken: Collection[PointKey],
    kept: Mapping[str, Scalar],
    rng: np.random.RandomState,
) -> dict[str, Scalar] | None:
    """Return the untried point that is nearest to `wanted` and has the values kept; None when there is none."""
    free = _free(space, kept)
    sizes = [members(d) or 0 for d in free]
    total = math.prod(sizes)
    base = {d.name: kept[d.name] for d in space.active(kept) if d.name in kept}
    if total > MAX_COMPARED:
        start = int(rng.randint(total, dtype=np.int64))
        # of any len(taken) + 1 points one is untried
        places = ((start + i) % total for i in range(min(total, len(taken) + 1)))
        found = (base | _at(free, sizes, place) for place in places)
        return next((point for point in found if point_key(space, point) not in taken), None)
    best: tuple[float, float] | None = None
    chosen = None
    for values in product(*(_values(d) for d in free)):
        point = base | {d.name: value for d, value in zip(free, values, strict=True)}
        far = sum(_distance(d, point[d.name], wanted[d.name]) for d in free)
        rank = (round(far, 12), rng.random_sample())
        if point_key(space, point) not in taken and (best is None or rank < best):
            best, chosen = rank, point
    return chosen


def _at(free: list[Dimension], sizes: list[int], place: int) -> dict[str, Scalar]:
    point: dict[str, Scalar] = {}
    for dimension, size in zip(free, sizes, strict=True):
        place, index = divmod(place, size)
        point[dimension.name] = _value(dimension, index)
    return point


def _values(dimension: Dimension) -> list[Scalar]:
    return [_value(dimension, index) for index in range(members(dimension) or 0)]


def _value(dimension: Dimension, index: int) -> Scalar:
    if dimension.kind == "categorical":
        return dimension.choices[index]
    return dimension.bounded(dimension.low + index * (dimension.step or 1.0))


def _distance(dimension: Dimension, one: Scalar, other: Scalar) -> float:
    if dimension.kind == "categorical":
        return float(one != other or type(one) is not type(other))
    return abs(to_unit(dimension, one) - to_unit(dimension, other))
