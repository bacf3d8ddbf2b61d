"""Behaviour curves as pictures: one image a loss, a panel a perturbation, the loss above, its gradient below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.report.drawing import Circle, Drawing, Line, Polyline, Rectangle, Shape, Text

_PANEL, _GAP, _LEFT, _TOP = (210, 150), 62, 72, 78
_GREY, _LEVEL = "#bbbbbb", "#eeeeee"
_COLOURS = {"large": "#0072b2", "small": "#d55e00"}
_SMALL = 11
_ROWS = (("values", "loss"), ("gradients", "gradient norm"))


def write_figures(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `NAME.png` for every loss of a document of `losses behavior` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for loss in document["losses"]:
        path = folder / f"{loss['name']}.png"
        path.write_bytes(draw_behavior(loss, document["drifts"]).to_png(scale=1))
        files.append(path)
    return files


def draw_behavior(loss: Mapping[str, Any], drifts: list[Mapping[str, Any]]) -> Drawing:
    """Draw how one loss and its gradient go along each perturbation, of a large and of a small object.

    Curves without gradients give the upper row alone.
    """
    title = f"{loss['name']} ({loss['family']} loss)"
    rows = [(key, what) for key, what in _ROWS if key in loss["curves"][0]]
    width, height = _LEFT + len(drifts) * (_PANEL[0] + _GAP), _TOP + len(rows) * (_PANEL[1] + _GAP)
    drawing = Drawing(title, height, width=width)
    drawing.add(Text(_LEFT, 30, title, size=20))
    for place, name in enumerate(_COLOURS):
        x = _LEFT + 560 + 130 * place
        drawing.add(_mark(x, 24, name), Text(x + 12, 29, f"{name} object", size=14))
    for column, drift in enumerate(drifts):
        curves = [curve for curve in loss["curves"] if curve["drift"] == drift["name"]]
        x = _LEFT + column * (_PANEL[0] + _GAP)
        drawing.add(Text(x, 62, drift["name"], size=15))
        for row, (key, what) in enumerate(rows):
            y = _TOP + row * (_PANEL[1] + _GAP)
            drawing.add(*_panel(x, y, curves, key))
            drawing.add(Text(x + 6, y + 9, what, size=_SMALL, colour="#666666"))
            drawing.add(Text(x + _PANEL[0] / 2, y + _PANEL[1] + 30, drift["unit"], "middle", size=_SMALL))
    return drawing


def _panel(x: float, y: float, curves: list[Mapping[str, Any]], key: str) -> list[Shape]:
    wide, high = _PANEL
    amounts = curves[0]["amounts"]
    known = [value for curve in curves for value in curve[key]]
    low, top = min(known), max(known)
    if top - low <= 1e-9 * max(abs(top), 1e-30):
        low, top = low - 0.5, top + 0.5
    shapes: list[Shape] = [Polyline([(x, y + 14), (x, y + high), (x + wide, y + high)], _GREY)]
    for value, level in ((top, y + 20), (low, y + high - 6)):
        shapes.append(Line(x - 4, level, x + wide, level, _LEVEL))
        shapes.append(Text(x - 7, level + 4, f"{value:.3g}", "end", size=_SMALL))
    shapes.append(Text(x, y + high + 14, f"{amounts[0]:g}", size=_SMALL))
    shapes.append(Text(x + wide, y + high + 14, f"{amounts[-1]:g}", "end", size=_SMALL))
    for curve in curves:
        points = [
            (
                x + 8 + (wide - 16) * (amount - amounts[0]) / (amounts[-1] - amounts[0]),
                y + high - 6 - (high - 26) * (value - low) / (top - low),
            )
            for amount, value in zip(amounts, curve[key], strict=True)
        ]
        shapes.append(Polyline(points, _COLOURS[curve["object"]], 2))
        shapes += [_mark(*point, curve["object"]) for point in points]
    return shapes


def _mark(x: float, y: float, name: str) -> Shape:
    return Circle(x, y, 3.5, _COLOURS[name]) if name == "large" else Rectangle(x - 3.5, y - 3.5, 7, 7, _COLOURS[name])
