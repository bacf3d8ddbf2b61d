"""Labelled volumes as slices or slabs, and their checks.

Labelled volumes as a source of samples: every slice one (2-D), or slabs of consecutive slices (3-D).

CT is clipped to `low`..`high` HU and taken to 0..1; other channels are standardised volume by volume, unless the data
set says that they are not to be. Slices are resized in the plane, never resampled across it; with `resize: false` they
keep their sizes, and in 3-D every case is one volume as it is.

Finding every defect of a volume set: unreadable files, grids that disagree, foreign labels, shared images.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.cache import FileHashCache
from tuner.data.checks import lacking
from tuner.data.images import resize_images, resize_labels
from tuner.data.label_map import ClassCodes, listed
from tuner.data.source import IGNORE_INDEX, Image, Label, TestCase
from tuner.data.splits import group_of
from tuner.data.volumes import Grid, read_channels, read_grid, read_truth
from tuner.errors import DataError
from tuner.registry import Scalar

_READING = 1
"""Raised when the same files would give other numbers."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A case: its image, one file or one a channel, and its label map."""

    name: str
    images: tuple[Path, ...]
    label: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.images, self.label)


@dataclass(frozen=True)
class VolumeSet:
    """What a description names: cases, channels, classes."""

    folder: Path
    cases: Mapping[str, Recording]
    tests: Mapping[str, Recording]
    kinds: tuple[str, ...]
    """What each channel is: `CT`, `MRI`, `rgb_to_0_1`, `noNorm`, …"""
    codes: ClassCodes
    lost: str = ""
    """What the description says of cases of which there is no trace; empty where it agrees with what is there."""


@dataclass(frozen=True)
class Volumes:
    """A volume set under the options of a study."""

    found: VolumeSet
    options: Mapping[str, Scalar]
    background: bool = True

    @cached_property
    def channels(self) -> int:
        """Number of channels: a picture in colour may have three in one file."""
        first = next(iter(self.found.cases.values()))
        return sum(read_grid(path).channels for path in first.images)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[C, size, size], or [C, depth, size, size]."""
        if self.uneven:
            return (self.channels, 0, 0) if self.stacked else (self.channels, 0, 0, 0)
        size = self._int("size")
        return (self.channels, size, size) if self.stacked else (self.channels, self._int("depth"), size, size)

    @property
    def stacked(self) -> bool:
        """Slices are put together again to be scored."""
        return self.options["dimensions"] == 2

    @property
    def uneven(self) -> bool:
        """Every volume keeps its size."""
        return self.options["resize"] is False

    @property
    def training(self) -> tuple[str, ...]:
        """Training cases."""
        return tuple(self.found.cases)

    @property
    def test(self) -> tuple[str, ...]:
        """Test cases that have labels."""
        return tuple(self.found.tests)

    def class_names(self, memory: FileHashCache) -> tuple[str, ...]:
        """Names of the classes, from the description."""
        return self.found.codes.names

    def count(self, case: str) -> int:
        """Number of slices or slabs, from the head of the label map."""
        depth = read_grid(self._of(case).label).shape[0]
        if self.stacked:
            return depth
        return 1 if self.uneven else -(-depth // self._int("depth"))

    def spaces(self, case: str) -> list[tuple[int, ...]]:
        """[H, W] of each slice, or [D, H, W] of the one volume, from the head of the label map."""
        shape = read_grid(self._of(case).label).shape
        return [shape[1:]] * shape[0] if self.stacked else [shape]

    def spacing(self, case: str) -> tuple[float, ...] | None:
        """Size of a voxel [slices, H, W] after resizing, in mm; None for pictures."""
        grid = read_grid(self._of(case).label)
        if grid.spacing is None or self.uneven:
            return grid.spacing
        size, (depth, height, width) = self._int("size"), grid.spacing
        return (depth, height * grid.shape[1] / size, width * grid.shape[2] / size)

    def group(self, case: str) -> str:
        """The patient that `dataset.group` finds in the name of a case; without a pattern the case itself."""
        found = self._group_of(case)
        if found is None:
            pattern = self.options["group"]
            raise DataError(f"the case {case!r} does not fit the pattern {pattern!r}.", where="dataset.group")
        return found

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
        """Channels and their kinds, the window, and the label of each class."""
        first = next(iter(self.found.cases.values()))
        return {
            "form": "volumes",
            "channels": self.channels,
            "files": len(first.images),
            "kinds": list(self.found.kinds),
            "low": self.options["low"],
            "high": self.options["high"],
            "labels": self.found.codes.of_classes(),
        }

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """Images and label maps, named relative to the data set."""
        paths = [path for case in cases for path in self._of(case).paths]
        return [(path.relative_to(self.found.folder).as_posix(), path) for path in paths]

    def recipe(self) -> Mapping[str, Any]:
        """The options, the kinds of the channels, and the version of reading."""
        passed_over = {"path", "group"} | ({"resize"} if not self.uneven else {"resize", "size", "depth"})
        options = {name: value for name, value in self.options.items() if name not in passed_over}
        kept = {"resize": False} if self.uneven else {}
        return {**options, **kept, "kinds": self.found.kinds, "labels": self.found.codes.labels, "reading": _READING}

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """Slices or slabs from the first up, resized; the last slab is filled up with ignored slices."""
        image, label = self._read(self._of(case))
        if self.uneven:
            yield from zip(np.moveaxis(image, 0, 1), label, strict=True) if self.stacked else [(image, label)]
            return
        size = (self._int("size"), self._int("size"))
        step = 1 if self.stacked else self._int("depth")
        for start in range(0, len(label), step):
            part = resize_images(image[:, start : start + step], size)
            truth = resize_labels(label[start : start + step], size)
            if self.stacked:
                yield part[:, 0], truth[0]
            else:
                missing = ((0, step - len(truth)), (0, 0), (0, 0))
                yield (
                    np.pad(part, ((0, 0), *missing), mode="edge"),
                    np.pad(truth, missing, constant_values=IGNORE_INDEX),
                )

    def original(self, case: str) -> TestCase:
        """A test volume as it is, with its spacing."""
        recording = self.found.tests[case]
        image, label = self._read(recording)
        if self.stacked:
            image = np.moveaxis(image, 0, 1) if len(image) > 1 else image[0]
        return TestCase(case, image, label, read_grid(recording.label).spacing)

    def _read(self, recording: Recording) -> tuple[Image, Label]:
        """[C, D, H, W] and [D, H, W]."""
        planes = [read_channels(path) for path in recording.images]
        truth = read_truth(recording.label)
        shapes = {plane.shape[1:] for plane in planes} | {truth.shape}
        if len(shapes) > 1:
            raise DataError(
                f"images and labels of {recording.name} differ in shape: {', '.join(map(str, sorted(shapes)))}.",
                where=str(recording.label),
            )
        image = np.concatenate(planes)
        if len(image) != self.channels:
            raise DataError(f"{len(image)} channels, the first case has {self.channels}.", where=str(recording.label))
        normalise(image, self.found.kinds, low=float(self.options["low"] or 0), high=float(self.options["high"] or 0))
        try:
            return image, self.found.codes.apply(truth)
        except DataError as error:
            raise DataError(error.message, where=str(recording.label)) from None

    @cached_property
    def _group_of(self) -> Callable[[str], str | None]:
        return group_of(str(self.options["group"] or ""))

    def _of(self, case: str) -> Recording:
        return self.found.cases[case] if case in self.found.cases else self.found.tests[case]

    def _int(self, name: str) -> int:
        return int(self.options[name] or 0)


def normalise(image: Image, kinds: Sequence[str], *, low: float, high: float) -> None:
    """Normalise the channels of a volume [C, D, H, W] in place.

    Args:
        image: Values as in the files.
        kinds: What each channel is (nnU-Net's `channel_names`, the Decathlon's `modality`); the first one holds for all
            where there is another number of them.
        low: Lower end of the window that CT is clipped to, in HU.
        high: Its upper end.

    Raises:
        DataError: The window is upside down.
    """
    named = list(kinds) if len(kinds) == len(image) else [kinds[0]] * len(image)
    for channel, kind in zip(image, named, strict=True):
        if kind.lower() == "ct":
            if high <= low:
                raise DataError(f"low ({low:g}) is not below high ({high:g}).", where="dataset.low")
            np.clip(channel, low, high, out=channel)
            channel -= low
            channel /= high - low
        elif kind.lower() not in ("nonorm", "rgb_to_0_1"):
            deviation = float(channel.std(dtype=np.float64))
            channel -= np.float32(channel.mean(dtype=np.float64))
            channel /= np.float32(deviation or 1.0)


_IMAGE, _TRUTH = "volume check 2", "label map check 2"

Seen = dict[str, tuple[str, Path]]
"""Digest of a slice -> the case that had it first, and its file."""


def check_volumes(found: VolumeSet, memory: FileHashCache, *, channels: int | None = None) -> list[str]:
    """Open every file of every case and return the defects, a line each; saves what was good in `memory`.

    Args:
        found: The cases.
        memory: What is known of unchanged files.
        channels: How many every case must have; None: as many as the first one that can be read.
    """
    defects: list[str] = []
    seen: Seen = {}
    present: dict[str, set[int | None]] = {}
    for half, cases in (("training", found.cases), ("test", found.tests)):
        held: set[int] = set()
        for recording in cases.values():
            looks = [_finding(path, path == recording.label, memory) for path in recording.paths]
            defects += [str(look["defect"]) for look in looks if "defect" in look]
            defects += _compare(recording, looks)
            count = sum(look.get("channels", 0) for look in looks[:-1])
            if not any("defect" in look for look in looks[:-1]):
                channels = channels or count
                defects += _count_channels(recording, count, channels)
            values = looks[-1].get("values", [])
            foreign = found.codes.foreign(values)
            if foreign:
                defects.append(
                    f"{recording.label}: holds {listed(foreign)}, which no class has ({found.codes.legal()}): "
                    "store the numbers that the data set's description names, or name these there"
                )
            defects += _shared(recording, looks[0], seen)
            held.update(values)
        present[half] = {found.codes.labels.get(value) for value in held}
    memory.save()
    what = {half: f"{half} case" for half in present}
    return defects + list(lacking(found.codes.names, present, what, anywhere=True))


def _finding(path: Path, is_label: bool, memory: FileHashCache) -> dict[str, Any]:
    topic = _TRUTH if is_label else _IMAGE
    try:
        known = memory.get(path, topic) if path.is_file() else None
        if known is not None:
            return dict(known)
        finding = _grid_facts(read_grid(path), path)
        if is_label:
            finding["values"] = np.unique(read_truth(path)).tolist()[: 1 << 8]
        else:
            finding["digests"] = _digests(path)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.put(path, topic, finding)
    return finding


def _digests(path: Path) -> list[str]:
    """Hash of every slice; empty for one of a single value (air), which any two cases may share."""
    image = read_channels(path)
    if image.min() == image.max() and image.shape[1] > 1:
        raise DataError(f"every voxel is {image.flat[0]:g}: the volume is empty.", where=str(path))
    slices = [np.ascontiguousarray(image[:, place], "<f4") for place in range(image.shape[1])]
    return ["" if one.min() == one.max() else hashlib.sha256(one.data).hexdigest()[:24] for one in slices]


def _grid_facts(grid: Grid, path: Path) -> dict[str, Any]:
    numbers = [*(grid.spacing or ()), *(grid.affine or ())]
    if not all(map(math.isfinite, numbers)) or not all(extent > 0 for extent in grid.spacing or ()):
        shown = ", ".join(f"{extent:g}" for extent in grid.spacing or ())
        raise DataError(f"the spacing ({shown}) or the affine of its head is no size of a voxel.", where=str(path))
    return {
        "shape": list(grid.shape),
        "channels": grid.channels,
        "spacing": None if grid.spacing is None else list(grid.spacing),
        "affine": None if grid.affine is None else list(grid.affine),
    }


def _count_channels(recording: Recording, count: int, expected: int) -> Iterator[str]:
    if count != expected:
        yield f"{recording.images[0]}: {count} channel{'s' * (count != 1)}, and {expected} in the other cases"


def _compare(recording: Recording, looks: list[dict[str, Any]]) -> Iterator[str]:
    """Every file of a case must lie on the grid of its first image."""
    first = looks[0]
    if "defect" in first:
        return
    for path, look in zip(recording.paths[1:], looks[1:], strict=True):
        if "defect" in look:
            continue
        if look["shape"] != first["shape"]:
            yield f"{path}: shape {look['shape']}, and {recording.images[0].name} {first['shape']}"
            continue
        for what in ("spacing", "affine"):
            here, there = look[what], first[what]
            if here is not None and there is not None and not np.allclose(here, there, rtol=1e-3, atol=1e-3):
                yield f"{path}: its {what} is not that of {recording.images[0].name}"
                break


def _shared(recording: Recording, look: dict[str, Any], seen: Seen) -> Iterator[str]:
    """Slices that another case has too: a validation or test by case would know its answers."""
    digests = [digest for digest in look.get("digests", ()) if digest]
    others: dict[str, tuple[Path, int]] = {}
    for digest in digests:
        other, path = seen.setdefault(digest, (recording.name, recording.images[0]))
        if other != recording.name:
            others[other] = (path, others.get(other, (path, 0))[1] + 1)
    for path, count in others.values():
        what = "the same image as" if count == len(digests) else f"{count} of its {len(digests)} slices are also in"
        yield f"{recording.images[0]}: {what} {path}: cases must not share images"
