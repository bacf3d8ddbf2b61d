"""Parameter importance: the share of a study's variance that each parameter explains by itself.

For a parameter, trials are put into groups (its values, or quantiles of them) and the variance between the groups is
compared with the whole: epsilon squared, the share that is left after what chance alone would give is taken off
(Kelley 1935). Unlike a forest's importance it needs no seed, costs O(N) and is 0 for a parameter that does nothing.

Symbols: N trials, G groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.registry import Scalar

MIN_TRIALS = 8
"""With fewer trials nothing is said."""
GROUPS = 8
"""Most groups that a numeric parameter is divided into."""
COARSE_GROUPS = 4
"""The same for pairs: their cells must hold several trials each."""


@dataclass(frozen=True, slots=True)
class Importance:
    """One parameter's share of the variance, 0 to 1, from so many trials that have it."""

    name: str
    share: float
    trials: int


def importances(params: Sequence[Mapping[str, Scalar]], values: Sequence[float]) -> list[Importance]:
    """Return every parameter that varies, the most important first.

    A conditional parameter is judged among the trials that have it.
    """
    names = dict.fromkeys(name for point in params for name in point)
    found = []
    for name in names:
        chosen = [i for i, point in enumerate(params) if name in point]
        share = explained_variance([params[i][name] for i in chosen], [values[i] for i in chosen])
        if share is not None:
            found.append(Importance(name, share, len(chosen)))
    return sorted(found, key=lambda item: (-item.share, item.name))


@dataclass(frozen=True, slots=True)
class Interaction:
    """What two parameters explain together beyond what each explains by itself, as a share of the variance."""

    first: str
    second: str
    share: float
    trials: int


def interactions(params: Sequence[Mapping[str, Scalar]], values: Sequence[float]) -> list[Interaction]:
    """Return every pair of parameters that vary together, the strongest interaction first.

    A two-way analysis of variance on ranks: epsilon squared of the cells of both parameters (`COARSE_GROUPS` groups
    of each number) less that of each by itself, at least 0. Pairs that no `MIN_TRIALS` trials have are left out.
    """
    names = list(dict.fromkeys(name for point in params for name in point))
    found = []
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            chosen = [i for i, point in enumerate(params) if first in point and second in point]
            share = _interaction(
                [params[i][first] for i in chosen], [params[i][second] for i in chosen], [values[i] for i in chosen]
            )
            if share is not None:
                found.append(Interaction(first, second, share, len(chosen)))
    return sorted(found, key=lambda item: (-item.share, item.first, item.second))


def _interaction(first: Sequence[Scalar], second: Sequence[Scalar], values: Sequence[float]) -> float | None:
    if len(values) < MIN_TRIALS:
        return None
    levels = [_groups(first, COARSE_GROUPS), _groups(second, COARSE_GROUPS)]
    if any(len(np.unique(of)) < 2 for of in levels):
        return None
    cells = levels[0] * (levels[1].max() + 1) + levels[1]
    ranked = _ranks(np.asarray(values, float))
    joint, *single = (_epsilon_squared(of, ranked) for of in (cells, *levels))
    if joint is None or any(share is None for share in single):
        return None
    return max(0.0, joint - sum(share or 0.0 for share in single))


def explained_variance(levels: Sequence[Scalar], values: Sequence[float]) -> float | None:
    """Return epsilon squared of N values grouped by N levels; None when there are too few, or only one level."""
    if len(values) < MIN_TRIALS or len(set(map(repr, levels))) < 2:
        return None
    return _epsilon_squared(_groups(levels), _ranks(np.asarray(values, float)))


def _epsilon_squared(group: NDArray[np.intp], ranked: NDArray[np.float64]) -> float | None:
    """Return the share of the variance of N ranks that N group numbers explain; None without a degree of freedom."""
    count = np.bincount(group)
    present = count > 0
    within_mean = np.bincount(group, ranked)[present] / count[present]
    total = float(((ranked - ranked.mean()) ** 2).sum())
    groups, n = int(present.sum()), len(ranked)
    if total == 0 or n <= groups:
        return 0.0 if total == 0 else None
    between = float((count[present] * (within_mean - ranked.mean()) ** 2).sum())
    noise = (total - between) / (n - groups)
    return min(1.0, max(0.0, (between - (groups - 1) * noise) / total))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace values by ranks: one collapsed trial must not outweigh a hundred good ones."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.bincount(inverse, ranks) / counts)[inverse]


def _groups(levels: Sequence[Scalar], most: int = GROUPS) -> NDArray[np.intp]:
    """Number the groups: one for each value of a choice, quantiles of a number."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in levels):
        numbers = np.asarray(levels, float)
        distinct = np.unique(numbers)
        if len(distinct) > most:
            groups = int(min(most, max(2, len(numbers) // 4)))
            edges = np.quantile(numbers, np.linspace(0, 1, groups + 1)[1:-1])
            return np.searchsorted(edges, numbers, side="right")
    _, inverse = np.unique([repr(level) for level in levels], return_inverse=True)
    return inverse
