"""Space-filling samplers: `random`, `qmc` (scrambled Sobol points), `grid`; valid combinations of a space.

A point follows from the study's seed and the trial's place in the budget alone, so workers need not know of each
other to draw different points.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

from tuner.errors import Problem, SpecError
from tuner.registry import Scalar
from tuner.search.distributions import from_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.grid import combinations, switches
from tuner.search.sampler import suggestion_rng
from tuner.search.space import Dimension, SearchSpace

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
            wanted = "the sampler `grid` needs a list of choices, or `steps: N` beside `low` and `high`"
            raise SpecError([Problem(f"search.{name}", wanted) for name in lacking])

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
