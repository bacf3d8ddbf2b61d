"""Figures of the searched parameters: importance, slices, contours, parallel coordinates."""

import math
from collections.abc import Sequence
from typing import Any

from tuner.analysis.importance import Importance
from tuner.figures.data import Axis, Contour, Panel, Point, label
from tuner.figures.plots import (
    ACCENT,
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

_COLUMNS = 3


def draw_importance(found: Sequence[Importance], total: int, used: int) -> Figure:
    """One bar a parameter; conditional ones say from how many trials they are judged."""
    if not found:
        return empty_figure("Importance needs eight complete trials in which a parameter varies.")
    shown = list(found[:20])[::-1]
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
        xaxis=axis_title("share of the variance of the ranks") | {"tickformat": ".0%", "rangemode": "tozero"},
        yaxis=axis_title(""),
        height=max(200, 26 * len(shown) + 90),
    )
    rows = [(item.name, item.share, item.trials) for item in found]
    return Figure([trace], layout, ("parameter", "share", "trials"), rows, note=thin_points(used, total, "trials"))


def draw_slice(panels: Sequence[Panel], total: int, metric: str) -> Figure:
    """Small multiples: each parameter against the value."""
    if not panels:
        return empty_figure("No complete trial has these parameters yet.")
    rows_needed = math.ceil(len(panels) / _COLUMNS)
    traces: list[Trace] = []
    layout = layout_of(height=230 * rows_needed + 60)
    layout["grid"] = {
        "rows": rows_needed,
        "columns": min(_COLUMNS, len(panels)),
        "pattern": "independent",
        "ygap": 0.35,
    }
    named: set[str] = set()
    for index, panel in enumerate(panels, 1):
        suffix = "" if index == 1 else str(index)
        layout[f"xaxis{suffix}"] = parameter_axis(panel.axis)
        layout[f"yaxis{suffix}"] = axis_title(metric if (index - 1) % _COLUMNS == 0 else "") | {"matches": "y"}
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
    return Figure(traces, layout, columns, rows, note=thin_points(used, total, "trials"))


def draw_contour(contour: Contour | None, metric: str, total: int) -> Figure:
    """Two parameters, the trials as dots, and a smooth guess between them."""
    if contour is None:
        return empty_figure("A contour needs six complete trials that have both parameters.")
    numbers = [p.number for _, _, p in contour.points]
    traces: list[Trace] = [
        _heights_drawn(contour, metric),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for x, _, _ in contour.points],
            "y": [y for _, y, _ in contour.points],
            "customdata": [[p.number, p.loss, p.value] for _, _, p in contour.points],
            "marker": {"size": 6, "color": "#ffffff", "line": {"width": 1, "color": "#1f2937"}},
            "hovertemplate": hover(f"{metric} %{{customdata[2]:.4f}}"),
            "showlegend": False,
        },
    ]
    layout = layout_of(xaxis=parameter_axis(contour.x), yaxis=parameter_axis(contour.y), height=380)
    rows = [
        (p.number, p.loss, label(p.params[contour.x.name]), label(p.params[contour.y.name]), p.value)
        for _, _, p in contour.points
    ]
    columns = ("trial", "loss", contour.x.name, contour.y.name, metric)
    flat = [height for row in contour.heights for height in row]
    said = f"{metric} from {min(flat):.4g} (dark) to {max(flat):.4g} (light)"
    left_out = thin_points(len(numbers), total, "trials")
    return Figure(traces, layout, columns, rows, note=f"{said}; {left_out}" if left_out else said)


def _heights_drawn(contour: Contour, metric: str) -> Trace:
    """Draw the smooth guess: contours, or squares where an axis has choices.

    Without a colour bar: plotly draws it with style attributes, which the content policy forbids.
    """
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


def draw_parallel(axes: Sequence[Axis], points: Sequence[Point], direction: str, metric: str, total: int) -> Figure:
    """Parallel coordinates as ordinary lines, coloured by rank in eight steps: WebGL needs what the policy forbids."""
    placed = [(point, _heights(axes, point)) for point in points]
    kept = [(point, heights) for point, heights in placed if heights is not None]
    if not kept or len(axes) < 2:
        return empty_figure("Parallel coordinates need a complete trial with at least two of these parameters.")
    values = sorted((p.value for p, _ in kept), reverse=direction == "minimize")
    low, high = min(values), max(values)
    traces: list[Trace] = []
    groups: list[list[tuple[Point, list[float]]]] = [[] for _ in SHADES]
    for point, heights in kept:
        groups[min(len(SHADES) - 1, values.index(point.value) * len(SHADES) // len(values))].append((point, heights))
    for shade, group in zip(SHADES, groups, strict=True):
        xs: list[Any] = []
        ys: list[Any] = []
        data: list[Any] = []
        for point, heights in group:
            end = (point.value - low) / (high - low) if high > low else 0.5
            xs += [*range(len(axes) + 1), None]
            ys += [*(round(h, 4) for h in heights), round(end, 4), None]
            data += [[point.number, point.loss, point.value]] * (len(axes) + 2)
        if group:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": xs,
                    "y": ys,
                    "customdata": data,
                    "line": {"color": shade, "width": 1.4},
                    "opacity": 0.75,
                    "showlegend": False,
                    "hovertemplate": hover(f"{metric} %{{customdata[2]:.4f}}"),
                }
            )
    names = [axis.name for axis in axes] + [metric]
    layout = layout_of(height=420)
    layout["xaxis"] = {"tickvals": list(range(len(names))), "ticktext": [_broken(n) for n in names], "showgrid": True}
    layout["yaxis"] = {"visible": False, "range": [-0.06, 1.06]}
    layout["annotations"] = _ends(axes, low, high)
    rows = [(p.number, p.loss, *(label(p.params.get(a.name)) for a in axes), p.value) for p, _ in kept]
    columns = ("trial", "loss", *(a.name for a in axes), metric)
    return Figure(traces, layout, columns, rows, note=thin_points(len(kept), total, "trials"))


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
            {"x": index, "y": axis.share(i), "text": choice, "showarrow": False, "font": {"size": 9}, "xanchor": "left"}
            for i, choice in enumerate(axis.choices)
        ]
    return found


def _broken(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return f"{head}.<br>{tail}" if head else tail
