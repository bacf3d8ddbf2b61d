"""Greedy selection of an ensemble, and what it gains on cases that took no part in the selection.

Forward selection with replacement, begun with the best models (Caruana et al., Ensemble selection from libraries of
models, ICML 2004, sections 2.1 to 2.3): of `size` steps each adds the model with which the mean of the probabilities
scores best; what is kept is the best of the ensembles that were passed. The score is the study's metric, as a
validation computes it, on the cases that may be used.

The gain is cross-fitted: the cases are divided into halves; ensemble and single trial are both chosen on one half and
compared on the other, then the other way round, over several divisions. The interval is a bootstrap over cases.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_FIRST = 5
"""Models that the selection begins with at most."""
REPEATS = 5
"""Divisions into halves."""
MIN_CASES = 6
"""Fewer cases have no halves to choose and to judge on."""
DRAWS = 10_000
LEVEL = 0.95

Weights = NDArray[np.int64]
"""[members] how often each was taken"""
CaseValues = dict[str, float | None]
"""Values of a unit by class; None: not counted."""


class Pool(Protocol):
    """Models whose probabilities can be averaged, and what the mean scores."""

    @property
    def members(self) -> int:
        """Number of models."""

    @property
    def cases(self) -> Sequence[str]:
        """The case that each scored unit belongs to."""

    @property
    def is_maximized(self) -> bool:
        """Whether higher values are better."""

    def begin(self, units: Sequence[int]) -> "Running":
        """Return an empty ensemble on some of the units."""


class Running(Protocol):
    """An ensemble that grows: the sum of the members' probabilities is kept."""

    def value_with(self, member: int) -> float | None:
        """Return the score that it would have with a further member."""

    def add(self, member: int) -> None:
        """Take a member in."""

    def by_unit(self) -> list[CaseValues]:
        """Return the values of each unit, by class."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen ensemble."""

    counts: dict[int, int]
    """How often each member was taken; those that were not are left out."""
    value: float | None
    """Score on the cases that it was chosen on."""
    path: tuple[float | None, ...]
    """Score after each step."""
    singles: tuple[float | None, ...]
    """Score of every member by itself, on the same cases."""

    @property
    def best_single(self) -> int:
        """Return the member that scores best by itself."""
        return self.order[0]

    order: tuple[int, ...] = ()
    """Members, the best one first."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the ensemble gains over the single trial; positive: in the metric's better direction."""

    estimate: float | None
    interval: tuple[float, float] | None
    """Of `LEVEL`; None with fewer than `MIN_CASES` cases."""
    cases: int
    repeats: int
    by_case: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "estimate": self.estimate,
            "interval": None if self.interval is None else list(self.interval),
            "level": LEVEL,
            "cases": self.cases,
            "divisions": self.repeats,
            "by_case": self.by_case,
            "generalises_to": "nothing" if self.interval is None else "new cases",
        }


def select_greedily(
    pool: Pool, size: int, units: Sequence[int], on_step: Callable[[int], None] = lambda done: None
) -> Selection:
    """Choose up to `size` members, with replacement, for the score on some units."""
    sign = 1 if pool.is_maximized else -1

    def rank(value: float | None) -> float:
        return -np.inf if value is None or not np.isfinite(value) else sign * value

    empty = pool.begin(units)
    singles = [empty.value_with(member) for member in range(pool.members)]
    order = sorted(range(pool.members), key=lambda member: (-rank(singles[member]), member))
    first = _first_members(pool, units, order[: min(MAX_FIRST, size)], rank)
    running, taken, path = pool.begin(units), [], []
    for step in range(size):
        if step < len(first):
            chosen = first[step]
            value = running.value_with(chosen)
        else:
            values = [running.value_with(member) for member in range(pool.members)]
            chosen = max(order, key=lambda member: rank(values[member]))  # of equal ones the best by itself
            value = values[chosen]
        running.add(chosen)
        taken.append(chosen)
        path.append(value)
        on_step(step + 1)
    best = max(range(size), key=lambda step: (rank(path[step]), -step))
    return Selection(dict(Counter(taken[: best + 1])), path[best], tuple(path), tuple(singles), tuple(order))


def _first_members(
    pool: Pool, units: Sequence[int], order: Sequence[int], rank: Callable[[float | None], float]
) -> Sequence[int]:
    """Return as many of the best members as score best together."""
    running, values = pool.begin(units), []
    for member in order:
        values.append(rank(running.value_with(member)))
        running.add(member)
    return order[: int(np.argmax(values)) + 1]


def cross_fitted_gain(
    pool: Pool,
    size: int,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    on_step: Callable[[int], None] = lambda done: None,
) -> Gain:
    """Return the gain on cases that took no part in choosing, and its interval over cases."""
    names = list(dict.fromkeys(pool.cases))
    if len(names) < MIN_CASES:
        return Gain(None, None, len(names), 0)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        drawn = rng.permutation(len(names))
        halves = [{names[k] for k in half} for half in np.array_split(drawn, 2)]
        for number, (choosing, judging) in enumerate((halves, halves[::-1])):
            for case, difference in _differences(pool, size, choosing, judging).items():
                found.setdefault(case, []).append(difference)
            on_step(2 * repeat + number + 1)
    means = {case: float(np.mean(values)) for case, values in found.items()}
    if len(means) < MIN_CASES:
        return Gain(None, None, len(means), repeats, means)
    return Gain(
        float(np.mean([*means.values()])), bootstrap_interval([*means.values()], seed), len(means), repeats, means
    )


def _differences(pool: Pool, size: int, choosing: set[str], judging: set[str]) -> dict[str, float]:
    """Choose on the one half, and return by case of the other what the ensemble gains over the single trial.

    The classes of a unit that both have a value of count; units of a case are averaged.
    """
    units = [unit for unit, case in enumerate(pool.cases) if case in choosing]
    judged = [unit for unit, case in enumerate(pool.cases) if case in judging]
    chosen = select_greedily(pool, size, units)
    together, single = pool.begin(judged), pool.begin(judged)
    for member, count in chosen.counts.items():
        for _ in range(count):
            together.add(member)
    single.add(chosen.best_single)
    sign = 1 if pool.is_maximized else -1
    found: dict[str, list[float]] = {}
    for unit, ours, theirs in zip(judged, together.by_unit(), single.by_unit(), strict=True):
        pairs = [(ours[name], theirs.get(name)) for name in ours]
        counted = [(a, b) for a, b in pairs if a is not None and b is not None]
        if counted:
            found.setdefault(pool.cases[unit], []).append(sign * float(np.mean([a - b for a, b in counted])))
    return {case: float(np.mean(values)) for case, values in found.items()}


def bootstrap_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the percentile interval of the mean over cases drawn with replacement.

    Widened by sqrt(n / (n - 1)): a bootstrap of n values has the variance of n - 1 (Efron and Tibshirani 1993, 14.3).
    """
    cases = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=DRAWS)
    deviations = counts @ cases / len(cases) - cases.mean()
    low, high = np.quantile(deviations, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) * np.sqrt(len(cases) / (len(cases) - 1))
    return float(cases.mean() + low), float(cases.mean() + high)
