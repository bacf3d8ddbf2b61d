"""Grid of a space: valid combinations of its switches, and every point once. Imports no Optuna."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, product

from tuner.registry import Scalar
from tuner.search.initial_points import CandidateLoss, default_point, round_robin
from tuner.search.space import SearchSpace


def switches(space: SearchSpace) -> tuple[str, ...]:
    """Return the choices that each deserve a search of their own: which loss, and whatever other parameters need."""
    return tuple(d.name for d in space if d.name == "loss" or d.name in space.switches)


def combinations(space: SearchSpace, fixed: Mapping[str, Scalar] | None = None) -> list[dict[str, Scalar]]:
    """Return every valid combination of the losses and whatever else other dimensions depend on; `[{}]` without any."""
    found: list[dict[str, Scalar]] = [{}]
    names = switches(space)
    for dimension in space:
        if dimension.name not in names:
            continue
        grown: list[dict[str, Scalar]] = []
        for partial in found:
            if dimension.when and partial.get(dimension.when[0]) != dimension.when[1]:
                grown.append(partial)
            elif fixed and dimension.name in fixed:
                grown.append({**partial, dimension.name: fixed[dimension.name]})
            else:
                grown += [{**partial, dimension.name: choice} for choice in dimension.choices]
        found = grown
    return found


def grid_size(space: SearchSpace, fixed: Mapping[str, Scalar] | None = None) -> int:
    """Return the number of valid combinations of grid points that have the fixed values.

    0 when an interval lacks `steps`.
    """
    kept = fixed or {}
    return sum(
        math.prod(len(d.grid()) for d in space.active({**block, **kept}) if d.name not in block and d.name not in kept)
        for block in combinations(space, fixed)
    )


def grid_queue(
    space: SearchSpace, competing: Sequence[CandidateLoss], base: Mapping[str, Scalar], trials: int
) -> list[dict[str, Scalar]]:
    """Return the first `trials` points of the grid, each once, the nearest to published defaults first."""
    first = [_snap(space, default_point(space, loss, base)) for loss in round_robin(competing)]
    rest = (
        dict(zip(names, values, strict=True))
        for block in combinations(space)
        for names, axes in [_axes(space, block)]
        for values in product(*axes)
    )
    points = {tuple(sorted(point.items(), key=lambda item: item[0])): point for point in chain(first, rest)}
    return list(points.values())[:trials]


def _axes(space: SearchSpace, block: Mapping[str, Scalar]) -> tuple[list[str], list[tuple[Scalar, ...]]]:
    active = space.active(block)
    return [d.name for d in active], [(block[d.name],) if d.name in block else d.grid() for d in active]


def _snap(space: SearchSpace, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Move every number of a point to the nearest grid value."""
    found: dict[str, Scalar] = {}
    for dimension in space.active(point):
        value = point[dimension.name]
        if dimension.kind == "categorical":
            found[dimension.name] = value
        else:
            found[dimension.name] = min(dimension.grid(), key=lambda g: abs(float(g or 0) - float(value or 0)))
    return found
