"""Sampler protocol, finished trials as samplers see them, and suggestions seeded by study and place in the budget."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
from optuna.study import StudyDirection

from tuner.registry import Scalar, defaults, load, option_named
from tuner.search.catalog import SAMPLERS
from tuner.search.distributions import distributions
from tuner.search.finished_trial import FinishedTrial
from tuner.search.space import SearchSpace


def suggestion_rng(seed: int, slot: int, *stream: int) -> np.random.RandomState:
    """Return the generator for a budget slot of a study; `stream` makes further independent ones."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, slot, *stream])))


__all__ = ["Sampler", "SeededSampler", "distributions"]


class Sampler(Protocol):
    """What every row of the samplers' catalogue makes."""

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn finished trials, each of them once, in any order."""

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point that keeps the fixed values."""


@runtime_checkable
class ModelsTasks(Protocol):
    """A sampler that models several tasks, and the mean over seeds of a trial beside the one value that was seen."""

    def observe_other(self, results: Sequence[FinishedTrial]) -> None:
        """Learn results of other data, as they were measured there."""

    def estimates(self) -> dict[int, float]:
        """Return the mean over seeds to be expected of each complete trial, by number."""


class SeededSampler:
    """One study's sampler with its memory.

    A suggestion follows from the study's seed, the trial's place in the budget and the trials observed, and from
    nothing else: not from the order in which they were observed, nor from what was suggested before.
    """

    def __init__(
        self, space: SearchSpace, directions: Sequence[str], *, sampler: str, options: Mapping[str, Any], seed: int
    ) -> None:
        """Make the sampler.

        Args:
            space: what is searched.
            directions: `maximize` or `minimize` for each objective.
            sampler: a name in the catalogue.
            options: the sampler's options; those left out take their defaults.
            seed: the study's seed, the same in every worker.

        Raises:
            UnknownNameError: the sampler or an option does not exist.
            SpecError: the sampler cannot search this space.
        """
        row = SAMPLERS.find(sampler, where="sampler.name")
        for name in options:
            option_named(row, name, kind="sampler", where=f"sampler.{name}")
        self._take(space, load(row.fn)(space, tuple(directions), seed, {**defaults(row), **options}))

    def _take(self, space: SearchSpace, sampler: Sampler) -> None:
        self._space = space
        self._seen: set[int] = set()
        self._sampler = sampler

    @classmethod
    def around(cls, space: SearchSpace, sampler: Sampler) -> "SeededSampler":
        """Return one for a sampler that is made already."""
        made = cls.__new__(cls)
        made._take(space, sampler)
        return made

    def observe(self, finished: Iterable[FinishedTrial]) -> None:
        """Learn finished trials; those already known and those still running are passed over."""
        new = {t.number: t for t in finished if t.state != "RUNNING" and t.number not in self._seen}
        self._seen.update(new)
        self._sampler.observe([new[number] for number in sorted(new)])

    def suggest(
        self, slot: int, *, fixed: Mapping[str, Scalar], running: Iterable[FinishedTrial] = ()
    ) -> dict[str, Scalar]:
        """Return a complete point of the space, in the space's order.

        Args:
            slot: the trial's place in the budget, from 0.
            fixed: values that are kept, all of them or only some, as in `{"loss": "focal"}`.
            running: trials that other workers are evaluating.
        """
        params = dict(fixed)
        if any(d.name not in params for d in self._space.active(params)):
            params = self._sampler.suggest(slot, fixed, [t for t in running if t.number not in self._seen])
        return {d.name: params[d.name] for d in self._space.active(params)}

    def estimates(self) -> dict[int, float]:
        """Return the mean over seeds to be expected of complete trials, by number; empty where nothing estimates it."""
        return self._sampler.estimates() if isinstance(self._sampler, ModelsTasks) else {}

    def observe_other(self, results: Sequence[FinishedTrial]) -> bool:
        """Learn results of other data as they are; False where the sampler needs them on the scale of the study."""
        if not isinstance(self._sampler, ModelsTasks):
            return False
        self._sampler.observe_other(results)
        return True


def in_memory_study(directions: Sequence[str]) -> optuna.Study:
    """Return an empty study in memory, without Optuna's announcement that it was created."""
    logger = logging.getLogger("optuna.storages._in_memory")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return optuna.create_study(directions=[StudyDirection[direction.upper()] for direction in directions])
    finally:
        logger.setLevel(level)
