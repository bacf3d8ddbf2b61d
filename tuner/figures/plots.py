"""Figures of a study as Plotly JSON: history, learning curves, losses, Pareto front, timeline.

A figure is `{"data", "layout", "reason", "note"}`: `reason` says why nothing is drawn, `note` what was left out.
Colour-blind people tell the colours apart, and shapes say the same; a colour means a loss family wherever it appears.
Text and grid colours are the page's, in its light and dark form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tuner.analysis.leaderboard import family_of
from tuner.figures.data import Axis, Bar, Curve, History, LossNumbers, Point, busy_share

NO_LOSS = "trials"
"""Stands for the family where a study searches no loss."""
FAMILY_COLOURS = {
    "pixel": "#0284c7",
    "region": "#d97706",
    "boundary": "#059669",
    "combination": "#c026a3",
    "sum": "#7c6f64",
    NO_LOSS: "#0284c7",
}
FAMILY_SYMBOLS = {
    "pixel": "circle",
    "region": "square",
    "boundary": "triangle-up",
    "combination": "diamond",
    "sum": "cross",
    NO_LOSS: "circle",
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


def empty_figure(reason: str) -> Figure:
    """Return the figure that says why there is nothing to draw."""
    words = {"text": reason, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    hidden = {"visible": False}
    return Figure([], {"annotations": [words], "xaxis": hidden, "yaxis": hidden}, reason=reason)


def scatter(xs: list[Any], ys: list[Any], family: str) -> Trace:
    """Return dots in the colour and the shape of a loss family."""
    marker = {"color": FAMILY_COLOURS[family], "symbol": FAMILY_SYMBOLS[family], "size": 7, "opacity": 0.75}
    return {"type": "scatter", "mode": "markers", "name": family, "x": xs, "y": ys, "marker": marker}


def by_family(items: Iterable[tuple[str | None, Any]]) -> list[tuple[str, list[Any]]]:
    """Group `(loss, item)` by the family of the loss, in the order of the legend."""
    groups: dict[str, list[Any]] = {}
    for loss, item in items:
        groups.setdefault(family_of(loss) if loss else NO_LOSS, []).append(item)
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


def axis_title(title: str) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title, "standoff": 10}, "zeroline": False, "automargin": True}


def parameter_axis(axis: Axis) -> dict[str, Any]:
    """Return the axis of a searched parameter."""
    if axis.choices:
        return axis_title(axis.name) | {"tickvals": list(range(len(axis.choices))), "ticktext": list(axis.choices)}
    return axis_title(axis.name) | ({"type": "log", "dtick": 1, "exponentformat": "e"} if axis.log else {})


def jitter(index: int) -> float:
    """Spread dots that would cover each other: the golden ratio's sequence, the same at every drawing."""
    return 0.5 * ((index * 0.618034) % 1.0 - 0.5)


def thin_points(shown: int, total: int, what: str) -> str | None:
    """Say what was left out, None when nothing was."""
    return f"{shown:,} of {total:,} {what} are shown" if shown < total else None


def to_datetime(seconds: float) -> str:
    """Write a moment (seconds since 1970) as Plotly reads dates."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hover(*lines: str) -> str:
    """Return a hover text; the first two entries of a point's `customdata` are its trial and loss."""
    return "<br>".join(("trial %{customdata[0]} · %{customdata[1]}", *lines)) + "<extra></extra>"


def draw_history(history: History, metric: str) -> Figure:
    """Values by trial, in the colours of the loss families, and the best so far as steps."""
    if not history.points:
        return empty_figure("No trial is complete yet.")
    traces: list[Trace] = []
    for family, points in by_family((p[2], p) for p in history.points):
        traces.append(
            scatter([p[0] for p in points], [p[1] for p in points], family)
            | {
                "customdata": [[p[0], p[2]] for p in points],
                "hovertemplate": hover(f"{metric} %{{y:.4f}}"),
            }
        )
    end = max(p[0] for p in history.points)
    steps = [*history.best, (end, history.best[-1][1])]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [n for n, _ in steps],
            "y": [v for _, v in steps],
            "line": {"shape": "hv", "color": ACCENT, "width": 2},
            "hovertemplate": f"best {metric} %{{y:.4f}}<extra></extra>",
        }
    )
    layout = layout_of(xaxis=axis_title("trial"), yaxis=axis_title(metric))
    rows = [(number, loss, value) for number, value, loss in history.points]
    return Figure(traces, layout, ("trial", "loss", metric), rows, note=thin_points(len(rows), history.total, "trials"))


def draw_curves(curves: Sequence[Curve], total: int, metric: str, best: int | None, most_epochs: int) -> Figure:
    """Learning curves: pruned ones thin and dotted with a cross where they ended, the best one strong.

    `most_epochs`: longer curves have lost points before they came here.
    """
    if not curves:
        return empty_figure("No epoch has been reported yet.")
    styles: dict[str, dict[str, Any]] = {
        "PRUNED": {"color": QUIET, "width": 1, "dash": "dot"},
        "FAIL": {"color": STATE_COLOURS["FAIL"], "width": 1, "dash": "dot"},
        "COMPLETE": {"color": "#5eaaa8", "width": 1},
        "RUNNING": {"color": STATE_COLOURS["RUNNING"], "width": 2},
    }
    traces = []
    for state, line in styles.items():
        chosen = [c for c in curves if c.state == state and c.number != best]
        if chosen:
            traces.append(_joined(chosen, state.lower(), line, metric))
    ends = [c for c in curves if c.state == "PRUNED"]
    if ends:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "pruned",
                "x": [c.epochs[-1] for c in ends],
                "y": [c.values[-1] for c in ends],
                "customdata": [[c.number, c.loss] for c in ends],
                "marker": {"symbol": "x-thin-open", "size": 6, "color": QUIET},
                "hovertemplate": hover("ended at epoch %{x}"),
            }
        )
    traces += [
        _joined([c], f"best ({c.number})", {"color": ACCENT, "width": 3}, metric) for c in curves if c.number == best
    ]
    longest = max(c.epochs[-1] for c in curves)
    left_out = f"about {most_epochs} of {longest:,} epochs of each" if longest > most_epochs else None
    rows = [(c.number, c.loss, c.state, e, v) for c in curves for e, v in zip(c.epochs, c.values, strict=True)]
    return Figure(
        traces,
        layout_of(xaxis=axis_title("epoch"), yaxis=axis_title(metric)),
        ("trial", "loss", "state", "epoch", metric),
        rows,
        note="; ".join(filter(None, (thin_points(len(curves), total, "trials"), left_out))) or None,
    )


def draw_losses(numbers: Sequence[LossNumbers], metric: str) -> Figure:
    """The spread of every loss's values, best loss on top."""
    shown = [n for n in numbers if n.values]
    if not shown:
        return empty_figure("No trial that competes by its loss is complete.")
    shown = shown[::-1]
    place = {n.loss: i for i, n in enumerate(shown)}
    traces: list[Trace] = []
    for family, group in by_family((n.loss, n) for n in shown):
        xs = [value for n in group for _, value in n.values]
        ys = [place[n.loss] + jitter(i) for n in group for i in range(len(n.values))]
        data = [[number, n.loss] for n in group for number, _ in n.values]
        traces.append(
            scatter(xs, ys, family)
            | {
                "customdata": data,
                "hovertemplate": hover(f"{metric} %{{x:.4f}}"),
            }
        )
    medians = [n.median for n in shown]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "median",
            "x": medians,
            "y": list(range(len(shown))),
            "marker": {"symbol": "line-ns-open", "size": 16, "line": {"width": 2}, "color": QUIET},
            "hovertemplate": f"median {metric} %{{x:.4f}}<extra></extra>",
        }
    )
    ticks = {"tickvals": list(range(len(shown))), "ticktext": [n.loss for n in shown]}
    layout = layout_of(xaxis=axis_title(metric), yaxis=axis_title("") | ticks, height=max(220, 34 * len(shown) + 90))
    rows = [
        (n.loss, n.family, n.tried, n.complete, n.pruned, n.failed, n.best, n.median, n.best_trial) for n in numbers
    ]
    columns = ("loss", "family", "trials", "complete", "pruned", "failed", "best", "median", "best trial")
    left_out = thin_points(sum(len(n.values) for n in shown), sum(n.complete for n in shown), "trials")
    return Figure(traces, layout, columns, rows, note=left_out)


def draw_pareto(points: Sequence[Point], front: Iterable[int], metrics: Sequence[str], total: int) -> Figure:
    """First against second objective; the front is strong and joined."""
    if not points:
        return empty_figure("No trial is complete yet.")
    chosen = set(front)
    traces: list[Trace] = []
    text = hover(f"{metrics[0]} %{{x:.4f}}<br>{metrics[1]} %{{y:.4f}}")
    for family, group in by_family((p.loss, p) for p in points if p.number not in chosen):
        data = [[p.number, p.loss] for p in group]
        trace = scatter([p.values[0] for p in group], [p.values[1] for p in group], family)
        traces.append(trace | {"customdata": data, "hovertemplate": text})
    best = sorted((p for p in points if p.number in chosen), key=lambda p: p.values[0])
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "Pareto front",
            "x": [p.values[0] for p in best],
            "y": [p.values[1] for p in best],
            "customdata": [[p.number, p.loss] for p in best],
            "line": {"color": ACCENT, "width": 1, "dash": "dot"},
            "marker": {"size": 10, "color": ACCENT, "symbol": "diamond"},
            "hovertemplate": text,
        }
    )
    rows = [(p.number, p.loss, *p.values, p.number in chosen) for p in points]
    layout = layout_of(xaxis=axis_title(metrics[0]), yaxis=axis_title(metrics[1]), height=420)
    note = thin_points(len(points), total, "trials")
    return Figure(traces, layout, ("trial", "loss", *metrics, "on the front"), rows, note=note)


def draw_timeline(bars: Sequence[Bar], total: int) -> Figure:
    """What every worker did when; gaps are idle time."""
    if not bars:
        return empty_figure("No worker has taken a trial yet.")
    lanes = list(dict.fromkeys(bar.lane for bar in bars))
    traces: list[Trace] = []
    for state in ("COMPLETE", "RUNNING", "PRUNED", "FAIL"):
        group = [bar for bar in bars if bar.state == state]
        if group:
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": state.lower(),
                    "base": [to_datetime(bar.start) for bar in group],
                    "x": [round(1000 * (bar.end - bar.start)) for bar in group],
                    "y": [bar.lane for bar in group],
                    "customdata": [[bar.number, bar.loss, bar.end - bar.start, bar.reason or ""] for bar in group],
                    "marker": {"color": STATE_COLOURS[state], "line": {"width": 1, "color": "rgba(255,255,255,0.5)"}},
                    "hovertemplate": hover("%{customdata[2]:.0f} s %{customdata[3]}"),
                }
            )
    shares = busy_share(bars)
    text = [f"{lane}<br>{100 * shares[lane]:.0f} % busy" for lane in lanes]
    layout = layout_of(
        xaxis=axis_title("") | {"type": "date"},
        yaxis=axis_title("") | {"tickvals": lanes, "ticktext": text, "type": "category"},
        height=max(180, 44 * len(lanes) + 110),
    )
    layout |= {"barmode": "overlay", "bargap": 0.35}
    rows = [
        (bar.lane, bar.number, bar.loss, bar.state, bar.reason, to_datetime(bar.start), round(bar.end - bar.start, 1))
        for bar in bars
    ]
    columns = ("worker", "trial", "loss", "state", "reason", "start", "seconds")
    return Figure(traces, layout, columns, rows, note=thin_points(len(bars), total, "attempts, the newest"))


def _joined(curves: Sequence[Curve], name: str, line: Mapping[str, Any], metric: str) -> Trace:
    """Draw many curves as one trace, broken between them: a trace each would cost the browser a second."""
    xs: list[Any] = []
    ys: list[Any] = []
    data: list[Any] = []
    for curve in curves:
        xs += [*curve.epochs, None]
        ys += [*(round(v, 5) for v in curve.values), None]
        data += [[curve.number, curve.loss]] * (len(curve.epochs) + 1)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": xs,
        "y": ys,
        "customdata": data,
        "line": dict(line),
        "hovertemplate": hover(f"epoch %{{x}}: {metric} %{{y:.4f}}"),
    }
