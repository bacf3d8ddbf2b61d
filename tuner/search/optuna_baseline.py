"""Optuna's own samplers as they ship, to compare ours with; they see the same trials."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from tuner.registry import Scalar
from tuner.search.distributions import distribution, distributions
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import in_memory_study
from tuner.search.space import SearchSpace


class OptunaBaseline:
    """One of Optuna's samplers on a conditional space, asked as a program that uses Optuna asks it."""

    def __init__(self, name: str, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._known: list[FinishedTrial] = []
        self._sampler = _make(name, seed)

    def observe(self, finished: Iterable[FinishedTrial]) -> None:
        """Learn finished trials."""
        self._known += finished

    def suggest(
        self, slot: int, *, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial] = ()
    ) -> dict[str, Scalar]:
        """Return a complete point."""
        study = in_memory_study(("maximize",))
        study.sampler = self._sampler
        study.add_trials([self._frozen(t) for t in sorted([*self._known, *running], key=lambda t: t.number)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = study.ask()
            params: dict[str, Scalar] = dict(fixed)
            for dimension in self._space:
                active = dimension.when is None or params.get(dimension.when[0]) == dimension.when[1]
                if active and dimension.name not in params:
                    params[dimension.name] = trial._suggest(dimension.name, distribution(dimension))
        return params

    def _frozen(self, trial: FinishedTrial) -> Any:
        states = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "RUNNING": TrialState.RUNNING}
        last = {} if trial.last is None else {trial.last[0]: trial.last[1]}
        return create_trial(
            state=states[trial.state],
            value=trial.values[0] if trial.values else None,
            params=dict(trial.params),
            distributions=distributions(self._space, trial.params),
            intermediate_values=last,
        )


def _make(name: str, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "optuna_gp":
            return optuna.samplers.GPSampler(seed=seed)
        if name == "optuna_tpe":
            return optuna.samplers.TPESampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
