"""Parts of figures as SVG: text, lines, scales, and the document around them."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

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
