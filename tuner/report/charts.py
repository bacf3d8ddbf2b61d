"""SVG charts of a report: they need no script, print well, and are a few kilobytes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tuner.figures.plots import FAMILY_COLOURS

WIDTH = 960
INK, SOFT, GRID = "#1c1917", "#57534e", "#e7e5e4"


class Scale:
    """From values to pixels, with round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, *, whole: bool = False) -> None:
        step = _round_step((high - low) / 6 or abs(high) / 6 or 1.0)
        step = max(1.0, step) if whole else step
        self.low = math.floor(low / step + 1e-9) * step
        self.high = max(math.ceil(high / step - 1e-9) * step, self.low + step)
        self.start, self.end = start, end
        count = round((self.high - self.low) / step)
        self.ticks = [self.low + step * n for n in range(count + 1)]

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)


def document(height: float, parts: Sequence[str], title: str) -> bytes:
    """Return a whole figure of `WIDTH` and a height in pixels."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
    )
    return (head + "".join(parts) + "</svg>").encode()


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = INK) -> str:
    """Return words at a place; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, more: str = "") -> str:
    """Return a straight line; `more` holds further attributes, written out."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{more}/>'


def short(value: float) -> str:
    """Return a number with at most four digits."""
    return f"{value:.4g}"


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
