"""Behaviour curves as pictures: one image a loss, a panel a perturbation, the loss above, its gradient below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PANEL, GAP, LEFT, TOP = (210, 150), 62, 72, 78


FINE = 2


INK, GREY, PAPER = "#222222", "#bbbbbb", "#ffffff"


COLOURS = {"large": "#0072b2", "small": "#d55e00"}


def write_figures(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `NAME.png` for every loss of a probe's document and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for loss in document["losses"]:
        path = folder / f"{loss['name']}.png"
        _figure(loss, document["drifts"]).save(path, optimize=True)
        files.append(path)
    return files


def _figure(loss: Mapping[str, Any], drifts: list[Mapping[str, Any]]) -> Image.Image:
    width = LEFT + len(drifts) * (PANEL[0] + GAP)
    height = TOP + 2 * (PANEL[1] + GAP)
    image = Image.new("RGB", (width * FINE, height * FINE), PAPER)
    draw = ImageDraw.Draw(image)
    _text(draw, (LEFT, 12), f"{loss['name']} ({loss['family']} loss)", size=20)
    for k, name in enumerate(COLOURS):
        _mark(draw, (LEFT + 560 + 130 * k, 24), name)
        _text(draw, (LEFT + 572 + 130 * k, 15), f"{name} object", size=14)
    for column, drift in enumerate(drifts):
        curves = [curve for curve in loss["curves"] if curve["drift"] == drift["name"]]
        x = LEFT + column * (PANEL[0] + GAP)
        _text(draw, (x, 48), drift["name"], size=15)
        for row, (key, title) in enumerate((("values", "loss"), ("gradients", "gradient norm"))):
            y = TOP + row * (PANEL[1] + GAP)
            _panel(draw, (x, y), curves, key)
            _text(draw, (x + 6, y - 1), title, size=11, colour="#666666")
            _text(draw, (x + PANEL[0] / 2, y + PANEL[1] + 20), drift["unit"], size=11, anchor="ma")
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _panel(draw: ImageDraw.ImageDraw, corner: tuple[float, float], curves: list[Mapping[str, Any]], key: str) -> None:
    x, y = corner
    wide, high = PANEL
    amounts = curves[0]["amounts"]
    known = [value for curve in curves for value in curve[key]]
    low, top = min(known), max(known)
    if top - low <= 1e-9 * max(abs(top), 1e-30):
        low, top = low - 0.5, top + 0.5
    _line(draw, [(x, y + 14), (x, y + high), (x + wide, y + high)], GREY, 1)
    for value, level in ((top, y + 20), (low, y + high - 6)):
        _line(draw, [(x - 4, level), (x + wide, level)], "#eeeeee", 1)
        _text(draw, (x - 7, level), f"{value:.3g}", size=11, anchor="rm")
    for amount, anchor in ((amounts[0], "la"), (amounts[-1], "ra")):
        place = x if amount == amounts[0] else x + wide
        _text(draw, (place, y + high + 4), f"{amount:g}", size=11, anchor=anchor)
    for curve in curves:
        points = [
            (
                x + 8 + (wide - 16) * (amount - amounts[0]) / (amounts[-1] - amounts[0]),
                y + high - 6 - (high - 26) * (value - low) / (top - low),
            )
            for amount, value in zip(amounts, curve[key], strict=True)
        ]
        _line(draw, points, COLOURS[curve["object"]], 2)
        for point in points:
            _mark(draw, point, curve["object"])


def _mark(draw: ImageDraw.ImageDraw, place: tuple[float, float], name: str) -> None:
    x, y, r = place[0] * FINE, place[1] * FINE, 3.5 * FINE
    shape = draw.ellipse if name == "large" else draw.rectangle
    shape((x - r, y - r, x + r, y + r), fill=COLOURS[name])


def _line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str, width: int) -> None:
    draw.line([(x * FINE, y * FINE) for x, y in points], fill=colour, width=width * FINE, joint="curve")


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    anchor: str = "la",
    colour: str = INK,
) -> None:
    font = ImageFont.load_default(size * FINE)
    draw.text((place[0] * FINE, place[1] * FINE), text, fill=colour, font=font, anchor=anchor)
