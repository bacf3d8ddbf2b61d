"""Searcher: suggests the point of one trial from what is known of the others. It has a memory and no database."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tuner.registry import Scalar, defaults, load, option_named
from tuner.search.catalog import SAMPLERS
from tuner.search.distributions import distributions
from tuner.search.history import Observation
from tuner.search.space import SearchSpace

__all__ = ["Sampler", "Searcher", "distributions"]


class Sampler(Protocol):
    """What every row of the samplers' catalogue makes."""

    def observe(self, trials: Iterable[Observation]) -> None:
        """Learn finished trials, each of them once, in any order."""

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[Observation]) -> dict[str, Scalar]:
        """Return a complete point that keeps the fixed values."""


class Searcher:
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
        self._space = space
        self._seen: set[int] = set()
        self._sampler: Sampler = load(row.fn)(space, tuple(directions), seed, {**defaults(row), **options})

    def observe(self, finished: Iterable[Observation]) -> None:
        """Learn finished trials; those already known and those still running are passed over."""
        new = {t.number: t for t in finished if t.state != "RUNNING" and t.number not in self._seen}
        self._seen.update(new)
        self._sampler.observe([new[number] for number in sorted(new)])

    def suggest(
        self, slot: int, *, fixed: Mapping[str, Scalar], running: Iterable[Observation] = ()
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
