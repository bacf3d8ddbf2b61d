"""Space-filling samplers: `random`, `qmc` (scrambled Sobol points), `grid`; valid combinations of a space.

A point follows from the study's seed and the trial's place in the budget alone, so workers need not know of each
other to draw different points.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, product
from typing import Any

from tuner.errors import SpecError
from tuner.registry import Scalar
from tuner.search.distributions import from_unit
from tuner.search.initial_points import CandidateLoss, default_point, round_robin
from tuner.search.sampler import FinishedTrial, suggestion_rng
from tuner.search.space import Dimension, SearchSpace


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


def grid_size(space: SearchSpace) -> int:
    """Return the number of valid combinations of grid points; 0 when an interval lacks `steps`."""
    return sum(
        math.prod(len(d.grid()) for d in space.active(block) if d.name not in block) for block in combinations(space)
    )


def grid_queue(
    space: SearchSpace, competing: Sequence[CandidateLoss], base: Mapping[str, Scalar], trials: int
) -> list[dict[str, Scalar]]:
    """Return the first `trials` points of the grid, each once, the nearest to published defaults first."""
    first = [_snapped(space, default_point(space, loss, base)) for loss in round_robin(competing)]
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


def _snapped(space: SearchSpace, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Move every number of a point to the nearest grid value."""
    found: dict[str, Scalar] = {}
    for dimension in space.active(point):
        value = point[dimension.name]
        if dimension.kind == "categorical":
            found[dimension.name] = value
        else:
            found[dimension.name] = min(dimension.grid(), key=lambda g: abs(float(g or 0) - float(value or 0)))
    return found


_GOLDEN = (math.sqrt(5) - 1) / 2


class SpaceFilling:
    """A sampler without a memory."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn nothing."""

    def own(self, combination: Mapping[str, Scalar], fixed: Mapping[str, Scalar]) -> list[Dimension]:
        """Return the dimensions that are still open once the switches are set."""
        taken = {**combination, **fixed}
        return [d for d in self.space.active(taken) if d.name not in taken]

    @cached_property
    def shuffled(self) -> list[dict[str, Scalar]]:
        """All combinations of the switches, in an order of the study's own."""
        order = suggestion_rng(self.seed, 0, 1).permutation(len(self._combinations))
        return [self._combinations[i] for i in order]

    @cached_property
    def _combinations(self) -> list[dict[str, Scalar]]:
        return combinations(self.space)


class Random(SpaceFilling):
    """Independent draws."""

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point."""
        rng = suggestion_rng(self.seed, slot)
        params = dict(fixed)
        for dimension in self.space:
            # Every dimension draws, active or not, so that a point does not shift with the choice made before it.
            share = rng.random_sample()
            active = dimension.when is None or params.get(dimension.when[0]) == dimension.when[1]
            if active and dimension.name not in params:
                params[dimension.name] = from_unit(dimension, share)
        return params


class Sobol(SpaceFilling):
    """One scrambled Sobol sequence for each combination of the switches, visited in turn."""

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point.

        Of K combinations slot s belongs to sequence s mod K, as its point number s // K: no two slots share a point,
        and each sequence is visited without gaps. A point whose loss is fixed keeps the sequence of its slot.
        """
        from scipy.stats.qmc import Sobol as Sequence01

        stream, index = slot % len(self.shuffled), slot // len(self.shuffled)
        combination = {**self.shuffled[stream], **fixed}
        chosen = {name: combination[name] for name in switches(self.space) if name in combination}
        free = self.own(chosen, fixed)
        if not free:
            return {**chosen, **fixed}
        sequence = Sequence01(len(free), scramble=True, seed=suggestion_rng(self.seed, stream, 2).randint(2**31 - 1))
        if index:
            sequence.fast_forward(index)
        shares = sequence.random(1)[0]
        drawn = {d.name: from_unit(d, float(share)) for d, share in zip(free, shares, strict=True)}
        return {**chosen, **fixed, **drawn}


class Grid(SpaceFilling):
    """Every valid combination of grid points, once each, in an order that covers the grid evenly from the start."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        lacking = [d.name for d in space if not d.grid()]
        if lacking:
            raise SpecError(
                [
                    f"search.{name}: the sampler `grid` needs a list of choices, or `steps: N` beside `low` and `high`"
                    for name in lacking
                ]
            )

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point: number `slot` of the grid points that have the fixed values, then from the start."""
        blocks = [({**block, **fixed}, self.own(block, fixed)) for block in combinations(self.space, fixed)]
        sizes = [math.prod(len(d.grid()) for d in free) for _, free in blocks]
        ends = list(accumulate(sizes))
        place = _spread(slot, ends[-1])
        number = bisect_right(ends, place)
        params, free = blocks[number]
        place -= ends[number] - sizes[number]
        for dimension in free:
            place, index = divmod(place, len(dimension.grid()))
            params[dimension.name] = dimension.grid()[index]
        return params


def _spread(slot: int, size: int) -> int:
    """Return a permutation of 0..size-1 at `slot` (modulo size) whose beginnings are spread over the whole."""
    step = max(1, round(size * _GOLDEN))
    while math.gcd(step, size) != 1:
        step += 1
    return slot * step % size


def random(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Random:
    """Make the sampler `random`."""
    return Random(space, seed)


def qmc(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Sobol:
    """Make the sampler `qmc`."""
    return Sobol(space, seed)


def grid(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Grid:
    """Make the sampler `grid`. Raises SpecError when an interval has no `steps`."""
    return Grid(space, seed)
