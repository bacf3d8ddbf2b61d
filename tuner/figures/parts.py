"""What every figure is made of: Plotly JSON as plain dictionaries; plotly's classes cost more than the numbers.

A figure is `{"data", "layout", "reason", "note"}`: `reason` says why nothing is drawn, `note` what was left out.
Colour-blind people tell the colours apart, and shapes say the same; a colour means a loss family wherever it appears.
Text and grid colours are the page's, in its light and dark form.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tuner.analysis.leaderboard import family_of
from tuner.figures.data import Axis

FAMILY_COLOURS = {
    "pixel": "#0284c7",
    "region": "#d97706",
    "boundary": "#059669",
    "combination": "#c026a3",
    "sum": "#7c6f64",
}
FAMILY_SYMBOLS = {
    "pixel": "circle",
    "region": "square",
    "boundary": "triangle-up",
    "combination": "diamond",
    "sum": "cross",
}
STATE_COLOURS = {
    "COMPLETE": "#0d9488",
    "RUNNING": "#3b82f6",
    "PRUNED": "#a8a29e",
    "FAIL": "#dc2626",
    "WAITING": "#d6d3d1",
}
ACCENT = "#0d9488"
QUIET = "#9ca3af"
SHADES = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725")
"""Viridis in eight steps, from worst to best."""

Trace = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """What is drawn, and the same as a table."""

    data: list[Trace]
    layout: dict[str, Any]
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    reason: str | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON that Plotly draws."""
        return {"data": self.data, "layout": self.layout, "reason": self.reason, "note": self.note}


def nothing(reason: str) -> Figure:
    """Return the figure that says why there is nothing to draw."""
    words = {"text": reason, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    hidden = {"visible": False}
    return Figure([], {"annotations": [words], "xaxis": hidden, "yaxis": hidden}, reason=reason)


def dots(xs: list[Any], ys: list[Any], family: str) -> Trace:
    """Return dots in the colour and the shape of a loss family."""
    marker = {"color": FAMILY_COLOURS[family], "symbol": FAMILY_SYMBOLS[family], "size": 7, "opacity": 0.75}
    return {"type": "scatter", "mode": "markers", "name": family, "x": xs, "y": ys, "marker": marker}


def by_family(items: Iterable[tuple[str | None, Any]]) -> list[tuple[str, list[Any]]]:
    """Group `(loss, item)` by the family of the loss, in the order of the legend."""
    groups: dict[str, list[Any]] = {}
    for loss, item in items:
        groups.setdefault(family_of(loss) if loss else "sum", []).append(item)
    return [(family, groups[family]) for family in FAMILY_COLOURS if family in groups]


def layout_of(*, height: int = 340, **axes: Any) -> dict[str, Any]:
    """Return what all layouts share."""
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **axes,
    }


def titled(title: str) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title, "standoff": 10}, "zeroline": False, "automargin": True}


def parameter_axis(axis: Axis) -> dict[str, Any]:
    """Return the axis of a searched parameter."""
    if axis.choices:
        return titled(axis.name) | {"tickvals": list(range(len(axis.choices))), "ticktext": list(axis.choices)}
    return titled(axis.name) | ({"type": "log", "dtick": 1, "exponentformat": "e"} if axis.log else {})


def jitter(index: int) -> float:
    """Spread dots that would cover each other: the golden ratio's sequence, the same at every drawing."""
    return 0.5 * ((index * 0.618034) % 1.0 - 0.5)


def thinned(shown: int, total: int, what: str) -> str | None:
    """Say what was left out, None when nothing was."""
    return f"{shown:,} of {total:,} {what} are shown" if shown < total else None


def moment(seconds: float) -> str:
    """Write a moment (seconds since 1970) as Plotly reads dates."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hover(*lines: str) -> str:
    """Return a hover text; the first two entries of a point's `customdata` are its trial and loss."""
    return "<br>".join(("trial %{customdata[0]} · %{customdata[1]}", *lines)) + "<extra></extra>"
