"""Sheets of image panels: an image at the size of a panel, and the legend below. Imports no torch."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
INK: Colour = (30, 30, 30)

_SQUARE, _SPACE = 15, 7
"""Pixels: side of a coloured square, and what is free between it and its words."""


def panel_size(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return (height, width) of an image [H, W, ...] whose longer side is enlarged or reduced to `side` pixels."""
    factor = side / max(shape[0], shape[1])
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def to_panel(image: NDArray[np.uint8], side: int) -> Image.Image:
    """Enlarge an image [H, W, 3] by repeating pixels, or reduce it by their means, to `side` pixels."""
    height, width = panel_size(image.shape, side)
    way = Image.Resampling.NEAREST if height >= image.shape[0] else Image.Resampling.BOX
    return Image.fromarray(image).resize((width, height), way)


def legend_width(words: str, font: Any) -> float:
    """Return the pixels that an entry takes, with what is free behind it."""
    return _SQUARE + _SPACE + float(font.getlength(words)) + 2 * _SPACE


def draw_legend(
    pen: ImageDraw.ImageDraw, entries: Iterable[tuple[str, Colour]], corner: tuple[float, float], font: Any
) -> None:
    """Write a line of coloured squares with their words; `corner` (left, top) is that of the first square."""
    left, top = corner
    for words, colour in entries:
        pen.rectangle((left, top, left + _SQUARE, top + _SQUARE - 1), fill=colour, outline=INK)
        pen.text((left + _SQUARE + _SPACE, top - 1), words, INK, font)
        left += legend_width(words, font)
