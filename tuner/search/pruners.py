"""Pruners: pure rules on counts of trials that were better or worse at the same epoch.

All are patient: a trial is judged only after `min_epochs` epochs, after the ramp of a loss that is added late, once
`min_trials` trials of the study have finished, and against trials of its own loss while there are `min_peers` of them.
Replays of real curves say why: pruning from the first epoch on is worse than random search without pruning.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from tuner.registry import defaults, load, option_named
from tuner.search.catalog import PRUNERS

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Peers:
    """How a trial stands at an epoch, by the best value so far of the first objective, itself not counted.

    `finished`: finished trials of the study (a query may stop counting at `min_trials`).
    `same`, `same_better`: trials of the same loss (and bracket) that reached the epoch, and the better ones of them.
    `every`, `every_better`: the same for all losses (of the bracket).
    """

    finished: int
    same: int
    same_better: int
    every: int
    every_better: int


class Pruner(Protocol):
    """Decides whether a trial goes on."""

    def bracket(self, slot: int) -> int:
        """Return the group of trials that are compared with each other, from the trial's place in the budget."""

    def should_check(self, epoch: int, ramp_epochs: int, *, bracket: int = 0) -> bool:
        """Tell whether a trial of this bracket is judged after this epoch; if not, no counts are needed."""

    def decide(self, epoch: int, peers: Peers) -> str | None:
        """Return the reason, in words, when the trial is to be ended."""


@dataclass(frozen=True, slots=True)
class WarmupRule:
    """When a trial may be judged, and against whom."""

    epochs: int
    min_epochs: int
    min_trials: int
    min_peers: int

    def is_over(self, epoch: int, ramp_epochs: int) -> bool:
        """Tell whether a trial may be judged after this epoch; after the last one there is nothing left to save."""
        return max(self.min_epochs, ramp_epochs + 1) <= epoch < self.epochs

    def rivals(self, peers: Peers) -> tuple[int, int, str] | None:
        """Return the number of peers, of better ones, and who they are; None while there are too few to judge."""
        if peers.finished < self.min_trials:
            return None
        if peers.same >= self.min_peers:
            return peers.same, peers.same_better, "trials of the same loss"
        if peers.every >= self.min_peers:
            return peers.every, peers.every_better, "trials of all losses"
        return None


@dataclass(frozen=True, slots=True)
class PercentilePruner:
    """Ends a trial when more than `share` of its peers are better at the same epoch."""

    warmup: WarmupRule
    share: float

    def bracket(self, slot: int) -> int:
        """Return 0: all trials are compared with each other."""
        return 0

    def should_check(self, epoch: int, ramp_epochs: int, *, bracket: int = 0) -> bool:
        """Ask after every epoch once patience is over."""
        return self.warmup.is_over(epoch, ramp_epochs)

    def decide(self, epoch: int, peers: Peers) -> str | None:
        """Return the reason when too many peers are better."""
        rivals = self.warmup.rivals(peers)
        if rivals is None or rivals[1] <= rivals[0] * self.share:
            return None
        count, better, who = rivals
        name = "median" if self.share == 0.5 else f"best {100 * self.share:g} %"
        return f"worse than the {name} after epoch {epoch}: {better} of {count} {who} were better"


@dataclass(frozen=True, slots=True)
class SuccessiveHalvingPruner:
    """At each rung, an epoch, the best 1/factor go on; in bracket b the first b rungs are passed over."""

    warmup: WarmupRule
    factor: int
    rungs: tuple[int, ...]
    brackets: int = 1

    def bracket(self, slot: int) -> int:
        """Deal the slots out over the brackets, the impatient ones more of them, evenly from the start."""
        shares = [self.factor**b / (b + 1) for b in reversed(range(self.brackets))]
        place = (slot + 1) * _GOLDEN % 1 * sum(shares)
        return min(bisect_right(list(accumulate(shares)), place), self.brackets - 1)

    def should_check(self, epoch: int, ramp_epochs: int, *, bracket: int = 0) -> bool:
        """Ask at the rungs of the bracket only."""
        return self.warmup.is_over(epoch, ramp_epochs) and epoch in self.rungs[bracket:]

    def decide(self, epoch: int, peers: Peers) -> str | None:
        """Return the reason when the trial is not among the best 1/factor at this rung."""
        rivals = self.warmup.rivals(peers)
        if rivals is None:
            return None
        count, better, who = rivals
        kept = max(1, (count + 1) // self.factor)
        if better < kept:
            return None
        return f"not among the best 1/{self.factor} at the rung of epoch {epoch}: {better} of {count} {who} were better"


@dataclass(frozen=True, slots=True)
class StagedPruner:
    """Ends a trial that is not among the best share of all trials at the same epoch; the share falls in stages.

    Trials of all losses are peers, so that a poor loss costs little; but the first `hearing` trials of each loss that
    reach an epoch go on while that epoch lies in the first half.
    """

    warmup: WarmupRule
    stages: tuple[tuple[float, float], ...]
    """Pairs (share of the epochs from which on, share of the trials that goes on), in order."""
    hearing: int

    def bracket(self, slot: int) -> int:
        """Return 0: all trials are compared with each other."""
        return 0

    def should_check(self, epoch: int, ramp_epochs: int, *, bracket: int = 0) -> bool:
        """Ask after every epoch once patience is over."""
        return self.warmup.is_over(epoch, ramp_epochs) and self._kept(epoch) is not None

    def decide(self, epoch: int, peers: Peers) -> str | None:
        """Return the reason when too many peers are better."""
        kept = self._kept(epoch)
        if kept is None or peers.finished < self.warmup.min_trials or peers.every < self.warmup.min_peers:
            return None
        if peers.same < self.hearing and 2 * epoch <= self.warmup.epochs:
            return None
        if peers.every_better < math.ceil(kept * (peers.every + 1)):
            return None
        return (
            f"not among the best {100 * kept:.0f} % after epoch {epoch}: {peers.every_better} of {peers.every} trials "
            "of all losses were better"
        )

    def _kept(self, epoch: int) -> float | None:
        """Return the share that goes on after this epoch; None before the first stage."""
        reached = [kept for start, kept in self.stages if epoch >= start * self.warmup.epochs]
        return reached[-1] if reached else None


class NopPruner:
    """Ends no trial."""

    def bracket(self, slot: int) -> int:
        """Return 0."""
        return 0

    def should_check(self, epoch: int, ramp_epochs: int, *, bracket: int = 0) -> bool:
        """Return False."""
        return False

    def decide(self, epoch: int, peers: Peers) -> str | None:
        """Return None."""
        return None


def make_pruner(name: str, options: Mapping[str, Any], *, epochs: int, validate_every: int = 1) -> Pruner:
    """Make a pruner.

    Args:
        name: a name in the catalogue.
        options: the pruner's options; those left out take their defaults.
        epochs: epochs of a whole training.
        validate_every: epochs from one validation to the next; trials can be judged at validations only.

    Raises:
        UnknownNameError: the pruner or an option does not exist.
    """
    row = PRUNERS.find(name, where="pruner.name")
    for option in options:
        option_named(row, option, kind="pruner", where=f"pruner.{option}")
    pruner: Pruner = load(row.fn)({**defaults(row), **options}, epochs, validate_every)
    return pruner


STAGES = ((1 / 3, 0.33), (1 / 2, 0.25), (2 / 3, 0.2))
"""From the curves of LossBench: where a tenth of the trials ends best, nearly all of it lies in these shares before."""


def staged(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `auto`."""
    return StagedPruner(_warmup(options, epochs), STAGES, options["hearing"])


def median(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `median`."""
    return PercentilePruner(_warmup(options, epochs), 0.5)


def percentile(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `percentile`."""
    return PercentilePruner(_warmup(options, epochs), options["percentile"] / 100)


def successive_halving(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `successive_halving`."""
    patience, factor = _warmup(options, epochs), options["reduction_factor"]
    return SuccessiveHalvingPruner(patience, factor, _rungs(patience, factor, validate_every))


def hyperband(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `hyperband`: one bracket more than there are rungs, so that the last one runs to the end."""
    patience, factor = _warmup(options, epochs), options["reduction_factor"]
    rungs = _rungs(patience, factor, validate_every)
    return SuccessiveHalvingPruner(patience, factor, rungs, len(rungs) + 1)


def none(options: Mapping[str, Any], epochs: int, validate_every: int) -> Pruner:
    """Make the pruner `none`."""
    return NopPruner()


def _warmup(options: Mapping[str, Any], epochs: int) -> WarmupRule:
    given = options["min_epochs"]
    least = max(3, epochs // 3) if given is None else given
    return WarmupRule(epochs, least, options["min_trials"], options["min_peers"])


def _rungs(patience: WarmupRule, factor: int, every: int) -> tuple[int, ...]:
    """Return min_epochs * factor^k, or the next validation, as long as it lies before the last epoch."""
    found: dict[int, None] = {}
    rung = patience.min_epochs
    while (validated := math.ceil(rung / every) * every) < patience.epochs:
        found[validated] = None
        rung *= factor
    return tuple(found)
