"""Comparison of what a loss or a network computes with what was stored where it was exported."""

from collections.abc import Iterable

from torch import Tensor

TOLERANCE = 1e-6
"""Of the largest stored value, in float64."""


def largest_difference(name: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> float:
    """Return the largest difference of found and stored tensors, each as a share of its largest stored value.

    Args:
        name: Of the case.
        pairs: What it is, found, stored.

    Raises:
        ValueError: One exceeds TOLERANCE.
    """
    worst = 0.0
    for what, found, stored in pairs:
        off = ((found - stored).abs().max() / stored.abs().max().clamp_min(1e-12)).item()
        if not off <= TOLERANCE:
            raise ValueError(f"{name}: {what} differs by {off:.3g} of its largest value; at most {TOLERANCE} is right")
        worst = max(worst, off)
    return worst
