"""Figures of a report as SVG: they need no script, print well, and are a few kilobytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.figures.parts import FAMILY_COLOURS
from tuner.report.svg import GRID, INK, SOFT, WIDTH, Scale, document, line, short, text

LEFT = 230
RIGHT = 30
ROW = 24
TOP = 34
FOOT = 70
DASHES = ("", "7 3", "2 3", "9 3 2 3")
CURVES_HEIGHT = 380
CURVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#444444", "#882255")


@dataclass(frozen=True)
class Strip:
    """The values of one loss."""

    loss: str
    family: str
    values: Sequence[float]
    default: float | None
    tuned: float | None


def draw_strips(strips: Sequence[Strip], metric: str) -> bytes:
    """Draw a row for each loss: a dot for every trial, a ring at its published defaults, a diamond at its best."""
    everything = [
        value for strip in strips for value in (*strip.values, strip.default, strip.tuned) if value is not None
    ]
    scale = Scale(min(everything), max(everything), LEFT, WIDTH - RIGHT)
    height = TOP + ROW * len(strips) + FOOT
    base = TOP + ROW * len(strips)
    parts = _axis(scale, TOP - 8, base, metric)
    for place, strip in enumerate(strips):
        y, colour = TOP + ROW * (place + 0.5), FAMILY_COLOURS.get(strip.family, INK)
        parts.append(text(LEFT - 12, y + 4, strip.loss, "end"))
        if strip.default is not None and strip.tuned is not None:
            parts.append(line(scale(strip.default), y, scale(strip.tuned), y, colour, 2))
        parts += [_dot(scale(value), y, 3.2, colour, 0.45) for value in strip.values]
        if strip.default is not None:
            parts.append(_ring(scale(strip.default), y, colour))
        if strip.tuned is not None:
            parts.append(_diamond(scale(strip.tuned), y, colour))
    parts += _key(height - 14, dict.fromkeys(strip.family for strip in strips))
    return document(height, parts, f"{metric} of every trial, by loss")


@dataclass(frozen=True)
class Line:
    """A learning curve: epochs and values."""

    name: str
    points: Sequence[tuple[int, float]]


def draw_curves(lines: Sequence[Line], metric: str) -> bytes:
    """Draw learning curves over epochs, told apart by colour and dashes."""
    epochs = [epoch for curve in lines for epoch, _ in curve.points]
    values = [value for curve in lines for _, value in curve.points]
    across = Scale(min(epochs), max(epochs), 70, WIDTH - 240, whole=True)
    up = Scale(min(values), max(values), CURVES_HEIGHT - 50, 20)
    parts = _axis(across, 20, CURVES_HEIGHT - 50, "epoch")
    for tick in up.ticks:
        parts.append(line(70, up(tick), WIDTH - 240, up(tick), GRID, 1))
        parts.append(text(62, up(tick) + 4, short(tick), "end", SOFT))
    parts.append(text(70, 14, metric, "start", SOFT))
    for place, curve in enumerate(lines):
        colour, dash = CURVE_COLOURS[place % len(CURVE_COLOURS)], DASHES[place // len(CURVE_COLOURS) % len(DASHES)]
        path = " ".join(f"{across(e):.1f},{up(v):.1f}" for e, v in curve.points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        y = 26 + 20 * place
        parts.append(line(WIDTH - 220, y, WIDTH - 196, y, colour, 3, dashed))
        parts.append(text(WIDTH - 188, y + 4, curve.name, "start"))
    return document(max(CURVES_HEIGHT, 40 + 20 * len(lines)), parts, f"{metric} over the epochs")


def _axis(scale: Scale, top: float, base: float, title: str) -> list[str]:
    parts = []
    for tick in scale.ticks:
        parts.append(line(scale(tick), top, scale(tick), base, GRID, 1))
        parts.append(text(scale(tick), base + 18, short(tick), "middle", SOFT))
    parts.append(text((scale.start + scale.end) / 2, base + 36, title, "middle", SOFT))
    return parts


def _key(y: float, families: Mapping[str, None]) -> list[str]:
    parts = [_ring(LEFT, y - 4, SOFT), text(LEFT + 12, y, "published defaults"), _diamond(LEFT + 155, y - 4, SOFT)]
    parts.append(text(LEFT + 168, y, "best tuned"))
    x = LEFT + 265.0
    for family in families:
        parts += [_dot(x, y - 4, 5, FAMILY_COLOURS.get(family, INK), 1), text(x + 12, y, family)]
        x += 28 + 7.2 * len(family)
    return parts


def _dot(x: float, y: float, radius: float, colour: str, opacity: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="{opacity}"/>'


def _ring(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#fff" stroke="{colour}" stroke-width="2"/>'


def _diamond(x: float, y: float, colour: str) -> str:
    corners = ((x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y))
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return f'<polygon points="{path}" fill="{colour}" stroke="#fff" stroke-width="1"/>'
