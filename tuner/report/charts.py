"""Charts of a report: every trial by loss, and learning curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from tuner.figures.plots import FAMILY_COLOURS
from tuner.report.drawing import (
    INK,
    SOFT,
    WIDTH,
    Circle,
    Drawing,
    Line,
    Polygon,
    Polyline,
    Scale,
    Shape,
    Text,
    horizontal_axis,
    legend,
    vertical_axis,
)

CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#444444", "#882255")

_LEFT, _RIGHT, _ROW, _TOP, _FOOT = 230, 30, 24, 34, 70
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 3), (9, 3, 2, 3))
_CURVES_LEFT, _CURVES_RIGHT, _CURVES_HEIGHT = 70, 240, 380


@dataclass(frozen=True)
class Strip:
    """The values of one loss."""

    loss: str
    family: str
    values: Sequence[float]
    default: float | None
    tuned: float | None


def draw_strips(strips: Sequence[Strip], metric: str) -> Drawing:
    """Draw a row for each loss: a dot for every trial, a ring at its published defaults, a diamond at its best."""
    everything = [
        value for strip in strips for value in (*strip.values, strip.default, strip.tuned) if value is not None
    ]
    scale = Scale(min(everything), max(everything), _LEFT, WIDTH - _RIGHT)
    base = _TOP + _ROW * len(strips)
    drawing = Drawing(f"{metric} of every trial, by loss", base + _FOOT)
    drawing.add(*horizontal_axis(scale, _TOP - 8, base, metric))
    for place, strip in enumerate(strips):
        y, colour = _TOP + _ROW * (place + 0.5), FAMILY_COLOURS.get(strip.family, INK)
        drawing.add(Text(_LEFT - 12, y + 4, strip.loss, "end"))
        if strip.default is not None and strip.tuned is not None:
            drawing.add(Line(scale(strip.default), y, scale(strip.tuned), y, colour, 2))
        drawing.add(*(Circle(scale(value), y, 3.2, colour, opacity=0.45) for value in strip.values))
        if strip.default is not None:
            drawing.add(_ring(scale(strip.default), y, colour))
        if strip.tuned is not None:
            drawing.add(*_diamond(scale(strip.tuned), y, colour))
    y = drawing.height - 14
    drawing.add(_ring(_LEFT, y - 4, SOFT), Text(_LEFT + 12, y, "published defaults"))
    drawing.add(*_diamond(_LEFT + 155, y - 4, SOFT), Text(_LEFT + 168, y, "best tuned"))
    families = {strip.family: FAMILY_COLOURS.get(strip.family, INK) for strip in strips}
    drawing.add(*legend(_LEFT + 265, y, families))
    return drawing


@dataclass(frozen=True)
class LearningCurve:
    """Epochs and values of one trial."""

    name: str
    points: Sequence[tuple[int, float]]


def draw_curves(curves: Sequence[LearningCurve], metric: str) -> Drawing:
    """Draw learning curves over epochs, told apart by colour and dashes."""
    epochs = [epoch for curve in curves for epoch, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    base, right = _CURVES_HEIGHT - 50, WIDTH - _CURVES_RIGHT
    across = Scale(min(epochs), max(epochs), _CURVES_LEFT, right, whole=True)
    up = Scale(min(values), max(values), base, 20)
    drawing = Drawing(f"{metric} over the epochs", max(_CURVES_HEIGHT, 40 + 20 * len(curves)))
    drawing.add(*horizontal_axis(across, 20, base, "epoch"), *vertical_axis(up, _CURVES_LEFT, right))
    drawing.add(Text(_CURVES_LEFT, 14, metric, "start", SOFT))
    styles = cycle((colour, dash) for dash in _DASHES for colour in CURVE_COLOURS)
    for place, (curve, (colour, dash)) in enumerate(zip(curves, styles, strict=False)):
        drawing.add(Polyline([(across(e), up(v)) for e, v in curve.points], colour, 2, dash))
        y = 26 + 20 * place
        drawing.add(Polyline([(right + 20, y), (right + 44, y)], colour, 3, dash), Text(right + 52, y + 4, curve.name))
    return drawing


def _ring(x: float, y: float, colour: str) -> Circle:
    return Circle(x, y, 5, colour, ring=2)


def _diamond(x: float, y: float, colour: str) -> list[Shape]:
    return [Polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], c) for r, c in ((8, "#ffffff"), (6.5, colour))]
