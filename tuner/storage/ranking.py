"""The complete trials of a study as columns, read once for a revision: every figure takes what a screen shows of them.

A database needs a quarter of a second to rank 100 000 rows with window functions; reading them takes a fifth of it.
Symbols in the docstrings: N trials, K the most that are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RankedTrial:
    """A trial with the value that ranks it."""

    branch: str | None
    number: int
    value: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Trials in the order of their numbers; nobody may change the arrays."""

    numbers: "NDArray[np.int64]"
    """[N]"""
    values: "NDArray[np.float64]"
    """[N]"""
    codes: "NDArray[np.int32]"
    """[N] Which of the branches each trial has."""
    branches: tuple[str | None, ...]
    maximizes: bool

    @classmethod
    def read(cls, rows: Sequence[Sequence[Any]], *, maximizes: bool) -> "Ranking":
        """Make the columns of rows with number, branch and value, in any order."""
        places: dict[str | None, int] = {}
        codes = np.array([places.setdefault(row[1], len(places)) for row in rows], dtype=np.int32)
        numbers = np.array([row[0] for row in rows], dtype=np.int64)
        values = np.array([row[2] for row in rows], dtype=np.float64)
        order = np.argsort(numbers, kind="stable")
        return cls(numbers[order], values[order], codes[order], tuple(places), maximizes)

    def __len__(self) -> int:
        return len(self.numbers)

    def trials(self, places: "NDArray[Any]") -> list[RankedTrial]:
        """Return the trials that stand at these places of the arrays."""
        return [
            RankedTrial(self.branches[code], number, value)
            for code, number, value in zip(
                self.codes[places].tolist(), self.numbers[places].tolist(), self.values[places].tolist(), strict=True
            )
        ]

    def best(self, most: int, *, branch: str | None = None) -> list[RankedTrial]:
        """Return the K best trials, those of one branch where that is named; of equal ones the older one first."""
        return self.trials(self._best_first(branch)[:most])

    def history(self, most: int) -> tuple[list[RankedTrial], list[bool]]:
        """Return every new best and about K others, in the order of their numbers, and which of them are new bests."""
        gain = self.values if self.maximizes else -self.values
        is_record = np.ones(len(self), dtype=bool)
        is_record[1:] = gain[1:] > np.maximum.accumulate(gain)[:-1]
        places = np.flatnonzero(is_record | _kept(len(self), most))
        return self.trials(places), is_record[places].tolist()

    def spread(self, most: int, *, branch: str | None = None) -> tuple[list[RankedTrial], int]:
        """Return about K trials, evenly spread from the best to the worst, the best always among them; and of how many.

        With `branch`, only those of one.
        """
        order = self._best_first(branch)
        return self.trials(order[_kept(len(order), most)]), len(order)

    def spread_by_branch(self, most: int) -> list[RankedTrial]:
        """Return the same of each branch."""
        return [
            found for branch in self.branches if branch is not None for found in self.spread(most, branch=branch)[0]
        ]

    def _best_first(self, branch: str | None) -> "NDArray[np.int64]":
        """Return the places of trials from the best to the worst, equal ones by their numbers."""
        places = np.arange(len(self))
        if branch is not None:
            code = self.branches.index(branch) if branch in self.branches else -1
            places = np.flatnonzero(self.codes == code)
        gain = self.values[places]
        return places[np.argsort(-gain if self.maximizes else gain, kind="stable")]


def _kept(count: int, most: int) -> "NDArray[np.bool_]":
    """Tell which K of N rows to keep, evenly spread over their places, the first always."""
    kept = np.ones(count, dtype=bool)
    if count > most:
        steps = np.arange(count, dtype=np.int64) * most // count
        kept[1:] = steps[1:] != steps[:-1]
    return kept
