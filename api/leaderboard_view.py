"""The leaderboard as a study's page shows it, computed once for each revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.seed_spread import best_seen_statement, seed_spread, unconfirmed_statement
from tuner.analysis.verdict import Verdict
from tuner.figures.data import LossNumbers
from tuner.figures.plots import thin_points


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be said of the values of a study: the verdict of its confirmation, or that there is none."""

    text: str
    note: str | None = None
    """What is not known, before a confirmation."""
    confirmed: bool = False


def standing_of(
    losses: Sequence[LossNumbers],
    sample: Sequence[Mapping[str, Any]],
    *,
    study_seed: int,
    verdict: Verdict | None = None,
) -> Standing:
    """Say which value is the best one seen, or what the confirmation found.

    Args:
        losses: Best first.
        sample: Trials with `state`, `value`, `params`: repeats with other seeds tell how much a value moves.
        study_seed: Seed of trainings that name none.
        verdict: Of the confirmation, where there is one.
    """
    if verdict is not None:
        return Standing(verdict.text, confirmed=True)
    first = next((n for n in losses if n.best is not None), None)
    if first is None:
        return Standing(best_seen_statement(None, None))
    text = best_seen_statement(first.loss, first.best)
    return Standing(text, unconfirmed_statement(seed_spread(sample, study_seed=study_seed)))


@dataclass(frozen=True, slots=True)
class LeaderboardView:
    """How the losses of a study stand, and what went wrong; nobody may change what it holds."""

    losses: Sequence[LossNumbers]
    """Best first."""
    options: Mapping[str, Sequence[tuple[str, str]]]
    """Of each loss in its best trial, by their short names."""
    standing: Standing
    failures: Sequence[Mapping[str, Any]]
    spec: str

    @property
    def families(self) -> list[dict[str, Any]]:
        """The survey's families, best first."""
        return family_rows(self.losses)

    @property
    def dots_shown(self) -> str:
        """How many of the values the leaderboard shows; empty when it shows all."""
        said = thin_points(sum(len(n.values) for n in self.losses), sum(n.complete for n in self.losses), "of them")
        return f" ({said.replace(' of them', '')})" if said else ""

    def scale(self, maximizes: bool) -> tuple[float, float]:
        """Return the ends of the scale that the losses share."""
        return _scale([value for n in self.losses for _, value in n.values], maximizes)


def family_rows(losses: Sequence[LossNumbers]) -> list[dict[str, Any]]:
    """Return the survey's families, best first: their best loss, and how many trials they had."""
    found: dict[str, dict[str, Any]] = {}
    for n in losses:
        row = found.setdefault(
            n.family,
            {"family": n.family, "best": n.best, "loss": n.loss, "trial": n.best_trial, "tried": 0, "losses": 0},
        )
        row["tried"] += n.tried
        row["losses"] += 1
    return list(found.values())


def _scale(values: list[float], maximizes: bool) -> tuple[float, float]:
    """Return the ends of the leaderboard's scale: a few collapsed trials must not squeeze all others together."""
    if not values:
        return 0.0, 1.0
    ranked = sorted(values)
    first, third = ranked[len(ranked) // 4], ranked[3 * len(ranked) // 4]
    reach = 2 * (third - first)
    if maximizes:
        return max(ranked[0], first - reach), ranked[-1]
    return ranked[0], min(ranked[-1], third + reach)
