"""What the best epoch predicted on a few fixed validation cases, and its confusion matrix, as files.

They are written once, when the training ends: from memory, or by predicting again with `best.safetensors` when the
best epoch belongs to an earlier attempt.
"""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from tuner.atomic_io_part import write_file
from tuner.data.preparation import PreparedData
from tuner.data.ragged import space_of
from tuner.training.evaluate import Labels, ScoreUnit, Validation, score_units
from tuner.training.loop import Run
from tuner.training.run_dir import TrialFolder
from tuner.training.visualize import Row, draw

KEPT_CASES = 16
"""Cases in `predictions.npz`: the first ones of the validation half, the same for all trials of a study."""
KEPT_BYTES = 256 * 2**20
"""Of their label maps in memory: whole scans at full resolution take a hundred megabytes each."""
DRAWN_CASES = 6
"""Cases in `predictions.png`."""


def kept_units(data: PreparedData) -> list[ScoreUnit]:
    """Return the cases whose predictions are kept: as many as fit, the first one in any case."""
    units = score_units(data.validation, stacked=data.stacked)[:KEPT_CASES]
    sizes = [math.prod(space_of(data.validation.labels, unit.start)) * (unit.stop - unit.start) for unit in units]
    return [unit for number, unit in enumerate(units) if not number or sum(sizes[: number + 1]) <= KEPT_BYTES]


class Pictures:
    """Predictions and confusion matrix of the best epoch so far."""

    def __init__(self, run: Run, record: TrialFolder) -> None:
        self._run, self._record = run, record
        self._units = kept_units(run.data)
        self._predictions: dict[str, Labels] = {}
        self._confusion: NDArray[np.int64] | None = None
        self._epoch: int | None = None
        self._written: int | None = None

    def keep(self, validation: Validation, epoch: int) -> None:
        """Remember what the best epoch predicted."""
        self._predictions = {unit.name: unit.of(validation.predictions).copy() for unit in self._units}
        self._confusion = validation.confusion
        self._epoch = epoch

    def write(self) -> None:
        """Write `predictions.npz`, `predictions.png` and `confusion.npy` of the best epoch, unless they are there."""
        best = self._record.best
        if best is None or self._written == best.epoch:
            return
        if self._epoch != best.epoch and not self._predict_again(best.epoch):
            return
        folder = self._record.path
        write_file(folder / "confusion.npy", _npy(self._confusion))
        write_file(folder / "predictions.npz", _npz(self._predictions))
        write_file(folder / "predictions.png", draw(self._rows(), ("", *self._run.data.scored_names)))
        self._written = best.epoch

    def _predict_again(self, epoch: int) -> bool:
        if self._record.best_epoch_on_disk() != epoch:
            return False
        self._run.load_weights(self._record.read_best())
        validation = self._run.validate(lambda: False)
        if validation is None:
            return False
        self.keep(validation, epoch)
        return True

    def _rows(self) -> list[Row]:
        rows = [self._row(unit) for unit in self._units[:DRAWN_CASES]]
        return rows if self._run.data.background else [_without_background(row) for row in rows]

    def _row(self, unit: ScoreUnit) -> Row:
        split = self._run.data.validation
        truth, predicted, ignore = unit.of(split.labels), self._predictions[unit.name], self._run.data.ignore_index
        if truth.ndim == 2:
            return Row(unit.name, np.asarray(split.images[unit.start]), truth, predicted, ignore)
        depth = _fullest(truth)
        image = split.images[unit.start][:, depth] if unit.single else split.images[unit.start + depth]
        return Row(f"{unit.name}, slice {depth + 1}", np.asarray(image), truth[depth], predicted[depth], ignore)


def _without_background(row: Row) -> Row:
    """Number the classes of a picture from 1: label 0 is drawn as nothing."""
    truth = np.where(row.truth == row.ignore_index, row.ignore_index, row.truth + 1).astype(np.uint8)
    return replace(row, truth=truth, predicted=(row.predicted + 1).astype(np.uint8))


def _fullest(labels: Labels) -> int:
    """Return the slice of [D, H, W] that shows the most: first by number of classes, then by labelled pixels."""
    shown = [(len(np.unique(plane)), int(np.count_nonzero(plane))) for plane in labels]
    return max(range(len(shown)), key=shown.__getitem__)


def _npy(array: NDArray[np.int64] | None) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array if array is not None else np.zeros((0, 0), np.int64))
    return buffer.getvalue()


def _npz(arrays: Mapping[str, Labels]) -> bytes:
    """Write what `np.load` reads; label maps shrink to a hundredth at the fastest level already."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            member_info = zipfile.ZipInfo(f"{name}.npy")
            member_info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member_info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
