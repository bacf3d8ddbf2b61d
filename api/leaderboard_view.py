"""The leaderboard as a study's page shows it, computed once for each revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.leaderboard import noise
from tuner.figures.data import LossNumbers
from tuner.figures.plots import thin_points

CLEAR = 2.0
"""A lead counts when it is this many times the noise."""


@dataclass(frozen=True, slots=True)
class Significance:
    """What may be said about the winner."""

    kind: str
    """`clear`, `tie` or `open`."""
    text: str
    noise: float | None = None
    source: str | None = None
    tied: tuple[str, ...] = ()
    """Losses that cannot be told from the leading one."""


def judge(
    losses: Sequence[LossNumbers], sample: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]
) -> Significance:
    """Compare the best loss with the others.

    Args:
        losses: Best first.
        sample: Complete trials as rows with `state`, `value`, `params`: repeats with other seeds tell the noise.
        epochs: Those of the best trial: they tell it where nothing was repeated.
    """
    ranked = [n for n in losses if n.best is not None]
    if not ranked:
        return Significance("open", "No trial is complete yet.")
    first = ranked[0]
    if len(ranked) == 1:
        return Significance("open", f"Only {first.loss} has a complete trial so far.")
    second = ranked[1]
    lead = abs(float(first.best or 0) - float(second.best or 0))
    estimate = noise(sample, epochs)
    if estimate is None:
        return Significance(
            "open", f"{first.loss} leads {second.loss} by {lead:.2g}; nothing tells yet how noisy a value is."
        )
    spread, source = estimate
    tied = tuple(n.loss for n in ranked[1:] if abs(float(first.best or 0) - float(n.best or 0)) <= CLEAR * spread)
    if not tied:
        text = f"{first.loss} leads {second.loss} by {lead:.2g}, more than {CLEAR:.0f} times the noise."
        return Significance("clear", text, spread, source)
    others = ", ".join(tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
    return Significance("tie", f"{first.loss} leads, but {others} cannot be told from it.", spread, source, tied)


@dataclass(frozen=True, slots=True)
class LeaderboardView:
    """How the losses of a study stand, and what went wrong; nobody may change what it holds."""

    losses: Sequence[LossNumbers]
    """Best first."""
    options: Mapping[str, Sequence[tuple[str, str]]]
    """Of each loss in its best trial, by their short names."""
    verdict: Significance
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
