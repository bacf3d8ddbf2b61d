"""The finished trials of each combination of the switches, for models that need one fixed set of dimensions."""

from collections.abc import Mapping, Sequence

import numpy as np

from tuner.registry import Scalar
from tuner.search.distributions import single
from tuner.search.grid import switches
from tuner.search.history import Observation
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Floats, Ledger

Branch = tuple[tuple[str, Scalar], ...]


class Branches:
    """The finished trials of each combination of the switches: their points and what they lost."""

    def __init__(self, space: SearchSpace, directions: Sequence[str], *, numeric: bool) -> None:
        self.space, self._directions, self._numeric = space, directions, numeric
        self.switches = switches(space)
        self._ledgers: dict[Branch, Ledger] = {}
        self._all = Ledger((), directions)

    def observe(self, trial: Observation) -> None:
        """Learn a finished trial."""
        self.ledger(trial.params).add(trial)
        self._all.add(trial)

    def losses(self, ledger: Ledger) -> Floats:
        """Return one loss [n, objectives] for every trial of a branch.

        A trial that failed for its parameters gets the worst loss of the whole study: among few trials of its own
        branch the worst may be a good one.
        """
        known = self._all.shown_losses(np.nan)
        known = known[~np.isnan(known[:, 0])]
        return ledger.shown_losses(known.max(axis=0) if len(known) else 0.0)

    def ledger(self, params: Mapping[str, Scalar]) -> Ledger:
        """Return the ledger of the trials that have the same switches set in the same way."""
        branch = tuple((name, params.get(name)) for name in self.switches)
        if branch not in self._ledgers:
            self._ledgers[branch] = Ledger(self._dimensions(params), self._directions)
        return self._ledgers[branch]

    def _dimensions(self, params: Mapping[str, Scalar]) -> list[Dimension]:
        return [
            d
            for d in self.space.active(params)
            if d.name not in self.switches and not single(d) and not (self._numeric and d.kind == "categorical")
        ]
