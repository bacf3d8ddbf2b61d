"""Finished trials as samplers see them. Imports neither Optuna nor numpy: the storage hands these over."""

from dataclasses import dataclass, field
from typing import Literal

from tuner.registry import Scalar

FEASIBLE: dict[str, float] = {"memory": -1.0, "finite": -1.0}
"""The constraints of a trial that neither ran out of memory nor diverged; every finished trial carries both keys."""


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """One trial as a sampler sees it.

    `values` are the final ones of a COMPLETE trial; `last` is (epoch, first objective) of the last report of a PRUNED
    one, None when it is infeasible or when there are several objectives. A positive entry of `feasible` is a violation.
    """

    number: int
    state: Literal["COMPLETE", "PRUNED", "RUNNING"]
    params: dict[str, Scalar]
    values: tuple[float, ...] | None = None
    last: tuple[int, float] | None = None
    feasible: dict[str, float] = field(default_factory=lambda: dict(FEASIBLE))

    @property
    def violation(self) -> float:
        """Sum of the violated constraints; 0 for a feasible trial."""
        return sum(v for v in self.feasible.values() if v > 0)
