"""Predictions beside the truth, and samples of the prepared data: pictures and tables from artifacts, bounded."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api.config import Service
from tuner.analysis.predictions import Truth, predicted_cases, render_between, render_case
from tuner.data.arrays import open_validation
from tuner.data.cache import MANIFEST, read_manifest
from tuner.data.catalog import DATASETS, DatasetSpec
from tuner.errors import DataError, NotFoundError, TunerError
from tuner.label_archive import Labels, read_npy_header
from tuner.storage.records import StudyRecord

MAX_LINES = 64 * 2**20
"""Bytes that are read of a text file from its end."""
LONGEST_LINE = 2**20
MAX_CASES_SCORED, MAX_CLASSES_SCORED = 5000, 256
MAX_CONFUSION, MAX_CLASSES = 64 * 1024, 32
MAX_PIXELS = 1024
"""Rows or columns of a picture: of larger slices every second, third … is drawn."""
TAIL = 16_384


class PredictionService:
    """Label maps of one trial's best epoch."""

    def __init__(self, service: Service, record: StudyRecord, number: int) -> None:
        self.service, self.record, self.number = service, record, number

    @cached_property
    def truth(self) -> Truth | None:
        """The truth, where this machine has it."""
        return Truth.find(self.service.config.settings.cache, self.record.spec, self.record.resources)

    def cases(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return name, slices and the slice that shows the most of each case, and what cannot be shown and why."""
        try:
            with predicted_cases(self.service.artifacts, self.record.name, self.number) as predicted:
                found, left_out = predicted.cases()
        except TunerError as error:
            return [], [f"predictions.npz: {error.message}"]
        shown = [{"case": case.name, "slices": case.shape[0], "slice": case.fullest} for case in found]
        return shown, [f"predictions.npz: {words}" for words in left_out]

    def picture(self, case: str, index: int, view: str) -> bytes:
        """Return a PNG of one slice, no larger than a screen shows. Raises NotFoundError."""
        plane, step = self._plane(case, index)
        truth = self._truth_of(case, index, step, plane)
        if truth is None and view != "prediction":
            raise NotFoundError(
                "the prepared data of this study is not on this machine.", hint="Start the service with its --cache."
            )
        grey = np.zeros(plane.shape) if truth is None else truth[0].astype(np.float32)
        background = self.truth is None or self.truth.background
        return render_picture(grey, None if truth is None else truth[1], plane, view, background=background)

    def picture_against(self, first: "PredictionService", case: str, index: int) -> bytes:
        """Return a PNG of one slice: where this differs from the first, and which is right. Raises NotFoundError."""
        plane, step = self._plane(case, index)
        other, _ = first._plane(case, index)
        if other.shape != plane.shape:
            raise NotFoundError(f"the two trials have predicted {case!r} in different sizes.")
        truth = self._truth_of(case, index, step, plane)
        grey = np.zeros(plane.shape) if truth is None else truth[0].astype(np.float32)
        return _as_png(render_between(grey, None if truth is None else truth[1], other, plane))

    def _plane(self, case: str, index: int) -> tuple[Labels, int]:
        with predicted_cases(self.service.artifacts, self.record.name, self.number) as predicted:
            return predicted.read_slice(case, index, most=MAX_PIXELS)

    def _truth_of(self, case: str, index: int, step: int, plane: Labels) -> tuple[NDArray[Any], Labels] | None:
        """Return image and truth of a slice as it is drawn; None where this machine does not have them."""
        found = self.truth.of(case) if self.truth else None
        if found is None:
            return None
        image, labels = (np.asarray(of[index][::step, ::step]) if index < len(of) else None for of in found)
        return None if image is None or labels is None or labels.shape != plane.shape else (image, labels)


def render_picture(
    grey: NDArray[Any], truth: Labels | None, predicted: Labels, view: str, *, background: bool = True
) -> bytes:
    """Draw one slice [H, W] as a PNG."""
    return _as_png(render_case(grey, truth, predicted, view, background=background))


def _as_png(drawn: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def worst_cases(
    service: Service, name: str, number: int, epoch: int | None, objective: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the cases at an epoch, worst first, `{"case", "value", "classes"}`, and what is wrong with the file."""
    metric = objective["metric"]
    found: dict[str, dict[str, Any]] = {}
    try:
        with service.artifacts.open(name, number, "cases.jsonl") as handle:
            for line in _lines(handle):
                if (epoch is None or line.get("epoch") == epoch) and len(found) < MAX_CASES_SCORED:
                    metrics = line.get("metrics")
                    own = metrics.get(metric) if isinstance(metrics, dict) else None
                    classes = _numbers(own if isinstance(own, dict) else {})
                    counted = [v for v in classes.values() if v is not None]
                    value = sum(counted) / len(counted) if counted else None
                    case = str(line.get("case"))[:200]
                    found[case] = {"case": case, "value": value, "classes": classes}
    except (TunerError, ValueError, OSError) as error:
        return [], f"cases.jsonl: {error}"
    sign = 1 if objective["direction"] == "maximize" else -1
    return sorted(found.values(), key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0))), None


def confusion(service: Service, name: str, number: int) -> tuple[dict[str, Any] | None, str | None]:
    """Return the confusion between classes as shares of the truth's rows, and why there is none to show."""
    try:
        with service.artifacts.open(name, number, "confusion.npy") as handle:
            content = handle.read(MAX_CONFUSION)
        shape, dtype, start = read_npy_header(content)
        if len(shape) != 2 or shape[0] != shape[1] or dtype.kind not in "iuf":
            raise ValueError(f"no square table of counts: {dtype} of shape {str(shape)[:80]}")
        if not 1 < shape[0] <= MAX_CLASSES:
            return None, f"confusion.npy: {shape[0]} classes; the page shows 2 to {MAX_CLASSES}."
        matrix = np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape).astype(np.float64)
    except (TunerError, ValueError, OSError) as error:
        return None, f"confusion.npy: {error}"
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        return None, "confusion.npy: counts that are negative or not finite."
    sums = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.zeros(matrix.shape), where=sums > 0)
    counts = [[int(count) for count in row] for row in matrix]
    return {"shares": shares.tolist(), "counts": counts, "classes": _class_names(service, name, len(matrix))}, None


def tail(service: Service, name: str, number: int) -> str:
    """Return the end of a trial's log, or what is wrong with the file."""
    try:
        with service.artifacts.open(name, number, "log.txt") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - TAIL))
            text = handle.read(TAIL).decode("utf-8", "replace")
    except (TunerError, OSError) as error:
        return f"log.txt: {error}"
    return text if size <= TAIL else text.partition("\n")[2]


def _class_names(service: Service, name: str, count: int) -> list[str]:
    from tuner.data.catalog import DATASETS

    dataset = service.store.studies.get(name).spec.get("dataset")
    known = dataset.get("name") if isinstance(dataset, Mapping) else None
    names = list(DATASETS[known].class_names) if isinstance(known, str) and known in DATASETS else []
    return names if len(names) == count else [f"class {index}" for index in range(count)]


def _lines(handle: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the mappings in the last `MAX_LINES` bytes of a JSON-lines file; one line is held at a time."""
    size = handle.seek(0, 2)
    handle.seek(max(0, size - MAX_LINES))
    while line := handle.readline(LONGEST_LINE):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(item, dict):
            yield item


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what is a finite number of a mapping, None for the rest."""
    found: dict[str, float | None] = {}
    for key, value in list(values.items())[:MAX_CLASSES_SCORED]:
        usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
        found[str(key)[:200]] = float(value) if usable else None
    return found


CLASSES_BY_FILES = "The files decide which classes there are; what was prepared on this machine names its own."
SAMPLES = 6
MAX_FOLDERS = 6
_FOLDER = re.compile(r"([a-z0-9_]+)-([0-9a-f]{16})")


def dataset_view(service: Service, entry: DatasetSpec) -> list[dict[str, Any]]:
    """Return what was prepared of a data set, the newest first: fingerprint, sizes, frequencies, samples."""
    cache = service.config.settings.cache
    found = []
    folders = sorted(cache.glob(f"{entry.name}-*/{MANIFEST}"), key=lambda path: -path.stat().st_mtime)
    for path in folders[:MAX_FOLDERS]:
        match = _FOLDER.fullmatch(path.parent.name)
        if match is None or match[1] != entry.name:
            continue
        try:
            manifest = json.loads(path.read_bytes())
            _, labels = open_validation(path.parent, manifest)
            frequencies = [float(share) for share in manifest["class_frequencies"]]
            samples = {str(case): int(count) for case, count in manifest["samples"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError):
            continue
        step = max(1, len(labels) // SAMPLES)
        found.append(
            {
                "folder": path.parent.name,
                "fingerprint": match[2],
                "cases": len(samples),
                "samples": sum(samples.values()),
                "validation": len(labels),
                "size": list(labels[0].shape) if len(labels) else [],
                "frequencies": list(zip(manifest.get("class_names") or entry.class_names, frequencies, strict=False)),
                "shown": [min(len(labels) - 1, step * i + step // 2) for i in range(min(SAMPLES, len(labels)))],
            }
        )
    return found


def sample_picture(service: Service, folder: str, index: int) -> bytes:
    """Return one validation sample with its labels as PNG. Raises NotFoundError."""
    match = _FOLDER.fullmatch(folder)
    missing = NotFoundError(f"there is no prepared sample {index} in {folder!r}.")
    if match is None or match[1] not in DATASETS:
        raise missing
    path: Path = service.config.settings.cache / folder
    manifest = read_manifest(path)
    if manifest is None:
        raise missing
    images, labels = open_validation(path, manifest)
    if not 0 <= index < len(labels):
        raise missing
    image, label = np.asarray(images[index][0]), np.asarray(labels[index])
    if label.ndim == 3:
        middle = len(label) // 2
        image, label = image[middle], label[middle]
    return render_picture(image, label, label, "truth", background=DATASETS[match[1]].background)
