"""Figures of a study as Plotly JSON: history, learning curves, losses, Pareto front, timeline.

A figure is `{"data", "layout", "reason", "note"}`: `reason` says why nothing is drawn, `note` what was left out.
Colour-blind people tell the colours apart, and shapes say the same; a colour means a loss family wherever it appears.
Pages replace every colour by that of their theme (`THEME_COLOURS`); text and grid colours are the page's as well.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.analysis.leaderboard import family_of
from tuner.figures.data import Axis, Bar, Curve, History, LossNumbers, Point, busy_share, to_datetime

NO_LOSS = "trials"
"""Stands for the family where a study searches no loss."""
FAMILY_COLOURS = {
    "pixel": "#0284c7",
    "region": "#c86a04",
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
    "FAIL": "#d0382c",
    "WAITING": "#d6d3d1",
}
ACCENT = "#0b7d73"
QUIET = "#66645f"
INK = "#1b1b19"
PAPER = "#ffffff"
SHADES = ("#dcdad4", "#c3ccc6", "#a3bfb9", "#7fb0ab", "#5a9f9c", "#378c8b", "#1b7477", "#0a5560")
"""Eight steps from worst to best, pale to strong: their luminance falls evenly, so that no hue has to be told apart."""
SERIES = ("#0072b2", "#d55e00", "#008f68", "#b0507f", "#8a6d00", "#3a9bd9", "#6b6862", "#7a3fa8")
"""Lines beside each other, after Okabe and Ito; beyond four, dashes tell them apart as well."""
DASHES = ("solid", "dash", "dot", "dashdot")
THEME_COLOURS: Mapping[str, str] = {
    **{colour: f"--{family}" for family, colour in FAMILY_COLOURS.items() if family != NO_LOSS},
    **{colour: f"--{'failed' if state == 'FAIL' else state.lower()}" for state, colour in STATE_COLOURS.items()},
    **{colour: f"--rank{step}" for step, colour in enumerate(SHADES)},
    **{colour: f"--series{index}" for index, colour in enumerate(SERIES)},
    ACCENT: "--accent",
    QUIET: "--quiet",
    INK: "--ink",
    PAPER: "--paper",
}
"""Every colour of a figure, and the page's variable that has it: in the light its value, in the dark another one."""

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


def count_axis(title: str, largest: float) -> dict[str, Any]:
    """Return an axis of counts from 0 or 1: its ticks are whole numbers, at most a dozen."""
    step = next(s * 10**e for e in range(12) for s in (1, 2, 5) if s * 10**e * 12 >= largest)
    return axis_title(title) | {"dtick": step, "tick0": 0, "tickformat": "d"}


def parameter_axis(axis: Axis, places: Sequence[float]) -> dict[str, Any]:
    """Return the axis of a searched parameter, some of whose values are shown."""
    if axis.choices:
        return axis_title(axis.name) | {"tickvals": list(range(len(axis.choices))), "ticktext": list(axis.choices)}
    return axis_title(axis.name) | (log_ticks(min(places), max(places)) if axis.log and places else {})


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return the ticks of a logarithmic axis: powers of ten, or where fewer than two lie on it what is between them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if math.floor(math.log10(high)) > math.ceil(math.log10(low)):
        return {"type": "log", "dtick": 1, "exponentformat": "e"}
    for digits in ((1, 2, 5), range(1, 10)):
        ticks = [d * 10.0**e for e in range(first, last + 1) for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) > 1:
            break
    else:
        ticks = sorted({low, high})
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:.2g}" for tick in ticks]}


def jitter(index: int) -> float:
    """Spread dots that would cover each other: the golden ratio's sequence, the same at every drawing."""
    return 0.5 * ((index * 0.618034) % 1.0 - 0.5)


def thin_points(shown: int, total: int, what: str) -> str | None:
    """Say what was left out, None when nothing was."""
    return f"{shown:,} of {total:,} {what} are shown" if shown < total else None


def hover(*lines: str) -> str:
    """Return a hover text; the first two entries of a point's `customdata` are its trial and loss."""
    return "<br>".join(("trial %{customdata[0]} · %{customdata[1]}", *lines)) + "<extra></extra>"


def draw_history(history: History, metric: str, direction: str = "maximize", *, by_time: bool = False) -> Figure:
    """Values by trial or by the time of its end, in the colours of the loss families, and the best so far as steps."""
    if not history.points:
        return empty_figure("No trial is complete yet.")
    place = history.times if by_time else {p[0]: p[0] for p in history.points}
    traces: list[Trace] = []
    for family, points in by_family((p[2], p) for p in history.points):
        traces.append(
            scatter([place[p[0]] for p in points], [p[1] for p in points], family)
            | {
                "customdata": [[p[0], p[2]] for p in points],
                "hovertemplate": hover(f"{metric} %{{y:.4f}}"),
            }
        )
    steps: list[tuple[Any, float]] = list(history.best)
    if by_time:  # a trial that began first may have ended last
        steps = best_so_far([(place[p[0]], p[1]) for p in history.points], direction)
    steps.append((max(place.values()), steps[-1][1]))
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
    last = max(p[0] for p in history.points)
    xaxis = axis_title("end of the trial") | {"type": "date"} if by_time else count_axis("trial", last)
    layout = layout_of(xaxis=xaxis, yaxis=axis_title(metric))
    rows = [(number, loss, value) for number, value, loss in history.points]
    return Figure(traces, layout, ("trial", "loss", metric), rows, note=thin_points(len(rows), history.total, "trials"))


def best_so_far(points: Sequence[tuple[Any, float]], direction: str) -> list[tuple[Any, float]]:
    """Return the points, in their order along x, that were better than all before them."""
    found: list[tuple[Any, float]] = []
    for place, value in sorted(points):
        if not found or (value > found[-1][1] if direction == "maximize" else value < found[-1][1]):
            found.append((place, value))
    return found


def draw_curves(
    curves: Sequence[Curve],
    total: int,
    metric: str,
    best: int | None,
    most_epochs: int,
    *,
    axis: str = "epoch",
) -> Figure:
    """Learning curves: pruned ones thin and dotted with a cross where they ended, the best one strong.

    `most_epochs`: longer curves have lost points before they came here. `axis`: `epoch`, `time` (of training, in
    minutes), or `trial`, where every curve has the place of its number.
    """
    if not curves:
        return empty_figure("No epoch has been reported yet.")
    longest = max(c.epochs[-1] for c in curves)
    styles: dict[str, dict[str, Any]] = {
        "PRUNED": {"color": STATE_COLOURS["PRUNED"], "width": 1, "dash": "dot"},
        "FAIL": {"color": STATE_COLOURS["FAIL"], "width": 1, "dash": "dot"},
        "COMPLETE": {"color": STATE_COLOURS["COMPLETE"], "width": 1},
        "RUNNING": {"color": STATE_COLOURS["RUNNING"], "width": 2},
    }
    traces = []
    for state, line in styles.items():
        chosen = [c for c in curves if c.state == state and c.number != best]
        if chosen:
            traces.append(_join(chosen, state.lower(), line, metric, axis, longest))
    ends = [c for c in curves if c.state == "PRUNED"]
    if ends:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "pruned here",
                "x": [_places(c, axis, longest)[-1] for c in ends],
                "y": [c.values[-1] for c in ends],
                "customdata": [[c.number, c.loss, c.epochs[-1]] for c in ends],
                "marker": {"symbol": "x-thin-open", "size": 6, "color": STATE_COLOURS["PRUNED"]},
                "hovertemplate": hover("pruned at epoch %{customdata[2]}"),
                "showlegend": False,
            }
        )
    line = {"color": ACCENT, "width": 3}
    traces += [_join([c], f"best ({c.number})", line, metric, axis, longest) for c in curves if c.number == best]
    left_out = f"about {most_epochs} of {longest:,} epochs of each" if longest > most_epochs else None
    rows = [(c.number, c.loss, c.state, e, v) for c in curves for e, v in zip(c.epochs, c.values, strict=True)]
    xaxis = {
        "epoch": lambda: count_axis("epoch", longest),
        "time": lambda: axis_title("minutes of training"),
        "trial": lambda: count_axis("trial", max(c.number for c in curves)),
    }[axis]()
    return Figure(
        traces,
        layout_of(xaxis=xaxis, yaxis=axis_title(metric)),
        ("trial", "loss", "state", "epoch", metric),
        rows,
        note="; ".join(filter(None, (thin_points(len(curves), total, "trials"), left_out))) or None,
    )


def _places(curve: Curve, axis: str, longest: int) -> list[float]:
    """Return where the epochs of a curve stand."""
    if axis == "time":
        return [round(seconds / 60, 3) for seconds in curve.elapsed]
    if axis == "trial":
        return [round(curve.number + 0.9 * epoch / longest, 4) for epoch in curve.epochs]
    return list(curve.epochs)


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


def draw_edf(numbers: Sequence[LossNumbers], metric: str, direction: str) -> Figure:
    """The empirical distribution of the values of each loss, of those with the best values."""
    shown = [n for n in numbers if len(n.values) > 1][: len(SERIES)]
    if not shown:
        return empty_figure("A distribution needs a loss with two complete trials.")
    traces: list[Trace] = []
    rows: list[tuple[Any, ...]] = []
    for index, n in enumerate(shown):
        ranked = sorted(((value, number) for number, value in n.values), reverse=direction == "minimize")
        shares = [round((i + 1) / len(ranked), 4) for i in range(len(ranked))]
        rows += [(n.loss, number, value, share) for (value, number), share in zip(ranked, shares, strict=True)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": n.loss,
                "x": [value for value, _ in ranked],
                "y": shares,
                "customdata": [[number, n.loss] for _, number in ranked],
                "line": {"color": SERIES[index], "width": 2, "shape": "vh", "dash": DASHES[index // 4]},
                "hovertemplate": hover(f"{metric} %{{x:.4f}}, at least as good as %{{y:.0%}} of this loss"),
            }
        )
    xaxis = axis_title(metric) | ({"autorange": "reversed"} if direction == "minimize" else {})
    yaxis = axis_title("share of the trials") | {"tickformat": ".0%", "range": [0, 1.02]}
    left_out = thin_points(sum(len(n.values) for n in shown), sum(n.complete for n in numbers), "trials")
    columns = ("loss", "trial", metric, "share")
    layout = layout_of(xaxis=xaxis, yaxis=yaxis, height=380)
    layout["margin"] |= {"t": 24 * -(-len(shown) // 3)}
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


_HIGH_LANES = 12
"""So many workers have lanes with two lines of words; more of them one line."""


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
                    "marker": {"color": STATE_COLOURS[state], "line": {"width": 1, "color": PAPER}},
                    "hovertemplate": hover("%{customdata[2]:.0f} s %{customdata[3]}"),
                }
            )
    shares = busy_share(bars)
    many = len(lanes) > _HIGH_LANES
    text = [f"{lane}{', ' if many else '<br>'}{100 * shares[lane]:.0f} % busy" for lane in lanes]
    layout = layout_of(
        xaxis=axis_title("") | {"type": "date"},
        yaxis=axis_title("") | {"tickvals": lanes, "ticktext": text, "type": "category"},
        height=max(180, (16 if many else 44) * len(lanes) + 110),
    )
    layout |= {"barmode": "overlay", "bargap": 0.35}
    rows = [
        (bar.lane, bar.number, bar.loss, bar.state, bar.reason, to_datetime(bar.start), round(bar.end - bar.start, 1))
        for bar in bars
    ]
    columns = ("worker", "trial", "loss", "state", "reason", "start", "seconds")
    return Figure(traces, layout, columns, rows, note=thin_points(len(bars), total, "attempts, the newest"))


def _join(curves: Sequence[Curve], name: str, line: Mapping[str, Any], metric: str, axis: str, longest: int) -> Trace:
    """Draw many curves as one trace, broken between them: a trace each would cost the browser a second."""
    xs: list[Any] = []
    ys: list[Any] = []
    data: list[Any] = []
    for curve in curves:
        xs += [*_places(curve, axis, longest), None]
        ys += [*(round(v, 5) for v in curve.values), None]
        data += [[curve.number, curve.loss, epoch] for epoch in (*curve.epochs, curve.epochs[-1])]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": xs,
        "y": ys,
        "customdata": data,
        "line": dict(line),
        "hovertemplate": hover(f"epoch %{{customdata[2]}}: {metric} %{{y:.4f}}"),
    }
