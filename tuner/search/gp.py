"""Gaussian process on a conditional space: TPE draws the loss, Optuna's GPSampler the rest, one for each loss.

On the whole space Optuna's sampler would model only what all losses have in common and draw their options at random.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.samplers import GPSampler
from optuna.trial import TrialState, create_trial

from tuner.registry import Scalar
from tuner.search.branch_sampler import BranchSampler
from tuner.search.distributions import distribution, external, internal
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import in_memory_study, suggestion_rng
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Floats, TrialTable

_MIN_TRIALS = 2
_MAX_TRIALS = 300


class GaussianProcess(BranchSampler):
    """TPE over the losses, and a Gaussian process for each of them.

    Optuna's sampler learns from completed trials only, so it is shown a pruned trial at its last report and one that
    diverged or ran out of memory at the worst value seen. It is made anew each time: a suggestion must not
    depend on those made before it. Fitting takes time that grows with the cube of the trials of a loss; beyond 300
    the best 100 and the newest are shown.
    """

    def __init__(self, space: SearchSpace, directions: Sequence[str], seed: int, *, startup_trials: int) -> None:
        super().__init__(space, directions, seed, startup_trials=startup_trials, numeric=False)

    def _suggest_branch(
        self,
        table: TrialTable,
        params: Mapping[str, Scalar],
        slot: int,
        fixed: Mapping[str, Scalar],
        running: Sequence[FinishedTrial],
    ) -> dict[str, Scalar]:
        free = [d for d in table.dimensions if d.name not in fixed]
        if len(table) < _MIN_TRIALS or not free:
            return {}
        switches = self._branches.switches
        beside = [r for r in running if all(r.params.get(name) == params.get(name) for name in switches)]
        return self._draw(table, free, beside, slot)

    def _draw(
        self, ledger: TrialTable, free: Sequence[Dimension], running: Sequence[FinishedTrial], slot: int
    ) -> dict[str, Scalar]:
        losses, rows = self._branches.losses(ledger), ledger.columns()[1]
        places = [ledger.dimensions.index(d) for d in free]
        space = {d.name: distribution(d) for d in free}

        def point(row: Floats) -> dict[str, Scalar]:
            return {d.name: external(d, row[place]) for d, place in zip(free, places, strict=True)}

        study = in_memory_study(["minimize"] * losses.shape[1])
        storage, study_id = study._storage, study._study_id
        for i in _most_telling(losses[:, 0]):
            told = create_trial(values=losses[i].tolist(), params=point(rows[i]), distributions=space)
            storage.create_new_trial(study_id, told)
        for row in ledger.running(running)[1]:
            lie = create_trial(state=TrialState.RUNNING, params=point(row), distributions=space)
            storage.create_new_trial(study_id, lie)
        seed = int(suggestion_rng(self._seed, slot, 4).randint(2**31 - 1))
        sampler = GPSampler(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        asked = storage.get_trial(storage.create_new_trial(study_id))
        drawn = sampler.sample_relative(study, asked, space)
        return {d.name: external(d, internal(d, drawn[d.name])) for d in free}


def _most_telling(losses: Floats) -> list[int]:
    """Return the places of the best third of what can be shown and of the newest others, in order."""
    if len(losses) <= _MAX_TRIALS:
        return list(range(len(losses)))
    best = set(np.argsort(losses, kind="stable")[: _MAX_TRIALS // 3].tolist())
    others = [i for i in range(len(losses)) if i not in best]
    return sorted([*best, *others[len(best) - _MAX_TRIALS :]])


def gp(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> GaussianProcess:
    """Make the sampler `gp`."""
    return GaussianProcess(space, directions, seed, startup_trials=options["startup_trials"])
