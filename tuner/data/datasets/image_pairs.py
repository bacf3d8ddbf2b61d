"""Pairs of an image and a mask as a source of samples; training goes by group, test images stand alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.images import SUFFIXES, read_codes, read_image, size_of
from tuner.data.label_map import ClassCodes
from tuner.data.memory import FileMemory
from tuner.data.resize import resize_images, resize_labels
from tuner.data.source import Image, Label, TestCase
from tuner.errors import DataError

_READING = 1
"""Raised when the same files would give other numbers."""

VALUES = "mask values 1"
"""The topic under which the codes of a mask are remembered."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, its mask, and the group (patient, recording) that both belong to."""

    name: str
    group: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Pairs:
    """Training pairs by group and test pairs one by one; what a mask's codes mean is asked when it is needed."""

    folder: Path
    size: tuple[int, int]
    channels: int
    groups: Mapping[str, tuple[Pair, ...]]
    tests: Mapping[str, Pair]
    options: Mapping[str, Any]
    """Whatever of the options decides what the samples are."""
    decide: Callable[[Sequence[Pair], FileMemory], ClassCodes]
    """Returns the meaning of the codes, given all pairs."""
    background: bool
    uneven: bool = False
    """Whether images keep their sizes."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[C, height, width]."""
        return (self.channels, 0, 0) if self.uneven else (self.channels, *self.size)

    @property
    def stacked(self) -> bool:
        """Images of a group are scored one by one."""
        return False

    @property
    def training(self) -> tuple[str, ...]:
        """Groups that train."""
        return tuple(self.groups)

    @property
    def test(self) -> tuple[str, ...]:
        """Test images."""
        return tuple(self.tests)

    def class_names(self, memory: FileMemory) -> tuple[str, ...]:
        """Names of the classes."""
        return self._codes(memory).names

    def count(self, case: str) -> int:
        """Number of images."""
        return len(self._of(case))

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """Images and masks, named relative to the data set."""
        paths = [path for case in cases for pair in self._of(case) for path in (pair.image, pair.mask)]
        return [(path.relative_to(self.folder).as_posix(), path) for path in paths]

    def recipe(self) -> Mapping[str, Any]:
        """The options, and the version of reading and resizing."""
        return {**self.options, "reading": _READING}

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """The images of a case, resized: [C, *size] and [*size]."""
        for pair in self._of(case):
            image, label = self._read(pair)
            if self.uneven:
                yield image, label
                continue
            yield resize_images(image, self.size), resize_labels(label, self.size)

    def spaces(self, case: str) -> list[tuple[int, ...]]:
        """[H, W] of every image, from the heads of the masks."""
        return [size_of(pair.mask) for pair in self._of(case)]

    def reading(self, memory: FileMemory) -> Mapping[str, Any]:
        """Channels, and the code of each class in a mask."""
        return {"form": "pictures", "channels": self.channels, "labels": self._codes(memory).of_classes()}

    def original(self, case: str) -> TestCase:
        """A test image as it is; pictures state no spacing."""
        image, label = self._read(self.tests[case])
        return TestCase(case, image, label, None)

    def _of(self, case: str) -> tuple[Pair, ...]:
        return self.groups[case] if case in self.groups else (self.tests[case],)

    def _read(self, pair: Pair) -> tuple[Image, Label]:
        image, codes = read_image(pair.image, self.channels), read_codes(pair.mask)
        if image.shape[1:] != codes.shape:
            raise DataError(f"the image is {image.shape[1:]}, its mask {codes.shape}.", where=str(pair.image))
        try:
            return image, self._codes(FileMemory(None)).apply(codes)
        except DataError as error:
            raise DataError(error.message, hint=error.hint, where=error.where or str(pair.mask)) from None

    def _codes(self, memory: FileMemory) -> ClassCodes:
        # Read once: a scan of all masks may take minutes.
        known: ClassCodes | None = self.__dict__.get("_known")
        if known is None:
            pairs = [pair for group in self.groups.values() for pair in group] + list(self.tests.values())
            known = self.__dict__["_known"] = self.decide(pairs, memory)
        return known


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a data set's options that decide what its samples are."""
    passed_over = {"path", "resize"} if options["resize"] else {"path", "size", "width"}
    return {name: value for name, value in options.items() if name not in passed_over}


def mask_values(mask: Path, memory: FileMemory) -> list[int]:
    """Return the codes that a mask holds, from the memory where the file is unchanged; raises DataError."""
    known = memory.recall(mask, VALUES) if mask.is_file() else None
    if known is None:
        known = np.unique(read_codes(mask)).tolist()[: 1 << 8]
        memory.remember(mask, VALUES, known)
    return [int(value) for value in known]


def pictures_below(folder: Path) -> Iterable[Path]:
    """Every picture below a folder, hidden ones aside, in order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path
