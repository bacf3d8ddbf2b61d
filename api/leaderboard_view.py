"""What a study's page says that changes with its revision only: worked out once for each, for all readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.verdict import Verdict
from tuner.figures.data import LossNumbers
from tuner.figures.parts import thinned


@dataclass(frozen=True, slots=True)
class Standing:
    """How the losses of a study stand, and what went wrong; nobody may change what it holds."""

    losses: Sequence[LossNumbers]
    """Best first."""
    options: Mapping[str, Sequence[tuple[str, str]]]
    """Of each loss in its best trial, by their short names."""
    verdict: Verdict
    failures: Sequence[Mapping[str, Any]]
    spec: str

    @property
    def families(self) -> list[dict[str, Any]]:
        """The survey's families, best first."""
        return family_rows(self.losses)

    @property
    def dots_shown(self) -> str:
        """How many of the values the leaderboard shows; empty when it shows all."""
        said = thinned(sum(len(n.values) for n in self.losses), sum(n.complete for n in self.losses), "of them")
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
