"""Which loss wins, in a sentence: the lead of the best loss over the next, against how much a value moves by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.leaderboard import noise
from tuner.figures.data import LossNumbers

CLEAR = 2.0
"""A lead counts when it is this many times the noise."""


@dataclass(frozen=True, slots=True)
class Verdict:
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
) -> Verdict:
    """Compare the best loss with the others.

    Args:
        losses: Best first.
        sample: Complete trials as rows with `state`, `value`, `params`: repeats with other seeds tell the noise.
        epochs: Those of the best trial: they tell it where nothing was repeated.
    """
    ranked = [n for n in losses if n.best is not None]
    if not ranked:
        return Verdict("open", "No trial is complete yet.")
    first = ranked[0]
    if len(ranked) == 1:
        return Verdict("open", f"Only {first.loss} has a complete trial so far.")
    second = ranked[1]
    lead = abs(float(first.best or 0) - float(second.best or 0))
    estimate = noise(sample, epochs)
    if estimate is None:
        return Verdict(
            "open", f"{first.loss} leads {second.loss} by {lead:.2g}; nothing tells yet how noisy a value is."
        )
    spread, source = estimate
    tied = tuple(n.loss for n in ranked[1:] if abs(float(first.best or 0) - float(n.best or 0)) <= CLEAR * spread)
    if not tied:
        text = f"{first.loss} leads {second.loss} by {lead:.2g}, more than {CLEAR:.0f} times the noise."
        return Verdict("clear", text, spread, source)
    others = ", ".join(tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
    return Verdict("tie", f"{first.loss} leads, but {others} cannot be told from it.", spread, source, tied)
