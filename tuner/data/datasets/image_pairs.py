"""Pairs of image and mask as samples, and their checks.

Pairs of an image and a mask as a source of samples; training goes by group, test images stand alone.

Finding every defect of pairs of image and mask: unreadable files, sizes, codes, lacking classes, shared images.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.cache import FileHashCache
from tuner.data.checks import lacking
from tuner.data.images import SUFFIXES, read_codes, read_image, resize_images, resize_labels, size_of
from tuner.data.label_map import ClassCodes, listed
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
    decide: Callable[[Sequence[Pair], FileHashCache], ClassCodes]
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

    def class_names(self, memory: FileHashCache) -> tuple[str, ...]:
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

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
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
            return image, self._codes(FileHashCache(None)).apply(codes)
        except DataError as error:
            raise DataError(error.message, hint=error.hint, where=error.where or str(pair.mask)) from None

    def _codes(self, memory: FileHashCache) -> ClassCodes:
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


def mask_values(mask: Path, memory: FileHashCache) -> list[int]:
    """Return the codes that a mask holds, from the memory where the file is unchanged; raises DataError."""
    known = memory.get(mask, VALUES) if mask.is_file() else None
    if known is None:
        known = np.unique(read_codes(mask)).tolist()[: 1 << 8]
        memory.put(mask, VALUES, known)
    return [int(value) for value in known]


def images_below(folder: Path) -> Iterable[Path]:
    """Every picture below a folder, hidden ones aside, in order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


_IMAGE, _MASK = "picture check 1", "mask check 1"


def check_pairs(
    training: Sequence[Pair],
    tests: Sequence[Pair],
    codes: ClassCodes | None,
    memory: FileHashCache,
    *,
    grey_only: bool = False,
    every_class: bool = True,
) -> list[str]:
    """Open every image and mask, and return the defects, a line each.

    Args:
        training: Pairs that train.
        tests: Pairs that are held out.
        codes: What the masks may hold; None when that could not be told.
        memory: What is known of unchanged files.
        grey_only: An image in colour is a defect: it would lose its colour.
        every_class: A class that occurs nowhere is a defect; otherwise only one that the other half has.
    """
    defects: list[str] = []
    seen: dict[str, tuple[str, Path]] = {}
    present: dict[str, set[int | None]] = {}
    for half, pairs in (("training", training), ("test", tests)):
        held: set[int] = set()
        for pair in pairs:
            image, mask = (_finding(path, topic, memory) for path, topic in ((pair.image, _IMAGE), (pair.mask, _MASK)))
            defects += [f"{found['defect']}" for found in (image, mask) if "defect" in found]
            defects += _compare(pair, image, mask, codes, grey_only=grey_only)
            defects += _shared(image, pair, half, seen)
            held.update(mask.get("values", ()))
        present[half] = {codes.labels.get(value) for value in held} if codes else set()
    what = {half: f"{half} mask" for half in present}
    return defects + list(lacking(codes.names if codes else (), present, what, anywhere=every_class))


def _finding(path: Path, topic: str, memory: FileHashCache) -> dict[str, Any]:
    try:
        known = memory.get(path, topic) if path.is_file() else None
        if known is not None:
            return dict(known)
        finding = _look_at_image(path) if topic == _IMAGE else _look_at_mask(path)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.put(path, topic, finding)
    return finding


def _look_at_image(path: Path) -> dict[str, Any]:
    image = read_image(path, None)
    flat = bool(image.min() == image.max())
    # An image of a single value (black) tells nothing: any two groups may share it.
    digest = "" if flat else hashlib.sha256(np.ascontiguousarray(image, "<f4").data).hexdigest()[:32]
    return {"size": list(image.shape[1:]), "channels": len(image), "digest": digest}


def _look_at_mask(path: Path) -> dict[str, Any]:
    codes = read_codes(path)
    return {"size": list(codes.shape), "values": np.unique(codes).tolist()[: 1 << 8]}


def _compare(
    pair: Pair, image: dict[str, Any], mask: dict[str, Any], codes: ClassCodes | None, *, grey_only: bool
) -> Iterator[str]:
    if "size" in image and "size" in mask and image["size"] != mask["size"]:
        yield f"{pair.mask}: {_size(mask)} pixels, and its image {_size(image)}"
    if grey_only and image.get("channels") == 3:
        yield f"{pair.image}: in colour, and the first image is grey: set dataset.channels to 1 or 3"
    foreign = codes.foreign(mask.get("values", ())) if codes else []
    if codes and foreign:
        yield f"{pair.mask}: holds {listed(foreign)}, which no class has ({codes.legal()})"


def _shared(image: dict[str, Any], pair: Pair, half: str, seen: dict[str, tuple[str, Path]]) -> Iterator[str]:
    """An image that another group has too: a validation or test would know its answers."""
    digest = image.get("digest")
    if not digest:
        return
    here = f"{half} {pair.group}"
    other, path = seen.setdefault(digest, (here, pair.image))
    if other != here and path != pair.image:
        yield f"{pair.image}: the same image as {path} ({other}): groups must not share images"


def _size(finding: dict[str, Any]) -> str:
    return " x ".join(map(str, reversed(finding["size"])))
