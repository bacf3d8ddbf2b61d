"""A figure as a list of shapes, written as SVG or, by Pillow, as PNG: both from the same coordinates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from tuner.report import charts
from tuner.report.charts import INK, WIDTH

if TYPE_CHECKING:
    from PIL import ImageDraw


Anchor = Literal["start", "middle", "end"]

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
class Circle:
    """A filled circle."""

    x: float
    y: float
    radius: float
    colour: str = INK


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str = INK


Shape = Text | Line | Circle | Rectangle


@dataclass
class Drawing:
    """Shapes in the order in which they are painted, on white, `WIDTH` wide; coordinates in pixels, y downwards."""

    title: str
    height: float = 0
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Paint shapes above those that are there."""
        self.shapes += shapes

    def to_svg(self) -> bytes:
        """Return an SVG document."""
        return charts.document(self.height, [_svg_of(shape) for shape in self.shapes], self.title)

    def to_png(self) -> bytes:
        """Return a PNG image at twice the size."""
        from PIL import Image, ImageDraw

        scale = min(_PNG_SCALE, _MAX_PNG_HEIGHT / max(self.height, 1))
        fine = scale * _OVERSAMPLING
        image = Image.new("RGB", (round(WIDTH * fine), round(self.height * fine)), "#fff")
        painter = ImageDraw.Draw(image)
        font = _font(FONT_SIZE * fine)
        for shape in self.shapes:
            _paint(painter, shape, fine, font)
        image = image.resize((round(WIDTH * scale), round(self.height * scale)), Image.Resampling.BOX)
        stream = BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()


def stack(title: str, drawings: list[Drawing]) -> Drawing:
    """Return drawings below each other as one."""
    whole = Drawing(title)
    for drawing in drawings:
        whole.shapes += [_moved_down(shape, whole.height) for shape in drawing.shapes]
        whole.height += drawing.height
    return whole


def _moved_down(shape: Shape, by: float) -> Shape:
    if isinstance(shape, Text):
        return Text(shape.x, shape.y + by, shape.words, shape.anchor, shape.colour)
    if isinstance(shape, Line):
        return Line(shape.x1, shape.y1 + by, shape.x2, shape.y2 + by, shape.colour, shape.width)
    if isinstance(shape, Circle):
        return Circle(shape.x, shape.y + by, shape.radius, shape.colour)
    return Rectangle(shape.x, shape.y + by, shape.width, shape.height, shape.colour)


def _svg_of(shape: Shape) -> str:
    if isinstance(shape, Text):
        return charts.text(shape.x, shape.y, shape.words, shape.anchor, shape.colour)
    if isinstance(shape, Line):
        return charts.line(shape.x1, shape.y1, shape.x2, shape.y2, shape.colour, shape.width)
    if isinstance(shape, Circle):
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius}" fill="{shape.colour}"/>'
    place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
    return f'<rect {place} fill="{shape.colour}"/>'


def _paint(painter: "ImageDraw.ImageDraw", shape: Shape, scale: float, font: Any) -> None:
    if isinstance(shape, Text):
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
        painter.text((shape.x * scale, shape.y * scale), shape.words, fill=shape.colour, font=font, anchor=anchor)
    elif isinstance(shape, Line):
        ends = (shape.x1 * scale, shape.y1 * scale, shape.x2 * scale, shape.y2 * scale)
        painter.line(ends, fill=shape.colour, width=max(1, round(shape.width * scale)))
    elif isinstance(shape, Circle):
        painter.circle((shape.x * scale, shape.y * scale), shape.radius * scale, fill=shape.colour)
    else:
        right, low = shape.x + max(shape.width, 0), shape.y + max(shape.height, 0)
        painter.rectangle((shape.x * scale, shape.y * scale, right * scale, low * scale), fill=shape.colour)


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
