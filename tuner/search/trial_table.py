"""Finished trials as columns of numbers, for one group of dimensions or for one combination of the switches."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.registry import Scalar
from tuner.search.distributions import internal, single
from tuner.search.finished_trial import FinishedTrial
from tuner.search.grid import switches
from tuner.search.space import Dimension, SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = tuple[float, ...]


class TrialTable:
    """The finished trials that have all of some dimensions, as columns, ordered by trial number.

    The order does not depend on the order in which trials finished, so a worker that joins late and reads the whole
    history at once holds the same ledger as one that has read along.
    """

    def __init__(self, dimensions: Sequence[Dimension], directions: Sequence[str]) -> None:
        self.dimensions = tuple(dimensions)
        self._signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
        self._numbers: list[int] = []
        self._rows: list[Row] = []
        self._ranks: list[tuple[float, float, float]] = []
        self._losses: list[Row] = []
        self._cache: tuple[Ints, Floats, Floats, Floats] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, trial: FinishedTrial) -> Row | None:
        """Return the trial's point in internal values, or None when it lacks a dimension or lies outside one."""
        found = []
        for dimension in self.dimensions:
            value = trial.params.get(dimension.name)
            if dimension.name not in trial.params or not dimension.contains(value):
                return None
            found.append(internal(dimension, value))
        return tuple(found)

    def add(self, trial: FinishedTrial) -> None:
        """Enter a finished trial; one without all the dimensions is passed over."""
        row = self.row(trial)
        if row is None:
            return
        place = bisect_left(self._numbers, trial.number)
        self._numbers.insert(place, trial.number)
        self._rows.insert(place, row)
        self._ranks.insert(place, self._rank(trial))
        rank = self._ranks[place]
        self._losses.insert(place, tuple(self._signs * (trial.values if rank[0] == 0 and trial.values else math.nan)))
        self._cache = None

    def columns(self) -> tuple[Ints, Floats]:
        """Return the trial numbers [n] and the internal values [n, dimensions]."""
        numbers, rows, _, _ = self._arrays()
        return numbers, rows

    def running(self, trials: Iterable[FinishedTrial]) -> tuple[Ints, Floats]:
        """Return numbers [r] and internal values [r, dimensions] of those running trials that have all dimensions."""
        known = [(trial.number, row) for trial in trials if (row := self.row(trial)) is not None]
        numbers = np.array([number for number, _ in known], dtype=np.int64)
        return numbers, np.array([row for _, row in known], dtype=float).reshape(len(known), len(self.dimensions))

    def ranks(self) -> tuple[Floats, Floats]:
        """Return what trials are ordered by, best first.

        The first array [n, 3] is compared column by column: class (complete, pruned with a report, pruned without,
        infeasible), minus the epoch of the last report, and the loss or the violation. The second [n, objectives] holds
        the losses, to be minimised, of the feasible complete trials, and NaN for the others.
        """
        _, _, ranks, losses = self._arrays()
        return ranks, losses

    def clipped_losses(self, worst: float | Floats) -> Floats:
        """Return one loss [n, objectives] for every trial, for models that know nothing of pruning.

        A pruned trial counts with its last report; one without a report, or infeasible, with `worst`.
        """
        ranks, losses = self.ranks()
        shown = losses.copy()
        if len(self._signs) == 1:
            reported = (ranks[:, 0] == 1) & np.isfinite(ranks[:, 2])
            shown[reported, 0] = ranks[reported, 2]
        return np.where(np.isnan(shown), worst, shown)

    def _rank(self, trial: FinishedTrial) -> tuple[float, float, float]:
        if trial.violation > 0:
            return 3.0, 0.0, trial.violation
        if trial.state == "COMPLETE" and trial.values:
            return 0.0, 0.0, float(self._signs[0] * trial.values[0])
        if trial.last is None:
            return 2.0, 0.0, 0.0
        epoch, value = trial.last
        loss = float(self._signs[0] * value)
        return 1.0, -float(epoch), float("inf") if loss != loss else loss

    def _arrays(self) -> tuple[Ints, Floats, Floats, Floats]:
        if self._cache is None:
            count = len(self._numbers)
            ranks = np.array(self._ranks, dtype=float).reshape(count, 3)
            self._cache = (
                np.array(self._numbers, dtype=np.int64),
                np.array(self._rows, dtype=float).reshape(count, len(self.dimensions)),
                ranks,
                np.array(self._losses, dtype=float).reshape(count, len(self._signs)),
            )
        return self._cache


Branch = tuple[tuple[str, Scalar], ...]


class Branches:
    """The finished trials of each combination of the switches: their points and what they lost."""

    def __init__(self, space: SearchSpace, directions: Sequence[str], *, numeric: bool) -> None:
        self.space, self._directions, self._numeric = space, directions, numeric
        self.switches = switches(space)
        self._ledgers: dict[Branch, TrialTable] = {}
        self._all = TrialTable((), directions)

    def observe(self, trial: FinishedTrial) -> None:
        """Learn a finished trial."""
        self.ledger(trial.params).add(trial)
        self._all.add(trial)

    def losses(self, ledger: TrialTable) -> Floats:
        """Return one loss [n, objectives] for every trial of a branch.

        A trial that failed for its parameters gets the worst loss of the whole study: among few trials of its own
        branch the worst may be a good one.
        """
        known = self._all.clipped_losses(np.nan)
        known = known[~np.isnan(known[:, 0])]
        return ledger.clipped_losses(known.max(axis=0) if len(known) else 0.0)

    def ledger(self, params: Mapping[str, Scalar]) -> TrialTable:
        """Return the ledger of the trials that have the same switches set in the same way."""
        branch = tuple((name, params.get(name)) for name in self.switches)
        if branch not in self._ledgers:
            self._ledgers[branch] = TrialTable(self._dimensions(params), self._directions)
        return self._ledgers[branch]

    def _dimensions(self, params: Mapping[str, Scalar]) -> list[Dimension]:
        return [
            d
            for d in self.space.active(params)
            if d.name not in self.switches and not single(d) and not (self._numeric and d.kind == "categorical")
        ]
