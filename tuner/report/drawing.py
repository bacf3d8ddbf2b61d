"""The drawing kit: a figure as a list of shapes, written as SVG or, by Pillow, as PNG, both from the same coordinates.

Figures need no script, print well, and are a few kilobytes. Coordinates are in pixels, y downwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from PIL import ImageDraw


Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

WIDTH = 960
INK, SOFT, GRID, PAPER = "#1c1917", "#57534e", "#e7e5e4", "#ffffff"
FONT_SIZE = 13
_PNG_SCALE = 2
_OVERSAMPLING = 2
_MAX_PNG_HEIGHT = 16_000
"""Pixels; a higher figure is written at a smaller scale."""
_FONTS = ("DejaVuSans.ttf", "Arial.ttf", "LiberationSans-Regular.ttf")


@dataclass(frozen=True, slots=True)
class Text:
    """Words at a place; y is the baseline."""

    x: float
    y: float
    words: str
    anchor: Anchor = "start"
    colour: str = INK
    size: float = FONT_SIZE


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str = INK
    width: float = 1


@dataclass(frozen=True, slots=True)
class Polyline:
    """Straight lines through points; `dash` lists lengths drawn and left out in turn."""

    points: Sequence[Point]
    colour: str = INK
    width: float = 1
    dash: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled polygon."""

    points: Sequence[Point]
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Circle:
    """A filled circle; with `ring` its colour is that of the outline, of this width, on white."""

    x: float
    y: float
    radius: float
    colour: str = INK
    opacity: float = 1
    ring: float = 0


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str = INK


Shape = Text | Line | Polyline | Polygon | Circle | Rectangle


@dataclass
class Drawing:
    """Shapes in the order in which they are painted, on white."""

    title: str
    height: float = 0
    shapes: list[Shape] = field(default_factory=list)
    width: float = WIDTH

    def add(self, *shapes: Shape) -> None:
        """Paint shapes above those that are there."""
        self.shapes += shapes

    def to_svg(self) -> bytes:
        """Return an SVG document."""
        size = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" height="{self.height:.0f}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" '
            f'font-size="{FONT_SIZE}" role="img"><title>{escape(self.title)}</title>'
            f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        )
        return (head + "".join(map(_to_svg, self.shapes)) + "</svg>").encode()

    def to_png(self, scale: float = _PNG_SCALE) -> bytes:
        """Return a PNG image, by default at twice the size."""
        from PIL import Image, ImageDraw

        scale = min(scale, _MAX_PNG_HEIGHT / max(self.height, 1))
        fine = scale * _OVERSAMPLING
        image = Image.new("RGB", (round(self.width * fine), round(self.height * fine)), PAPER)
        painter = _Painter(ImageDraw.Draw(image), fine)
        for shape in self.shapes:
            painter.paint(shape)
        image = image.resize((round(self.width * scale), round(self.height * scale)), Image.Resampling.BOX)
        stream = BytesIO()
        image.save(stream, "PNG", optimize=True)
        return stream.getvalue()


def stack(title: str, drawings: list[Drawing]) -> Drawing:
    """Return drawings below each other as one."""
    whole = Drawing(title)
    for drawing in drawings:
        whole.shapes += [_move_down(shape, whole.height) for shape in drawing.shapes]
        whole.height += drawing.height
    return whole


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


class LogScale:
    """From values to pixels, one power of ten after the other."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.first = math.floor(math.log10(low) + 1e-9)
        self.last = max(math.ceil(math.log10(high) - 1e-9), self.first + 1)
        self.start, self.end = start, end
        self.ticks = [10.0**power for power in range(self.first, self.last + 1)]

    def __call__(self, value: float) -> float:
        """Return where a value above 0 lies; one below the axis lies at its beginning."""
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return self.start + max(0.0, share) * (self.end - self.start)


def horizontal_axis(scale: Scale | LogScale, top: float, base: float, title: str = "") -> list[Shape]:
    """Return vertical grid lines from `top` to `base` with their values below, and the title of the axis."""
    shapes: list[Shape] = []
    for tick in scale.ticks:
        shapes.append(Line(scale(tick), top, scale(tick), base, GRID))
        shapes.append(Text(scale(tick), base + 18, short(round(tick, 10)), "middle", SOFT))
    if title:
        shapes.append(Text((scale.start + scale.end) / 2, base + 36, title, "middle", SOFT))
    return shapes


def vertical_axis(scale: Scale, left: float, right: float) -> list[Shape]:
    """Return horizontal grid lines from `left` to `right` with their values left of them."""
    shapes: list[Shape] = []
    for tick in scale.ticks:
        shapes.append(Line(left, scale(tick), right, scale(tick), GRID))
        shapes.append(Text(left - 8, scale(tick) + 4, short(round(tick, 10)), "end", SOFT))
    return shapes


def legend(x: float, y: float, entries: Mapping[str, str]) -> list[Shape]:
    """Return dots with their words beside each other: words to colours. `y` is the baseline of the words."""
    shapes: list[Shape] = []
    for words, colour in entries.items():
        shapes += [Circle(x, y - 4, 5, colour), Text(x + 12, y, words)]
        x += 28 + 7.2 * len(words)
    return shapes


def short(value: float) -> str:
    """Return a number with at most four digits."""
    return f"{value:.4g}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)


def _move_down(shape: Shape, by: float) -> Shape:
    if isinstance(shape, (Polyline, Polygon)):
        return replace(shape, points=[(x, y + by) for x, y in shape.points])
    heights = {item.name: getattr(shape, item.name) + by for item in fields(shape) if item.name in ("y", "y1", "y2")}
    return replace(shape, **heights)


def _to_svg(shape: Shape) -> str:
    match shape:
        case Text():
            size = "" if shape.size == FONT_SIZE else f' font-size="{shape.size:g}"'
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}"{size}'
            return f'<text {place} fill="{shape.colour}">{escape(shape.words)}</text>'
        case Line():
            ends = f'x1="{shape.x1:.1f}" y1="{shape.y1:.1f}" x2="{shape.x2:.1f}" y2="{shape.y2:.1f}"'
            return f'<line {ends} stroke="{shape.colour}" stroke-width="{shape.width}"/>'
        case Polyline():
            dash = f' stroke-dasharray="{" ".join(f"{length:g}" for length in shape.dash)}"' if shape.dash else ""
            stroke = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"{dash}'
            return f'<polyline points="{_svg_points(shape.points)}" {stroke}/>'
        case Polygon():
            return f'<polygon points="{_svg_points(shape.points)}" fill="{shape.colour}"/>'
        case Circle():
            outline = f' stroke="{shape.colour}" stroke-width="{shape.ring:g}"' if shape.ring else ""
            opacity = "" if shape.opacity == 1 else f' fill-opacity="{shape.opacity}"'
            fill = f'fill="{PAPER if shape.ring else shape.colour}"{opacity}{outline}'
            return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius}" {fill}/>'
        case Rectangle():
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            return f'<rect {place} fill="{shape.colour}"/>'


def _svg_points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


class _Painter:
    """Paints shapes into a Pillow image, `scale` pixels for one."""

    def __init__(self, draw: "ImageDraw.ImageDraw", scale: float) -> None:
        self._draw = draw
        self._scale = scale
        self._fonts: dict[float, Any] = {}

    def paint(self, shape: Shape) -> None:
        """Paint one shape above what is there."""
        scale = self._scale
        match shape:
            case Text():
                anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
                font = self._fonts.setdefault(shape.size, None) or _font(shape.size * scale)
                self._fonts[shape.size] = font
                place = (shape.x * scale, shape.y * scale)
                self._draw.text(place, shape.words, fill=shape.colour, font=font, anchor=anchor)
            case Line():
                self._polyline([(shape.x1, shape.y1), (shape.x2, shape.y2)], shape.colour, shape.width)
            case Polyline():
                for part in _dashes(shape.points, shape.dash) if shape.dash else [shape.points]:
                    self._polyline(part, shape.colour, shape.width)
            case Polygon():
                self._draw.polygon([(x * scale, y * scale) for x, y in shape.points], fill=shape.colour)
            case Circle():
                centre = (shape.x * scale, shape.y * scale)
                fill = PAPER if shape.ring else _blend(shape.colour, shape.opacity)
                outline = {"outline": shape.colour, "width": round(shape.ring * scale)} if shape.ring else {}
                self._draw.circle(centre, (shape.radius + shape.ring / 2) * scale, fill=fill, **outline)
            case Rectangle():
                right, low = shape.x + max(shape.width, 0), shape.y + max(shape.height, 0)
                corners = (shape.x * scale, shape.y * scale, right * scale, low * scale)
                self._draw.rectangle(corners, fill=shape.colour)

    def _polyline(self, points: Sequence[Point], colour: str, width: float) -> None:
        places = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.line(places, fill=colour, width=max(1, round(width * self._scale)), joint="curve")


def _dashes(points: Sequence[Point], dash: Sequence[float]) -> list[list[Point]]:
    """Return the parts of a line that a dash pattern leaves."""
    parts: list[list[Point]] = [[points[0]]]
    place, room = 0, dash[0]
    for (x1, y1), (x2, y2) in pairwise(points):
        length, done = math.hypot(x2 - x1, y2 - y1), 0.0
        while length - done > room:
            done += room
            at = (x1 + (x2 - x1) * done / length, y1 + (y2 - y1) * done / length)
            if place % 2 == 0:
                parts[-1].append(at)
            else:
                parts.append([at])
            place += 1
            room = dash[place % len(dash)]
        room -= length - done
        if place % 2 == 0:
            parts[-1].append((x2, y2))
    return [part for part in parts if len(part) > 1]


def _blend(colour: str, opacity: float) -> str:
    """Return the colour as it is seen on white."""
    levels = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (level - 255) * opacity):02x}" for level in levels)


def _font(size: float) -> Any:
    """Return a font of the machine that has most of the alphabets, else the one that Pillow brings."""
    from PIL import ImageFont

    openers: list[Callable[[], Any]] = [lambda name=name: ImageFont.truetype(name, size) for name in _FONTS]  # type: ignore[misc]
    for opener in openers:
        try:
            return opener()
        except OSError:
            continue
    return ImageFont.load_default(size)
