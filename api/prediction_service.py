"""Predictions, samples.

What trials predicted, beside the truth, as pictures and tables: read from artifacts, bounded, never unpickled.

What the prepared data on this machine looks like: class frequencies and a few samples with their labels.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api.config import Service
from tuner.analysis.predictions import Labels, Truth, predicted_cases, render_case
from tuner.data.arrays import open_validation
from tuner.data.cache import MANIFEST, read_manifest
from tuner.data.catalog import DATASETS, DatasetEntry
from tuner.errors import DataError, NotFoundError, TunerError
from tuner.storage.records import StudyRecord

MAX_LINES = 64 * 2**20
"""Bytes that are read of a text file from its end."""
TAIL = 16_384


class PredictionService:
    """Label maps of one trial's best epoch."""

    def __init__(self, service: Service, record: StudyRecord, number: int) -> None:
        self.service, self.record, self.number = service, record, number

    @cached_property
    def truth(self) -> Truth | None:
        """The truth, where this machine has it."""
        return Truth.find(self.service.config.settings.cache, self.record.spec, self.record.resources)

    def cases(self) -> list[dict[str, Any]]:
        """Return name, slices and the slice that shows the most of each case."""
        found = []
        try:
            with predicted_cases(self.service.artifacts, self.record.name, self.number) as predicted:
                for case in predicted.names:
                    planes = predicted.read(case)
                    filled = [int(np.count_nonzero(plane)) for plane in planes]
                    found.append({"case": case, "slices": len(planes), "slice": int(np.argmax(filled))})
        except TunerError:
            return []
        return found

    def picture(self, case: str, index: int, view: str) -> bytes:
        """Return a PNG of one slice. Raises NotFoundError."""
        with predicted_cases(self.service.artifacts, self.record.name, self.number) as predicted:
            planes = predicted.read(case)
        if not 0 <= index < len(planes):
            raise NotFoundError(f"{case!r} has the slices 0 to {len(planes) - 1}, not {index}.")
        truth = self.truth.of(case) if self.truth else None
        if truth is not None and truth[1].shape != planes.shape:
            truth = None
        if truth is None and view != "prediction":
            raise NotFoundError(
                "the prepared data of this study is not on this machine.", hint="Start the service with its --cache."
            )
        grey = np.zeros(planes.shape[1:]) if truth is None else np.asarray(truth[0][index], np.float32)
        background = self.truth is None or self.truth.background
        labels = None if truth is None else np.asarray(truth[1][index])
        return render_picture(grey, labels, planes[index], view, background=background)


def render_picture(
    grey: NDArray[Any], truth: Labels | None, predicted: Labels, view: str, *, background: bool = True
) -> bytes:
    """Draw one slice [H, W] as a PNG."""
    buffer = BytesIO()
    Image.fromarray(render_case(grey, truth, predicted, view, background=background)).save(
        buffer, "PNG", compress_level=3
    )
    return buffer.getvalue()


def worst_cases(
    service: Service, name: str, number: int, epoch: int | None, objective: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the cases at an epoch, worst first: `{"case", "value", "classes"}`."""
    metric, found = objective["metric"], {}
    for line in _last_lines(service, name, number, "cases.jsonl"):
        if epoch is None or line.get("epoch") == epoch:
            classes = (line.get("metrics") or {}).get(metric) or {}
            counted = [v for v in classes.values() if isinstance(v, (int, float))]
            value = sum(counted) / len(counted) if counted else None
            found[str(line.get("case"))] = {"case": str(line.get("case")), "value": value, "classes": classes}
    sign = 1 if objective["direction"] == "maximize" else -1
    return sorted(found.values(), key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0)))


def confusion(service: Service, name: str, number: int) -> dict[str, Any] | None:
    """Return the confusion between classes as shares of the truth's rows, at most 32 classes; None when unreadable."""
    try:
        with service.artifacts.open(name, number, "confusion.npy") as handle:
            content = handle.read(4 * 2**20)
        matrix = np.load(BytesIO(content), allow_pickle=False)
    except (TunerError, ValueError, OSError, EOFError):
        return None
    if matrix.ndim != 2 or not 1 < len(matrix) <= 32 or matrix.shape[0] != matrix.shape[1]:
        return None
    sums = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.zeros(matrix.shape), where=sums > 0)
    return {"shares": shares.tolist(), "counts": matrix.tolist(), "classes": _class_names(service, name, len(matrix))}


def tail(service: Service, name: str, number: int) -> str:
    """Return the end of a trial's log."""
    with service.artifacts.open(name, number, "log.txt") as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - TAIL))
        text = handle.read(TAIL).decode("utf-8", "replace")
    return text if size <= TAIL else text.partition("\n")[2]


def _class_names(service: Service, name: str, count: int) -> list[str]:
    from tuner.data.catalog import DATASETS

    dataset = service.store.studies.get(name).spec.get("dataset")
    known = dataset.get("name") if isinstance(dataset, Mapping) else None
    names = list(DATASETS[known].class_names) if isinstance(known, str) and known in DATASETS else []
    return names if len(names) == count else [f"class {index}" for index in range(count)]


def _last_lines(service: Service, name: str, number: int, file: str) -> list[dict[str, Any]]:
    with service.artifacts.open(name, number, file) as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - MAX_LINES))
        lines = handle.read(MAX_LINES).split(b"\n")
    found = []
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, dict):
            found.append(item)
    return found


CLASSES_BY_FILES = "The files decide which classes there are; what was prepared on this machine names its own."
SAMPLES = 6
MAX_FOLDERS = 6
_FOLDER = re.compile(r"([a-z0-9_]+)-([0-9a-f]{16})")


def dataset_view(service: Service, entry: DatasetEntry) -> list[dict[str, Any]]:
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
