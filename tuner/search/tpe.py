"""Tree-structured Parzen estimator on a conditional space: shared dimensions first, then the chosen branches.

Optuna's multivariate TPE with `group` and `constant_liar` splits a conditional space into groups that are sampled one
after the other. Ours are known beforehand: the dimensions that every trial has, `loss` among them, and one group for
each (switch, choice). Only the groups that the new trial needs are sampled, from columns that are kept up to date, so
a suggestion costs the same however many losses compete. The densities are Optuna's own.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna._hypervolume.hssp import _solve_hssp
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.probability_distributions import (
    _BatchedCategoricalDistributions,
    _MixtureOfProductDistribution,
)
from optuna.samplers._tpe.sampler import default_weights

from tuner.registry import Scalar
from tuner.search.distributions import distribution, external, from_unit, internal, single
from tuner.search.finished_trial import FinishedTrial
from tuner.search.pareto import whole_fronts
from tuner.search.sampler import suggestion_rng
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Floats, Ints, TrialTable

_TINY = 1e-12


def best_by_fronts(losses: Floats, count: int) -> Ints:
    """Return the places of the `count` best rows: whole Pareto fronts, the last one thinned by hypervolume.

    losses [n, objectives], to be minimised; 0 <= count <= n.
    """
    if count == 0:
        return np.empty(0, dtype=np.int64)
    if count == len(losses):
        return np.arange(len(losses))
    fronts = whole_fronts([tuple(row) for row in losses.tolist()], count)
    inside, front = (np.array(places, np.int64) for places in fronts)
    missing = count - len(inside)
    if missing == 0:
        return inside
    worst = losses[front].max(axis=0)
    reference = np.maximum(1.1 * worst, 0.9 * worst)
    reference[reference == 0] = _TINY
    chosen = _solve_hssp(losses[front], front, missing, reference)
    return np.sort(np.concatenate([inside, chosen]))


_PARAMETERS = _ParzenEstimatorParameters(
    prior_weight=1.0, consider_magic_clip=True, consider_endpoints=False, weights=default_weights, multivariate=True
)
_GOOD_SHARE, _MAX_GOOD = 0.1, 25
_BRANCH_TRIALS, _MIN_ALIKE = 2, 4


class Tpe:
    """Suggests points by expected improvement, group after group."""

    def __init__(
        self, space: SearchSpace, directions: Sequence[str], seed: int, *, startup_trials: int, candidates: int
    ) -> None:
        self.space = space
        self._seed = seed
        self._startup, self._candidates = startup_trials, candidates
        keys = dict.fromkeys(dimension.when for dimension in space)
        self._groups = {key: Group([d for d in space if d.when == key and not single(d)], directions) for key in keys}
        self._seen = 0

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn finished trials."""
        for trial in trials:
            self._seen += 1
            for key, group in self._groups.items():
                if key is None or trial.params.get(key[0]) == key[1]:
                    group.ledger.add(trial)

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point."""
        rng = suggestion_rng(self._seed, slot)
        params = dict(fixed)
        for key, group in self._groups.items():
            if key is None or params.get(key[0]) == key[1]:
                if self._trusts(key, group):
                    params |= group.sample(rng, params, running, self._candidates)
                for dimension in self.space:
                    if dimension.when == key and dimension.name not in params:
                        params[dimension.name] = from_unit(dimension, rng.random_sample())
        return params

    def _trusts(self, key: tuple[str, str] | None, group: "Group") -> bool:
        least = 1 if key is None else _BRANCH_TRIALS
        return self._seen >= self._startup and len(group.ledger) >= least


class Group:
    """Dimensions that a trial has all together or not at all, and what is known about them."""

    def __init__(self, dimensions: Sequence[Dimension], directions: Sequence[str]) -> None:
        self.ledger = TrialTable(dimensions, directions)
        self._several = len(directions) > 1
        self._distributions = {d.name: distribution(d) for d in dimensions}

    def sample(
        self,
        rng: np.random.RandomState,
        fixed: Mapping[str, Scalar],
        running: Sequence[FinishedTrial],
        candidates: int,
    ) -> dict[str, Scalar]:
        """Return the candidate with the largest expected improvement; what is fixed is taken as given."""
        dimensions = self.ledger.dimensions
        free = [i for i, d in enumerate(dimensions) if d.name not in fixed]
        if not free:
            return {}
        given = {
            i: int(internal(d, fixed[d.name]))
            for i, d in enumerate(dimensions)
            if d.name in fixed and d.kind == "categorical" and d.contains(fixed[d.name])
        }
        places = self._tell_outcome(given)
        good, bad = self._split(places)
        numbers, rows = self.ledger.columns()
        liar_numbers, liars = self.ledger.running(running)
        bad_rows = _in_order(numbers[bad], rows[bad], liar_numbers, liars)
        weights = np.ones(len(good)) if self._several else None
        better = self._density(rows[good], given, free, weights)
        worse = self._density(bad_rows, given, free, None)
        points = better.sample(rng, candidates)
        best = points[int(np.argmax(better.log_pdf(points) - worse.log_pdf(points)))]
        return {dimensions[i].name: external(dimensions[i], number) for i, number in zip(free, best, strict=True)}

    def _tell_outcome(self, given: Mapping[int, int]) -> Ints:
        """Return the places of the trials to learn from: those with the fixed choices once there are enough of them.

        Among all trials the good ones may all be of another loss, and say nothing about what suits a fixed one.
        """
        rows = self.ledger.columns()[1]
        alike = np.flatnonzero((rows[:, list(given)] == list(given.values())).all(axis=1))
        return alike if len(alike) >= _MIN_ALIKE else np.arange(len(rows))

    def _split(self, places: Ints) -> tuple[Ints, Ints]:
        """Return the places of the good and of the bad trials among these, each in order of number."""
        ranks, losses = self.ledger.ranks()
        n_good = math.ceil(_GOOD_SHARE * len(places))
        order = places[np.lexsort(ranks[places].T[::-1])]
        if self._several:
            complete = places[ranks[places, 0] == 0]
            fronts = best_by_fronts(losses[complete], min(n_good, len(complete)))
            chosen = complete[fronts]
            order = np.concatenate([chosen, order[~np.isin(order, chosen)]])
        else:
            n_good = min(n_good, _MAX_GOOD)
        return np.sort(order[:n_good]), np.sort(order[n_good:])

    def _density(
        self, rows: Floats, given: Mapping[int, int], free: Sequence[int], weights: Floats | None
    ) -> _MixtureOfProductDistribution:
        """Return the kernel density of the free dimensions, given the fixed choices."""
        columns = {d.name: rows[:, i] for i, d in enumerate(self.ledger.dimensions)}
        estimator = _ParzenEstimator(columns, self._distributions, _PARAMETERS, weights)
        mixture: Any = estimator._mixture_distribution
        kernel_weights = mixture.weights
        for i, choice in given.items():
            kernel: _BatchedCategoricalDistributions = mixture.distributions[i]
            kernel_weights = kernel_weights * kernel.weights[:, choice]
        return _MixtureOfProductDistribution(
            weights=kernel_weights / kernel_weights.sum(), distributions=[mixture.distributions[i] for i in free]
        )


def _in_order(numbers: Ints, rows: Floats, liar_numbers: Ints, liars: Floats) -> Floats:
    """Merge running trials into the bad ones by number, since older kernels weigh less."""
    if not len(liars):
        return rows
    order = np.argsort(np.concatenate([numbers, liar_numbers]), kind="stable")
    return np.concatenate([rows, liars])[order]


def tpe(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Tpe:
    """Make the sampler `tpe`."""
    return Tpe(space, directions, seed, startup_trials=options["startup_trials"], candidates=options["candidates"])
