"""Labelled volumes as a source of samples: every slice one (2-D), or slabs of consecutive slices (3-D).

CT is clipped to `low`..`high` HU and taken to 0..1; other channels are standardised volume by volume, unless the data
set says that they are not to be. Slices are resized in the plane, never resampled across it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.class_codes import ClassCodes
from tuner.data.memory import FileMemory
from tuner.data.resize import resize_images, resize_labels
from tuner.data.source import IGNORE_INDEX, Image, Label, TestCase
from tuner.data.volume_files import read_channels, read_grid, read_truth
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
        size = self._int("size")
        return (self.channels, size, size) if self.stacked else (self.channels, self._int("depth"), size, size)

    @property
    def stacked(self) -> bool:
        """Slices are put together again to be scored."""
        return self.options["dimensions"] == 2

    @property
    def training(self) -> tuple[str, ...]:
        """Training cases."""
        return tuple(self.found.cases)

    @property
    def test(self) -> tuple[str, ...]:
        """Test cases that have labels."""
        return tuple(self.found.tests)

    def class_names(self, memory: FileMemory) -> tuple[str, ...]:
        """Names of the classes, from the description."""
        return self.found.codes.names

    def count(self, case: str) -> int:
        """Number of slices or slabs, from the head of the label map."""
        depth = read_grid(self._of(case).label).shape[0]
        return depth if self.stacked else -(-depth // self._int("depth"))

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """Images and label maps, named relative to the data set."""
        paths = [path for case in cases for path in self._of(case).paths]
        return [(path.relative_to(self.found.folder).as_posix(), path) for path in paths]

    def recipe(self) -> Mapping[str, Any]:
        """The options, the kinds of the channels, and the version of reading."""
        options = {name: value for name, value in self.options.items() if name != "path"}
        return {**options, "kinds": self.found.kinds, "labels": self.found.codes.labels, "reading": _READING}

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """Slices or slabs from the first up, resized; the last slab is filled up with ignored slices."""
        image, label = self._read(self._of(case))
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
        kinds = self.found.kinds if len(self.found.kinds) == len(image) else self.found.kinds[:1] * len(image)
        for channel, kind in zip(image, kinds, strict=True):
            self._scale(channel, kind)
        try:
            return image, self.found.codes.apply(truth)
        except DataError as error:
            raise DataError(error.message, where=str(recording.label)) from None

    def _scale(self, channel: NDArray[np.float32], kind: str) -> None:
        """Normalise a channel [D, H, W] in place."""
        if kind.lower() == "ct":
            low, high = float(self.options["low"] or 0), float(self.options["high"] or 0)
            if high <= low:
                raise DataError(f"low ({low:g}) is not below high ({high:g}).", where="dataset.low")
            np.clip(channel, low, high, out=channel)
            channel -= low
            channel /= high - low
        elif kind.lower() not in ("nonorm", "rgb_to_0_1"):
            deviation = float(channel.std(dtype=np.float64))
            channel -= np.float32(channel.mean(dtype=np.float64))
            channel /= np.float32(deviation or 1.0)

    def _of(self, case: str) -> Recording:
        return self.found.cases[case] if case in self.found.cases else self.found.tests[case]

    def _int(self, name: str) -> int:
        return int(self.options[name] or 0)
