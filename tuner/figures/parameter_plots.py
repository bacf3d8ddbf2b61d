"""Figures of the searched parameters: importance, slices, contours, parallel coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.ablation import AblationStep
from tuner.analysis.importance import Importance, Interaction
from tuner.figures.data import GRID, Axis, Contour, Panel, Point, label
from tuner.figures.plots import (
    ACCENT,
    INK,
    PAPER,
    QUIET,
    SHADES,
    Figure,
    Trace,
    axis_title,
    by_family,
    empty_figure,
    hover,
    jitter,
    layout_of,
    parameter_axis,
    scatter,
    thin_points,
)

_MOST_BARS = 10
"""Of parameters, or of pairs of them: those that explain most; the table has all."""
_FEW_PANELS = 6
"""So many slices stand three in a row; more of them four in a row, and lower."""
_CHARACTER = 6
"""Width of a character beside an axis of parallel coordinates, px."""
_CHOICE_STEP = 13
"""What a name needs between its neighbours along such an axis, px."""
_ALONG = (-0.1, 1.08)
"""Ends of the axes as shares of them: room for the words at both ends."""
_LONGEST_CHOICE = 40
_ONE_SIDED = 24
"""So many choices of the first axis stand on its left; more of them on both sides by turns."""


@dataclass(frozen=True, slots=True)
class AblationPath:
    """From the published defaults of a loss to its best trial."""

    loss: str
    trials: int
    start: float
    """Predicted for the published defaults."""
    steps: Sequence[AblationStep]
    measured_start: float | None
    """Value of the trial with the published defaults; None when it is not complete."""
    measured_end: float


def draw_importance(found: Sequence[Importance], total: int, used: int) -> Figure:
    """One bar a parameter; conditional ones say from how many trials they are judged."""
    if not found:
        return empty_figure("Importance needs eight complete trials in which a parameter varies.")
    shown = list(found[:_MOST_BARS])[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [item.share for item in shown],
        "y": [item.name for item in shown],
        "marker": {"color": ACCENT},
        "text": [f"{100 * item.share:.0f} %" for item in shown],
        "textposition": "auto",
        "customdata": [item.trials for item in shown],
        "hovertemplate": "%{y}<br>explains %{x:.1%} of the ranks, %{customdata} trials<extra></extra>",
        "showlegend": False,
    }
    layout = layout_of(
        xaxis=axis_title("share of the ranks' variance") | {"tickformat": ".0%", "rangemode": "tozero"},
        yaxis=axis_title(""),
        height=max(200, 24 * len(shown) + 90),
    )
    rows = [(item.name, item.share, item.trials) for item in found]
    note = _joined(_left_out(len(shown), len(found), "parameters"), thin_points(used, total, "trials"))
    return Figure([trace], layout, ("parameter", "share", "trials"), rows, note=note)


def _left_out(shown: int, total: int, what: str) -> str | None:
    """Say of how many the strongest are drawn; None when all are."""
    return f"the strongest {shown} of {total} {what}; the table has all" if shown < total else None


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


def draw_interactions(found: Sequence[Interaction], total: int, used: int) -> Figure:
    """One bar a pair of parameters, the strongest on top."""
    if not found:
        return empty_figure("Interactions need more complete trials in which two parameters vary.")
    strong = [item for item in found if item.share > 0]
    shown = strong[:_MOST_BARS][::-1]
    if not shown:
        return empty_figure(f"In {used:,} trials no two parameters explain more together than one by one.")
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(item.share, 5) for item in shown],
        "y": [f"{item.first} × {item.second}" for item in shown],
        "marker": {"color": ACCENT},
        "text": [f"{100 * item.share:.3g} %" for item in shown],
        "textposition": "auto",
        "customdata": [item.trials for item in shown],
        "hovertemplate": "%{y}<br>together explain %{x:.1%} more than each by itself, %{customdata} trials"
        "<extra></extra>",
        "showlegend": False,
    }
    layout = layout_of(
        xaxis=axis_title("added share")
        | {"tickformat": ".0%" if any(item.share > 0.05 for item in shown) else ".1%", "rangemode": "tozero"},
        yaxis=axis_title(""),
        height=max(200, 24 * len(shown) + 90),
    )
    rows = [(item.first, item.second, item.share, item.trials) for item in found]
    columns = ("parameter", "with", "share", "trials")
    note = _joined(_left_out(len(shown), len(strong), "pairs"), thin_points(used, total, "trials"))
    return Figure([trace], layout, columns, rows, note=note)


def draw_ablation(path: AblationPath, metric: str) -> Figure:
    """The predicted value after each step from a loss's published defaults to its best trial, and those measured."""
    names = ["published defaults", *(step.name for step in path.steps), "measured"]
    values = [path.start, *(step.predicted for step in path.steps)]
    texts = ["", *(f"{label(step.before)} → {label(step.after)}" for step in path.steps)]
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "predicted",
            "x": [round(v, 5) for v in values],
            "y": names[:-1],
            "customdata": texts,
            "line": {"color": ACCENT, "width": 2, "shape": "vh"},
            "marker": {"size": 8, "color": ACCENT},
            "hovertemplate": f"%{{y}} %{{customdata}}<br>{metric} about %{{x:.4f}}<extra></extra>",
        }
    ]
    measured = [("defaults", path.measured_start), ("best trial", path.measured_end)]
    known = [(name, value) for name, value in measured if value is not None]
    middle = (min(values) + max(values)) / 2
    traces.append(
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "measured",
            "x": [value for _, value in known],
            "y": ["measured"] * len(known),
            "text": [name for name, _ in known],
            "textposition": ["top right" if value < middle else "top left" for _, value in known],
            "marker": {"size": 9, "color": INK, "symbol": "diamond"},
            "hovertemplate": f"%{{text}}<br>{metric} %{{x:.4f}}<extra></extra>",
        }
    )
    ticks = [f"{name}  {text}" if text else name for name, text in zip(names, [*texts, ""], strict=True)]
    layout = layout_of(
        xaxis=axis_title(metric),
        yaxis=axis_title("")
        | {"type": "category", "autorange": "reversed", "tickvals": names, "ticktext": ticks, "categoryarray": names},
        height=max(220, 34 * len(names) + 90),
    )
    rows: list[tuple[Any, ...]] = [("published defaults", None, None, path.start)]
    rows += [(step.name, label(step.before), label(step.after), step.predicted) for step in path.steps]
    note = f"{path.loss}: predicted by kernel regression over {path.trials} complete trials"
    return Figure(traces, layout, ("parameter", "default", "best trial", f"predicted {metric}"), rows, note=note)


def draw_rank(x: Axis, y: Axis, points: Sequence[Point], direction: str, metric: str, total: int) -> Figure:
    """Two parameters, each trial in the colour of its rank, the best ones strong and on top."""
    placed = [
        (px, py, p)
        for p in points
        if (px := x.place(p.params.get(x.name))) is not None and (py := y.place(p.params.get(y.name))) is not None
    ]
    if not placed:
        return empty_figure("No complete trial has both parameters yet.")
    traces: list[Trace] = []
    for shade, group in _by_rank(placed, direction):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [px + (jitter(i) if x.choices else 0) for i, (px, _, _) in enumerate(group)],
                "y": [py + (jitter(3 * i) if y.choices else 0) for i, (_, py, _) in enumerate(group)],
                "customdata": [[p.number, p.loss, p.value] for _, _, p in group],
                "marker": {"size": 9, "color": shade, "line": {"width": 0.5, "color": QUIET}},
                "hovertemplate": hover(f"{metric} %{{customdata[2]:.4f}}"),
                "showlegend": False,
            }
        )
    xaxis, yaxis = parameter_axis(x, [px for px, _, _ in placed]), parameter_axis(y, [py for _, py, _ in placed])
    layout = layout_of(xaxis=xaxis, yaxis=yaxis, height=256)
    rows = [(p.number, p.loss, label(p.params[x.name]), label(p.params[y.name]), p.value) for _, _, p in placed]
    columns = ("trial", "loss", x.name, y.name, metric)
    said = "faint: the worst eighth, strong: the best"
    return Figure(traces, layout, columns, rows, note=_joined(said, thin_points(len(placed), total, "trials")))


def _by_rank(
    placed: Sequence[tuple[Any, Any, Point]], direction: str
) -> list[tuple[str, list[tuple[Any, Any, Point]]]]:
    """Divide trials into eight equal parts by their value, the worst first, each with its shade."""
    ranked = sorted(placed, key=lambda item: item[2].value, reverse=direction == "minimize")
    groups: list[list[tuple[Any, Any, Point]]] = [[] for _ in SHADES]
    for index, item in enumerate(ranked):
        groups[index * len(SHADES) // len(ranked)].append(item)
    return [(shade, group) for shade, group in zip(SHADES, groups, strict=True) if group]


def draw_slice(panels: Sequence[Panel], total: int, metric: str, left_out: int = 0) -> Figure:
    """Small multiples: each parameter against the value; `left_out` more have no room."""
    if not panels:
        return empty_figure("No complete trial has these parameters yet.")
    wide, high = (3, 155) if len(panels) <= _FEW_PANELS else (4, 125)
    rows_needed = math.ceil(len(panels) / wide)
    traces: list[Trace] = []
    layout = layout_of(height=high * rows_needed + 60)
    layout["grid"] = {
        "rows": rows_needed,
        "columns": min(wide, len(panels)),
        "pattern": "independent",
        "ygap": 0.35,
    }
    named: set[str] = set()
    for index, panel in enumerate(panels, 1):
        suffix = "" if index == 1 else str(index)
        layout[f"xaxis{suffix}"] = parameter_axis(panel.axis, panel.xs)
        layout[f"yaxis{suffix}"] = axis_title(metric if (index - 1) % wide == 0 else "") | {"matches": "y"}
        pairs = list(zip(panel.xs, panel.points, strict=True))
        for family, group in by_family((p.loss, (x, p)) for x, p in pairs):
            xs = [x + (jitter(i) if panel.axis.choices else 0) for i, (x, _) in enumerate(group)]
            trace = scatter(xs, [p.value for _, p in group], family)
            trace |= {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "legendgroup": family}
            trace["showlegend"] = family not in named
            trace["customdata"] = [[p.number, p.loss, label(p.params[panel.axis.name])] for _, p in group]
            trace["hovertemplate"] = (
                f"trial %{{customdata[0]}} · %{{customdata[1]}}<br>{panel.axis.name} %{{customdata[2]}}"
                f"<br>{metric} %{{y:.4f}}<extra></extra>"
            )
            named.add(family)
            traces.append(trace)
    rows = [
        (panel.axis.name, p.number, p.loss, label(p.params[panel.axis.name]), p.value)
        for panel in panels
        for p in panel.points
    ]
    used = max(len(panel.points) for panel in panels)
    columns = ("parameter", "trial", "loss", "value of the parameter", metric)
    note = _joined(_without_room(left_out), thin_points(used, total, "trials"))
    return Figure(traces, layout, columns, rows, note=note)


def _without_room(left_out: int) -> str | None:
    return f"{left_out} further parameters are not drawn" if left_out > 0 else None


def draw_contour(contour: Contour | None, metric: str, total: int) -> Figure:
    """Two parameters, the trials as dots, and a smooth guess between them."""
    if contour is None:
        return empty_figure("A contour needs six complete trials that have both parameters.")
    numbers = [p.number for _, _, p in contour.points]
    traces: list[Trace] = [
        _heights_drawn(contour, metric),
        _colour_bar(contour),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for x, _, _ in contour.points],
            "y": [y for _, y, _ in contour.points],
            "customdata": [[p.number, p.loss, p.value] for _, _, p in contour.points],
            "marker": {"size": 6, "color": PAPER, "line": {"width": 1, "color": INK}},
            "hovertemplate": hover(f"{metric} %{{customdata[2]:.4f}}"),
            "showlegend": False,
        },
    ]
    layout = layout_of(
        xaxis=parameter_axis(contour.x, contour.grid_x) | {"domain": [0, 0.88]},
        yaxis=parameter_axis(contour.y, contour.grid_y),
        height=256,
    )
    layout["xaxis2"] = {"domain": [0.91, 0.94], "visible": False, "fixedrange": True, "anchor": "y2"}
    layout["yaxis2"] = axis_title(metric) | {"anchor": "x2", "side": "right", "fixedrange": True, "showgrid": False}
    rows = [
        (p.number, p.loss, label(p.params[contour.x.name]), label(p.params[contour.y.name]), p.value)
        for _, _, p in contour.points
    ]
    columns = ("trial", "loss", contour.x.name, contour.y.name, metric)
    return Figure(traces, layout, columns, rows, note=thin_points(len(numbers), total, "trials"))


def _colour_bar(contour: Contour) -> Trace:
    """Draw the scale of the colours on axes of its own: plotly's bar has style attributes, which the policy forbids."""
    flat = [height for row in contour.heights for height in row]
    low, high = min(flat), max(flat)
    steps = [low + (high - low) * i / GRID for i in range(GRID + 1)]
    return {
        "type": "contour",
        "x": [0, 1],
        "y": steps,
        "z": [[step, step] for step in steps],
        "xaxis": "x2",
        "yaxis": "y2",
        "showscale": False,
        "colorscale": "Viridis",
        "zmin": low,
        "zmax": high,
        "contours": {"showlines": False, "start": low, "end": high, "size": (high - low) / GRID or 1.0},
        "hoverinfo": "skip",
    }


def _heights_drawn(contour: Contour, metric: str) -> Trace:
    """Draw the smooth guess: contours, or squares where an axis has choices."""
    text = f"{metric} about %{{z:.4f}}<extra></extra>"
    heights = [[round(v, 5) for v in row] for row in contour.heights]
    if not (contour.x.choices or contour.y.choices):
        grid = {"type": "contour", "x": contour.grid_x, "y": contour.grid_y, "z": heights, "showscale": False}
        return grid | {
            "colorscale": "Viridis",
            "hovertemplate": text,
            "contours": {"showlines": False},
            "ncontours": 24,
        }
    cells = [(x, y, heights[j][i]) for i, x in enumerate(contour.grid_x) for j, y in enumerate(contour.grid_y)]
    marker = {"symbol": "square", "size": 18, "opacity": 0.45, "colorscale": "Viridis", "showscale": False}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _, _ in cells],
        "y": [y for _, y, _ in cells],
        "marker": marker | {"color": [z for _, _, z in cells]},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def draw_parallel(
    axes: Sequence[Axis], points: Sequence[Point], direction: str, metric: str, total: int, left_out: int = 0
) -> Figure:
    """Parallel coordinates as ordinary lines, coloured by rank in eight steps, the best ones strong and on top.

    WebGL needs what the content policy forbids. `layout.meta` has the axes, which pages select trials by;
    `left_out` more have no room.
    """
    placed = [(point, _heights(axes, point)) for point in points]
    kept = [(heights, None, point) for point, heights in placed if heights is not None]
    if not kept or len(axes) < 2:
        return empty_figure("Parallel coordinates need a complete trial with at least two of these parameters.")
    low, high = min(p.value for _, _, p in kept), max(p.value for _, _, p in kept)
    traces: list[Trace] = []
    for shade, group in _by_rank(kept, direction):
        xs: list[Any] = []
        ys: list[Any] = []
        data: list[Any] = []
        for heights, _, point in group:
            end = (point.value - low) / (high - low) if high > low else 0.5
            xs += [*range(len(axes) + 1), None]
            ys += [*(round(h, 4) for h in heights), round(end, 4), None]
            data += [[point.number, point.loss, point.value]] * (len(axes) + 2)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": xs,
                "y": ys,
                "customdata": data,
                "line": {"color": shade, "width": 2.4 if shade == SHADES[-1] else 1.4},
                "showlegend": False,
                "hovertemplate": hover(f"{metric} %{{customdata[2]:.4f}}"),
            }
        )
    names = [axis.name for axis in axes] + [metric]
    names_above = [math.ceil(len(a.choices) / (2 if _two_sided(i, a) else 1)) for i, a in enumerate(axes)]
    layout = layout_of()
    margin = layout["margin"]["t"] + layout["margin"]["b"]
    layout["height"] = max(290, round(_CHOICE_STEP * (_ALONG[1] - _ALONG[0]) * max(names_above)) + margin)
    layout["margin"] |= {"l": 24 + _CHARACTER * max((len(_cut(c)) for c in axes[0].choices), default=6)}
    layout["xaxis"] = {
        "tickvals": list(range(len(names))),
        "ticktext": [_break_lines(n) for n in names],
        "showgrid": True,
        "fixedrange": True,
        "range": [-0.15, len(names) - 0.7],
    }
    layout["yaxis"] = {"visible": False, "range": list(_ALONG), "fixedrange": True}
    layout["dragmode"] = False
    layout["annotations"] = _ends(axes, low, high)
    layout["meta"] = {"axes": [_range_of(axis) for axis in axes] + [{"name": "value", "low": low, "high": high}]}
    rows = [(p.number, p.loss, *(label(p.params.get(a.name)) for a in axes), p.value) for _, _, p in kept]
    columns = ("trial", "loss", *(a.name for a in axes), metric)
    note = _joined(_without_room(left_out), thin_points(len(kept), total, "trials"))
    return Figure(traces, layout, columns, rows, note=note)


def _two_sided(index: int, axis: Axis) -> bool:
    return index == 0 and len(axis.choices) > _ONE_SIDED


def _range_of(axis: Axis) -> dict[str, Any]:
    if axis.choices:
        return {"name": axis.name, "choices": list(axis.choices)}
    return {"name": axis.name, "low": axis.low, "high": axis.high, "log": axis.log}


def _heights(axes: Sequence[Axis], point: Point) -> list[float] | None:
    """Return where a trial crosses each axis, 0 to 1; None when it lacks one."""
    found = []
    for axis in axes:
        place = axis.place(point.params.get(axis.name))
        if place is None:
            return None
        found.append(axis.share(place))
    return found


def _ends(axes: Sequence[Axis], low: float, high: float) -> list[dict[str, Any]]:
    ends = [(label(axis.low), label(axis.high)) if not axis.choices else ("", "") for axis in axes]
    found = []
    for index, pair in enumerate([*ends, (label(low), label(high))]):
        for text, y, anchor in ((pair[0], -0.01, "top"), (pair[1], 1.01, "bottom")):
            if text:
                found.append(
                    {"x": index, "y": y, "text": text, "showarrow": False, "yanchor": anchor, "font": {"size": 10}}
                )
    for index, axis in enumerate(axes):
        found += [
            {
                "x": index,
                "y": axis.share(i),
                "text": _cut(choice),
                "showarrow": False,
                "font": {"size": 10},
                "name": "choice",
                "bgcolor": PAPER,
                "borderpad": 1,
                "xanchor": "left" if right else "right",
                "xshift": 5 if right else -5,
            }
            for i, choice in enumerate(axis.choices)
            for right in [index > 0 or (_two_sided(index, axis) and i % 2 == 1)]
        ]
    return found


def _cut(choice: str) -> str:
    """Return a name as it stands beside an axis: what is longer than any loss of ours loses its end."""
    return choice if len(choice) <= _LONGEST_CHOICE else f"{choice[: _LONGEST_CHOICE - 1]}…"


def _break_lines(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return f"{head}.<br>{tail}" if head else tail
