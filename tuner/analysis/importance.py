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


def explained_variance(levels: Sequence[Scalar], values: Sequence[float]) -> float | None:
    """Return epsilon squared of N values grouped by N levels; None when there are too few, or only one level."""
    if len(values) < MIN_TRIALS or len(set(map(repr, levels))) < 2:
        return None
    ranked = _ranks(np.asarray(values, float))
    group = _groups(levels)
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


def _groups(levels: Sequence[Scalar]) -> NDArray[np.intp]:
    """Number the groups: one for each value of a choice, quantiles of a number."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in levels):
        numbers = np.asarray(levels, float)
        distinct = np.unique(numbers)
        if len(distinct) > GROUPS:
            groups = int(min(GROUPS, max(2, len(numbers) // 4)))
            edges = np.quantile(numbers, np.linspace(0, 1, groups + 1)[1:-1])
            return np.searchsorted(edges, numbers, side="right")
    _, inverse = np.unique([repr(level) for level in levels], return_inverse=True)
    return inverse
