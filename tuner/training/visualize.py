"""Predictions of the best epoch on fixed validation cases (predictions.npz, .png), confusion matrix and calibration.

They are written once, when the training ends: from memory, or by predicting again with `best.safetensors` when the
best epoch belongs to an earlier attempt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.atomic_io import write_file, write_json
from tuner.colors import CLASS_COLOURS, CONFUSED, EXTRA, IGNORED, MISSED, Colour
from tuner.data.arrays import spatial_shape
from tuner.data.preparation import PreparedData
from tuner.image_panels import INK, draw_legend, legend_width, to_panel
from tuner.label_archive import write_label_archive
from tuner.metrics.calibration import CalibrationCounts
from tuner.training.evaluate import ScoreUnit, Validation, score_units
from tuner.training.loop import TrainingState
from tuner.training.run_dir import RunDirectory

Rgb = NDArray[np.uint8]
PAPER: Colour = (255, 255, 255)

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
        draw_legend(pen, line, (GAP, HEAD + len(rows) * (height + LINE + GAP) + number * LINE + 3), font)
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
    return [np.asarray(to_panel(panel, PANEL)) for panel in found]


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
            needed = legend_width(entry[0], font)
            if room < needed:
                lines.append([])
                room = width - 2 * GAP
            lines[-1].append(entry)
            room -= needed
    return lines


KEPT_CASES = 16
"""Cases in `predictions.npz`: the first ones of the validation split, the same for all trials of a study."""
KEPT_BYTES = 256 * 2**20
"""Of their label maps in memory: whole scans at full resolution take a hundred megabytes each."""
CALIBRATION = "calibration.json"
"""What a reliability diagram of the best epoch is drawn from."""
DRAWN_CASES = 6
"""Cases in `predictions.png`."""


def kept_units(data: PreparedData) -> list[ScoreUnit]:
    """Return the cases whose predictions are kept: as many as fit, the first one in any case."""
    units = score_units(data.validation, stacked=data.stacked)[:KEPT_CASES]
    sizes = [math.prod(spatial_shape(data.validation.labels, unit.start)) * (unit.stop - unit.start) for unit in units]
    return [unit for number, unit in enumerate(units) if not number or sum(sizes[: number + 1]) <= KEPT_BYTES]


class Pictures:
    """Predictions and confusion matrix of the best epoch so far."""

    def __init__(self, run: TrainingState, record: RunDirectory) -> None:
        self._run, self._record = run, record
        self._units = kept_units(run.data)
        self._predictions: dict[str, NDArray[np.uint8]] = {}
        self._confusion: NDArray[np.int64] | None = None
        self._calibration: CalibrationCounts | None = None
        self._epoch: int | None = None
        self._written: int | None = None

    def keep(self, validation: Validation, epoch: int) -> None:
        """Remember what the best epoch predicted."""
        regions = self._run.data.regions
        found = {unit.name: unit.of(validation.predictions) for unit in self._units}
        self._predictions = {
            name: np.array(codes, np.uint8) if regions is None else regions.label_map(codes)
            for name, codes in found.items()
        }
        self._confusion = validation.confusion
        self._calibration = validation.calibration
        self._epoch = epoch

    def write(self) -> None:
        """Write `predictions.*`, `confusion.npy` and `calibration.json` of the best epoch, unless they are there."""
        best = self._record.best
        if best is None or self._written == best.epoch:
            return
        if self._epoch != best.epoch and not self._predict_again(best.epoch):
            return
        folder = self._record.path
        write_file(folder / "confusion.npy", _npy(self._confusion))
        if self._calibration is not None:
            write_json(folder / CALIBRATION, {"epoch": best.epoch, **self._document(self._calibration)})
        write_file(folder / "predictions.npz", write_label_archive(self._predictions))
        write_file(folder / "predictions.png", draw(self._rows(), ("", *self._drawn_names())))
        self._written = best.epoch

    def _document(self, counts: CalibrationCounts) -> dict[str, Any]:
        data = self._run.data
        names = data.class_names if data.regions is None else data.regions.names
        return counts.as_dict(names, regions=data.regions is not None)

    def _predict_again(self, epoch: int) -> bool:
        if self._record.best_epoch_on_disk() != epoch:
            return False
        self._run.load_weights(self._record.read_best())
        validation = self._run.validate(lambda: False)
        if validation is None:
            return False
        self.keep(validation, epoch)
        return True

    def _drawn_names(self) -> tuple[str, ...]:
        """Return the names of the classes of label maps."""
        data = self._run.data
        return data.class_names[int(data.background) :]

    def _rows(self) -> list[Row]:
        rows = [self._row(unit) for unit in self._units[:DRAWN_CASES]]
        return rows if self._run.data.background else [_without_background(row) for row in rows]

    def _row(self, unit: ScoreUnit) -> Row:
        split = self._run.data.validation
        truth = np.asarray(unit.of(split.labels), np.uint8)
        if self._run.data.regions is not None:
            truth = self._run.data.regions.written(truth, ignore_index=self._run.data.ignore_index)
        predicted, ignore = self._predictions[unit.name], self._run.data.ignore_index
        if truth.ndim == 2:
            return Row(unit.name, np.asarray(split.images[unit.start]), truth, predicted, ignore)
        depth = _fullest(truth)
        image = split.images[unit.start][:, depth] if unit.single else split.images[unit.start + depth]
        return Row(f"{unit.name}, slice {depth + 1}", np.asarray(image), truth[depth], predicted[depth], ignore)


def _without_background(row: Row) -> Row:
    """Number the classes of a picture from 1: label 0 is drawn as nothing."""
    truth = np.where(row.truth == row.ignore_index, row.ignore_index, row.truth + 1).astype(np.uint8)
    return replace(row, truth=truth, predicted=(row.predicted + 1).astype(np.uint8))


def _fullest(labels: NDArray[Any]) -> int:
    """Return the slice of [D, H, W] that shows the most: first by number of classes, then by labelled pixels."""
    shown = [(len(np.unique(plane)), int(np.count_nonzero(plane))) for plane in labels]
    return max(range(len(shown)), key=shown.__getitem__)


def _npy(array: NDArray[np.int64] | None) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array if array is not None else np.zeros((0, 0), np.int64))
    return buffer.getvalue()
