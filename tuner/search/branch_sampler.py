"""Samplers that let TPE choose the branch, as the loss, and search the options of each branch by themselves."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from tuner.registry import Scalar
from tuner.search.finished_trial import FinishedTrial
from tuner.search.space import SearchSpace
from tuner.search.tpe import Tpe
from tuner.search.trial_table import Branches, TrialTable


class BranchSampler(ABC):
    """TPE over the switches of a space, and something else over the dimensions of each branch.

    Args:
        space: What is searched.
        directions: `maximize` or `minimize` for each objective.
        seed: The study's.
        startup_trials: Finished trials before which TPE suggests everything.
        numeric: Whether the branches hold numbers only, and their other choices are TPE's as well.
    """

    def __init__(
        self, space: SearchSpace, directions: Sequence[str], seed: int, *, startup_trials: int, numeric: bool
    ) -> None:
        self._tpe = Tpe(space, directions, seed, startup_trials=startup_trials, candidates=24)
        self._branches = Branches(space, directions, numeric=numeric)
        self._seed, self._startup, self._seen = seed, startup_trials, 0

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn finished trials."""
        known = list(trials)
        self._tpe.observe(known)
        for trial in known:
            self._seen += 1
            self._branches.observe(trial)

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point; TPE's own until the startup trials are over."""
        params = self._tpe.suggest(slot, fixed, running)
        if self._seen < self._startup:
            return params
        return params | self._suggest_branch(self._branches.ledger(params), params, slot, fixed, running)

    @abstractmethod
    def _suggest_branch(
        self,
        table: TrialTable,
        params: Mapping[str, Scalar],
        slot: int,
        fixed: Mapping[str, Scalar],
        running: Sequence[FinishedTrial],
    ) -> dict[str, Scalar]:
        """Return values for the dimensions of the branch of `params`; those left out stay TPE's."""
