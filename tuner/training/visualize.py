"""A picture of predictions: image, truth, prediction, difference; in colours that colour-blind people tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.colors import CLASS_COLOURS, CONFUSED, EXTRA, IGNORED, MISSED, Colour

Rgb = NDArray[np.uint8]
PAPER: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)

PANEL = 224
"""Longer side of a panel in pixels."""
GAP = 10
HEAD = 26
LINE = 22
COLUMNS = ("image", "truth", "prediction", "difference")


@dataclass(frozen=True)
class Row:
    """One case: image [C, H, W], truth and prediction [H, W]."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    ignore_index: int


def draw(rows: Sequence[Row], class_names: Sequence[str]) -> bytes:
    """Return a PNG with a row of four panels for each case, and a legend."""
    panels = [_panels(row) for row in rows]
    height, width = (max((p[0].shape[axis] for p in panels), default=PANEL) for axis in (0, 1))
    sheet_width = GAP + len(COLUMNS) * (width + GAP)
    entries = _legend(class_names)
    legend = _legend_lines(entries, sheet_width)
    sheet_height = HEAD + len(rows) * (height + LINE + GAP) + len(legend) * LINE + GAP
    sheet = Image.new("RGB", (sheet_width, sheet_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for column, title in enumerate(COLUMNS):
        pen.text((GAP + column * (width + GAP), 6), title, INK, font)
    for number, (row, arrays) in enumerate(zip(rows, panels, strict=True)):
        top = HEAD + number * (height + LINE + GAP)
        for column, array in enumerate(arrays):
            sheet.paste(Image.fromarray(array), (GAP + column * (width + GAP), top))
        pen.text((GAP, top + height + 3), row.name, INK, font)
    for number, line in enumerate(legend):
        _draw_legend(pen, line, HEAD + len(rows) * (height + LINE + GAP) + number * LINE, font)
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _panels(row: Row) -> list[Rgb]:
    grey = _visible(row.image)
    ignored = row.truth == row.ignore_index
    truth, predicted = (np.where(ignored, 0, labels) for labels in (row.truth, row.predicted))
    missed, extra = (truth > 0) & (predicted == 0), (truth == 0) & (predicted > 0)
    confused = (truth > 0) & (predicted > 0) & (truth != predicted)
    difference = (grey * 0.6).astype(np.uint8)
    for mask, colour in ((missed, MISSED), (extra, EXTRA), (confused, CONFUSED), (ignored, IGNORED)):
        difference[mask] = colour
    found = [grey, _overlay(grey, truth), _overlay(grey, predicted), difference]
    return [_enlarge(panel) for panel in found]


def _visible(image: NDArray[Any]) -> Rgb:
    """Turn [C, H, W] into [H, W, 3]: three channels are red, green and blue, else the first one is shown in grey."""
    planes = np.asarray(image[:3] if len(image) == 3 else image[:1], np.float32)
    low, high = np.percentile(planes, (0.5, 99.5))
    scaled = np.clip((planes - low) / max(float(high - low), 1e-6), 0, 1) * 255
    shown = np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1)
    return np.ascontiguousarray(shown.astype(np.uint8))


def _overlay(grey: Rgb, labels: NDArray[Any]) -> Rgb:
    colours = np.array([CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(max(1, int(labels.max())))], np.float32)
    shown = grey.astype(np.float32)
    inside = labels > 0
    shown[inside] = 0.25 * shown[inside] + 0.75 * colours[labels[inside] - 1]
    return shown.astype(np.uint8)


def _enlarge(panel: Rgb) -> Rgb:
    height, width = panel.shape[:2]
    factor = PANEL / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(panel).resize(size, way))


Entry = tuple[str, Colour]


def _legend(class_names: Sequence[str]) -> list[Entry]:
    classes = [(name, CLASS_COLOURS[k % len(CLASS_COLOURS)]) for k, name in enumerate(class_names[1:])]
    kinds = (("missed", MISSED), ("extra", EXTRA), ("wrong class", CONFUSED))
    return [*classes, *((f"difference: {name}", colour) for name, colour in kinds)]


def _legend_lines(entries: Sequence[Entry], width: int) -> list[list[Entry]]:
    """Break the legend into lines; classes and kinds of difference never share one."""
    font = ImageFont.load_default(size=14)
    kinds = 3
    lines: list[list[Entry]] = []
    for group in (entries[:-kinds], entries[-kinds:]):
        room = 0.0
        for entry in group:
            needed = 16 + 6 + font.getlength(entry[0]) + 16
            if room < needed:
                lines.append([])
                room = width - 2 * GAP
            lines[-1].append(entry)
            room -= needed
    return lines


def _draw_legend(pen: ImageDraw.ImageDraw, line: Sequence[Entry], top: int, font: Any) -> None:
    left = float(GAP)
    for name, colour in line:
        pen.rectangle((left, top + 3, left + 15, top + 17), fill=colour, outline=INK)
        pen.text((left + 22, top + 2), name, INK, font)
        left += 16 + 6 + font.getlength(name) + 16
