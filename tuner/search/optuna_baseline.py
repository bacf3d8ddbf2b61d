"""Optuna's own samplers and pruners as they ship, to compare ours with; they see the same trials."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from tuner.registry import Scalar
from tuner.search.distributions import distribution, internal
from tuner.search.space import SearchSpace

SAMPLERS = ("optuna_tpe", "optuna_tpe_multivariate", "optuna_gp", "optuna_random")
"""The default TPE; multivariate, by group, with constant liar; Gaussian process; random."""
PRUNERS = ("optuna_median", "optuna_hyperband", "optuna_asha")
"""With the options that are Optuna's defaults; Hyperband is told the number of epochs."""


class OptunaStudy:
    """A study in memory, driven as Optuna's `ask`, `report`, `should_prune` and `tell` drive one.

    What is asked for may be replaced by the nearest recorded point before it begins.
    """

    def __init__(self, sampler: str | None, pruner: str | None, space: SearchSpace, *, epochs: int, seed: int) -> None:
        self._space = space
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            level = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._study = optuna.create_study(
                study_name=f"replay-{seed}",  # Hyperband deals out brackets by it
                direction="maximize",
                sampler=_sampler(sampler, seed),
                pruner=_pruner(pruner, epochs),
            )
            optuna.logging.set_verbosity(level)
        self._storage = self._study._storage
        self._ids: list[int] = []

    def ask(self) -> dict[str, Scalar]:
        """Begin a trial and return the point that the sampler wants."""
        trial_id = self._storage.create_new_trial(self._study._study_id)
        self._ids.append(trial_id)
        self._study._thread_local.cached_all_trials = None  # as `Study.ask` does: else its sampler learns nothing
        frozen = self._storage.get_trial(trial_id)
        study = optuna.pruners._filter_study(self._study, frozen)
        sampler = self._study.sampler
        params: dict[str, Scalar] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler.before_trial(study, frozen)
            together = sampler.infer_relative_search_space(study, frozen)
            relative = sampler.sample_relative(study, frozen, together)
            for dimension in self._space:
                if dimension.when is not None and params.get(dimension.when[0]) != dimension.when[1]:
                    continue
                form = distribution(dimension)
                value = relative.get(dimension.name)
                if value is None:
                    value = sampler.sample_independent(study, frozen, dimension.name, form)
                params[dimension.name] = value
        return params

    def start(self, params: Mapping[str, Scalar]) -> None:
        """Give the trial that was asked for last its point."""
        for dimension in self._space.active(params):
            number = internal(dimension, params[dimension.name])
            self._storage.set_trial_param(self._ids[-1], dimension.name, number, distribution(dimension))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Report an epoch; tell whether the pruner would end the trial now."""
        self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)
        trial = self._storage.get_trial(self._ids[number])
        return self._study.pruner.prune(self._study, trial)

    def finish(self, number: int, state: str, value: float | None) -> None:
        """End a trial; one that diverged has failed, as one that returns NaN does in Optuna."""
        states = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "DIVERGED": TrialState.FAIL}
        values = None if value is None else [value]
        self._storage.set_trial_state_values(self._ids[number], states[state], values)


def _sampler(name: str | None, seed: int) -> BaseSampler:
    if name is None or name == "optuna_random":
        return RandomSampler(seed=seed)
    if name == "optuna_gp":
        return GPSampler(seed=seed, warn_independent_sampling=False)
    if name == "optuna_tpe":
        return TPESampler(seed=seed)
    return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _pruner(name: str | None, epochs: int) -> BasePruner:
    made: dict[str | None, Any] = {
        "optuna_median": MedianPruner,
        "optuna_asha": SuccessiveHalvingPruner,
        "optuna_hyperband": lambda: HyperbandPruner(max_resource=epochs),
    }
    pruner: BasePruner = made.get(name, NopPruner)()
    return pruner
