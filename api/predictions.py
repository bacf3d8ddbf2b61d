"""What trials predicted, beside the truth: read from artifacts and prepared data, bounded, and never unpickled.

Label maps are uint8, [H, W] or [D, H, W]; 255 is ignored.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api.service import Service
from tuner.data.cache import read_manifest
from tuner.errors import NotFoundError, TunerError
from tuner.store.records import StudyRecord

MOST_CASES = 16
MOST_BYTES = 256 * 2**20
"""Bytes that a label map may unpack to."""
MOST_LINES = 64 * 2**20
"""Bytes that are read of a text file from its end."""
TAIL = 16_384

Labels = NDArray[np.uint8]

CLASS_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255), (136, 34, 85), (153, 153, 51), (136, 204, 238), (17, 119, 51), (204, 102, 119), (51, 34, 136),
)  # fmt: skip
MISSED, EXTRA, CONFUSED = (86, 180, 233), (230, 159, 0), (204, 121, 167)
VIEWS = ("image", "truth", "prediction", "difference")


class Truth:
    """Images and labels of the validation cases, mapped from the prepared data of this machine."""

    def __init__(self, images: NDArray[Any], labels: Labels, places: Mapping[str, slice], classes: list[str]) -> None:
        self.images, self.labels, self.places, self.classes = images, labels, places, classes

    @classmethod
    def find(cls, service: Service, record: StudyRecord) -> "Truth | None":
        """Return the truth of a study; None where its data was not prepared on this machine."""
        from tuner.data.catalogue import DATASETS

        fingerprint, dataset = record.resources.get("fingerprint"), record.spec.get("dataset")
        name = dataset.get("name") if isinstance(dataset, Mapping) else None
        if not isinstance(fingerprint, str) or not fingerprint.isalnum():
            return None
        if not isinstance(name, str) or name not in DATASETS:
            return None
        folder = service.config.settings.cache / f"{name}-{fingerprint[:16]}"
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        images = np.load(folder / "validation-images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "validation-labels.npy", mmap_mode="r", allow_pickle=False)
        names = manifest.get("class_names") or DATASETS[name].class_names
        return cls(images, labels, _places(manifest["samples"], len(labels)), list(names))

    def of(self, case: str) -> tuple[NDArray[Any], Labels] | None:
        """Return image and labels of a case, both [D, H, W]; None for a case that is not there."""
        place = self.places.get(case)
        if place is None:
            return None
        images, labels = self.images[place], self.labels[place]
        if labels.ndim == 4:
            return images[0, 0], labels[0]
        return images[:, 0], labels


class Predictions:
    """Label maps of one trial's best epoch."""

    def __init__(self, service: Service, record: StudyRecord, number: int) -> None:
        self.service, self.record, self.number = service, record, number

    @cached_property
    def truth(self) -> Truth | None:
        """The truth, where this machine has it."""
        return Truth.find(self.service, self.record)

    def cases(self) -> list[dict[str, Any]]:
        """Return name, slices and the slice that shows the most of each case."""
        found = []
        try:
            with self._archive() as archive:
                members = [m for m in archive.infolist() if m.filename.endswith(".npy")][:MOST_CASES]
                for member in members:
                    labels = _read_member(archive, member)
                    planes = labels if labels.ndim == 3 else labels[None]
                    filled = [int(np.count_nonzero(plane)) for plane in planes]
                    case = member.filename.removesuffix(".npy")
                    found.append({"case": case, "slices": len(planes), "slice": int(np.argmax(filled))})
        except TunerError:
            return []
        return found

    def picture(self, case: str, index: int, view: str) -> bytes:
        """Return a PNG of one slice. Raises NotFoundError."""
        with self._archive() as archive:
            member = next((m for m in archive.infolist() if m.filename == f"{case}.npy"), None)
            if member is None:
                raise NotFoundError(f"trial {self.number} has no prediction of {case!r}.")
            labels = _read_member(archive, member)
        planes = labels if labels.ndim == 3 else labels[None]
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
        return drawn(grey, None if truth is None else np.asarray(truth[1][index]), planes[index], view)

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        with self.service.artifacts.open(self.record.name, self.number, "predictions.npz") as handle:
            try:
                archive = zipfile.ZipFile(handle)
            except (zipfile.BadZipFile, OSError) as error:
                raise NotFoundError(f"the predictions of trial {self.number} cannot be read: {error}.") from error
            with archive:
                yield archive


def drawn(grey: NDArray[Any], truth: Labels | None, predicted: Labels, view: str) -> bytes:
    """Draw one slice [H, W]: grey image below, classes or kinds of difference above, borders strong."""
    low, high = (float(grey.min()), float(grey.max())) if grey.size else (0.0, 1.0)
    base = np.repeat((255 * (grey - low) / (high - low) if high > low else 0 * grey)[..., None], 3, -1)
    if view == "difference" and truth is not None:
        valid = truth != 255
        for mask, colour in (
            (valid & (truth > 0) & (predicted == 0), MISSED),
            (valid & (truth == 0) & (predicted > 0), EXTRA),
            (valid & (truth > 0) & (predicted > 0) & (truth != predicted), CONFUSED),
        ):
            base[mask] = 0.15 * base[mask] + 0.85 * np.array(colour)
        base[_border(np.where(valid, truth, 0))] = (255, 255, 255)
    elif view in ("truth", "prediction"):
        labels = predicted if view == "prediction" or truth is None else np.where(truth == 255, 0, truth)
        palette = np.array([CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(256)], np.float32)
        inside = labels > 0
        base[inside] = 0.35 * base[inside] + 0.65 * palette[labels[inside].astype(int) - 1]
    buffer = BytesIO()
    Image.fromarray(base.clip(0, 255).astype(np.uint8)).save(buffer, "PNG", compress_level=3)
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
    from tuner.data.catalogue import DATASETS

    dataset = service.store.study(name).spec.get("dataset")
    known = dataset.get("name") if isinstance(dataset, Mapping) else None
    names = list(DATASETS[known].class_names) if isinstance(known, str) and known in DATASETS else []
    return names if len(names) == count else [f"class {index}" for index in range(count)]


def _last_lines(service: Service, name: str, number: int, file: str) -> list[dict[str, Any]]:
    with service.artifacts.open(name, number, file) as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - MOST_LINES))
        lines = handle.read(MOST_LINES).split(b"\n")
    found = []
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, dict):
            found.append(item)
    return found


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Labels:
    if member.file_size > MOST_BYTES:
        raise NotFoundError(f"{member.filename!r} is too large to be shown.")
    try:
        with archive.open(member) as handle:
            labels = np.lib.format.read_array(handle, allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise NotFoundError(f"{member.filename!r} cannot be read: {error}.") from error
    if labels.ndim not in (2, 3) or labels.dtype != np.uint8 or not labels.size:
        raise NotFoundError(f"{member.filename!r} is no label map.")
    return labels


def _places(samples: Mapping[str, int], count: int) -> dict[str, slice]:
    """Return where each validation case lies: they are the last cases of the manifest, as many as fill the array."""
    places: dict[str, slice] = {}
    end = count
    for case, size in reversed(list(samples.items())):
        if end <= 0:
            break
        places[case] = slice(end - size, end)
        end -= size
    return places


def _border(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the pixels inside an object that touch another label."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        step = np.diff(labels, axis=axis) != 0
        ahead = [slice(None)] * 2
        ahead[axis] = slice(1, None)
        edge[tuple(ahead)] |= step
        behind = [slice(None)] * 2
        behind[axis] = slice(None, -1)
        edge[tuple(behind)] |= step
    return edge & (labels > 0)
