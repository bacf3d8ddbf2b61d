"""Which trials are good when there are several objectives."""

import numpy as np
from optuna._hypervolume.hssp import _solve_hssp
from optuna.study._multi_objective import _fast_non_domination_rank

from tuner.search.trial_table import Floats, Ints

_TINY = 1e-12


def best_of_fronts(losses: Floats, count: int) -> Ints:
    """Return the places of the `count` best rows: whole Pareto fronts, the last one thinned by hypervolume.

    losses [n, objectives], to be minimised; 0 <= count <= n.
    """
    if count == 0:
        return np.empty(0, dtype=np.int64)
    if count == len(losses):
        return np.arange(len(losses))
    ranks = _fast_non_domination_rank(losses, n_below=count)
    sizes = np.bincount(ranks)
    whole = int(np.searchsorted(np.cumsum(sizes), count, side="right"))
    inside = np.flatnonzero(ranks < whole)
    missing = count - len(inside)
    if missing == 0:
        return inside
    front = np.flatnonzero(ranks == whole)
    worst = losses[front].max(axis=0)
    reference = np.maximum(1.1 * worst, 0.9 * worst)
    reference[reference == 0] = _TINY
    chosen = _solve_hssp(losses[front], front, missing, reference)
    return np.sort(np.concatenate([inside, chosen]))
