"""Training labels before and after label noise, as a picture: image, labels, noisy labels, and what changed."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.colors import CLASS_COLOURS, CONFUSED, EXTRA, IGNORED, MISSED
from tuner.data.preparation import PreparedData

PANEL, GAP, HEAD = 224, 10, 24
COLUMNS = ("image", "labels", "with noise", "changed")
MAX_ROWS = 4

Rgb = NDArray[np.uint8]


def draw_label_noise(clean: PreparedData, noisy: PreparedData) -> bytes:
    """Return a PNG with a row for each of a few training cases: the slice of each in which most pixels changed."""
    rows = _rows(clean, noisy)
    sheet = Image.new("RGB", (GAP + len(COLUMNS) * (PANEL + GAP), HEAD + len(rows) * (PANEL + HEAD)), "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, word in enumerate(COLUMNS):
        canvas.text((GAP + place * (PANEL + GAP), 4), word, "black", font)
    for number, (name, image, before, after) in enumerate(rows):
        y = HEAD + number * (PANEL + HEAD)
        grey = _grey(image)
        panels = (
            grey,
            _colorize(grey, before, clean),
            _colorize(grey, after, clean),
            _changes(grey, before, after, clean.background),
        )
        for place, panel in enumerate(panels):
            sheet.paste(_fit_size(panel), (GAP + place * (PANEL + GAP), y))
        canvas.text(
            (GAP, y + PANEL + 2), f"{name}: {100 * (before != after).mean():.2g} % of the pixels", "black", font
        )
    file = BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def changed_percent(clean: PreparedData, noisy: PreparedData) -> dict[str, float]:
    """Return for each class how many percent of its training pixels have another label now."""
    changed, whole = np.zeros(256), np.zeros(256)
    for before, after in zip(clean.train.labels, noisy.train.labels, strict=True):
        whole += np.bincount(before.ravel(), minlength=256)
        changed += np.bincount(before[before != after].ravel(), minlength=256)
    return {
        name: float(100 * changed[number] / whole[number]) if whole[number] else 0.0
        for number, name in enumerate(clean.class_names)
    }


def _rows(clean: PreparedData, noisy: PreparedData) -> list[tuple[str, NDArray[np.float32], Rgb, Rgb]]:
    """Return name, image [C, H, W] and both labels [H, W] of the most changed slice of the first cases."""
    found: dict[int, tuple[int, str, NDArray[np.float32], Rgb, Rgb]] = {}
    for number, case in enumerate(clean.train.case_of.tolist()):
        if case not in found and len(found) == MAX_ROWS:
            break
        image = np.asarray(clean.train.images[number])
        before, after = (np.asarray(data.train.labels[number]) for data in (clean, noisy))
        if before.ndim == 3:
            place = int((before != after).sum(axis=(1, 2)).argmax())
            image, before, after = image[:, place], before[place], after[place]
        count = int((before != after).sum())
        if case not in found or count > found[case][0]:
            found[case] = (count, clean.train.cases[case], image, before, after)
    return [row[1:] for row in found.values()]


def _grey(image: NDArray[np.float32]) -> Rgb:
    """Return the image [C, H, W] as RGB [H, W, 3]."""
    planes = image if image.shape[0] == 3 else np.repeat(image[:1], 3, axis=0)
    low, high = float(planes.min()), float(planes.max())
    scaled = 255 * (planes - low) / max(high - low, 1e-12)
    return np.moveaxis(scaled, 0, -1).astype(np.uint8)


def _colorize(grey: Rgb, labels: Rgb, data: PreparedData) -> Rgb:
    table = np.zeros((256, 3), np.uint8)
    for number in range(data.classes):
        table[number] = CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
    table[data.ignore_index] = IGNORED
    painted = table[labels]
    shown = (labels > 0) | (not data.background)
    return np.where(shown[..., None], (0.35 * grey + 0.65 * painted).astype(np.uint8), grey)


def _changes(grey: Rgb, before: Rgb, after: Rgb, background: bool) -> Rgb:
    """Colour what was lost, what was added, and what has another class."""
    picture = (grey // 2).copy()
    changed = before != after
    lost, added = (changed & (labels == 0) & background for labels in (after, before))
    picture[changed] = CONFUSED
    picture[lost] = MISSED
    picture[added] = EXTRA
    return picture


def _fit_size(panel: Rgb) -> Image.Image:
    picture = Image.fromarray(panel)
    scale = PANEL / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    sheet = Image.new("RGB", (PANEL, PANEL), "white")
    sheet.paste(picture.resize(size, Image.Resampling.NEAREST))
    return sheet


def caption(kind: str, rate: float, changed: dict[str, float], names: Sequence[str]) -> str:
    """Return what the picture shows, and how much of each class has another label."""
    parts = ", ".join(f"{name} {changed[name]:.2g} %" for name in names)
    return (
        f"Label noise of kind {kind}, rate {rate:g}: training labels only. Changed pixels by class: {parts}. "
        "Blue: lost; orange: added; purple: another class."
    )
