"""Pairs of image and mask as samples, and their checks: unreadable files, sizes, codes, missing classes, duplicates.

Splits go by group; test images stand alone.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.cache import FileHashCache
from tuner.data.checks import Findings, lacking
from tuner.data.images import (
    AS_STORED,
    SUFFIXES,
    ReadOptions,
    read_image,
    read_raster,
    resize_images,
    resize_labels,
    size_of,
)
from tuner.data.label_map import listed
from tuner.data.mask_classes import MaskClasses, found_classes, stray_classes
from tuner.data.mask_coding import mask_facts, total_values
from tuner.data.raster import ORIENTATIONS, Raster
from tuner.data.source import FoundClass, Image, Label, TestCase
from tuner.errors import DataError

_READING = 2
"""Raised when the same files would give other numbers."""


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
    decide: Callable[[Sequence[Pair], FileHashCache], MaskClasses]
    """Returns how the masks are read, given all pairs."""
    background: bool
    read_options: ReadOptions = AS_STORED
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
        return self.classes(memory).codes.names

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
        return [size_of(pair.mask, self.read_options) for pair in self._of(case)]

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
        """Channels, and the code of each class in a mask."""
        read = self.read_options
        return {
            "form": "pictures",
            "channels": self.channels,
            "labels": self.classes(memory).codes.of_classes(),
            "exif": "apply" if read.is_upright else "ignore",
            "max_pixels": read.max_pixels,
            "low": read.low,
            "high": read.high,
        }

    def found_classes(self, cases: Sequence[str], memory: FileHashCache) -> list[FoundClass]:
        """What the masks of some cases are read as, at the size of the files."""
        masks = [pair.mask for case in cases for pair in self._of(case)]
        return found_classes(masks, self.classes(memory), memory, self.read_options)

    def original(self, case: str) -> TestCase:
        """A test image as it is; pictures state no spacing."""
        image, label = self._read(self.tests[case])
        return TestCase(case, image, label, None)

    def _of(self, case: str) -> tuple[Pair, ...]:
        return self.groups[case] if case in self.groups else (self.tests[case],)

    def _read(self, pair: Pair) -> tuple[Image, Label]:
        image = read_image(pair.image, self.channels, self.read_options)
        label = self.classes(FileHashCache(None)).read(pair.mask, self.read_options)
        if image.shape[1:] != label.shape:
            raise DataError(f"the image is {image.shape[1:]}, its mask {label.shape}.", where=str(pair.image))
        return image, label

    def classes(self, memory: FileHashCache) -> MaskClasses:
        """How the masks are read, and what they hold."""
        # Decided once: a scan of all masks may take minutes.
        known: MaskClasses | None = self.__dict__.get("_known")
        if known is None:
            pairs = [pair for group in self.groups.values() for pair in group] + list(self.tests.values())
            known = self.__dict__["_known"] = self.decide(pairs, memory)
        return known


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a data set's options that decide what its samples are."""
    passed_over = {"path", "resize"} if options["resize"] else {"path", "size", "width"}
    return {name: value for name, value in options.items() if name not in passed_over}


def read_options_of(options: Mapping[str, Any]) -> ReadOptions:
    """Return how pictures are read under a data set's options (what it has not is left as stored)."""
    low, high = options.get("low"), options.get("high")
    if low is not None and high is not None and high <= low:
        raise DataError(f"low ({low:g}) is not below high ({high:g}).", where="dataset.low")
    return ReadOptions(
        is_upright=options.get("exif", "apply") == "apply",
        max_pixels=int(float(options["max_megapixels"]) * 1e6),
        low=low,
        high=high,
    )


def images_below(folder: Path, unused: list[Path] | None = None) -> Iterable[Path]:
    """Every picture below a folder, in order of their names; links that lead nowhere too.

    Args:
        folder: Where to look; linked folders are not followed.
        unused: Is given what else lies there: hidden files (`._NAME` of macOS), other endings, linked folders.
    """
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_skipped = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if path.is_dir() and not path.is_symlink():
            continue
        if path.suffix.lower() in SUFFIXES and not is_skipped and not path.is_dir():
            yield path
        elif unused is not None:
            unused.append(path)


def unused_note(folder: Path, unused: Sequence[Path]) -> list[str]:
    """Return a line that counts and names files that are not used; none of none."""
    if not unused:
        return []
    shown = ", ".join(path.relative_to(folder).as_posix() for path in unused[:8])
    count = f"{len(unused)} file{'s' * (len(unused) != 1)} or linked folder{'s' * (len(unused) != 1)}"
    return [f"{folder}: {count} not used (hidden, or of another kind): {shown}{', …' if len(unused) > 8 else ''}"]


_DIM = 8
"""Images that leave so many times their range unused are fed nearly black."""


def check_pairs(
    training: Sequence[Pair],
    tests: Sequence[Pair],
    classes: MaskClasses | None,
    memory: FileHashCache,
    *,
    read: ReadOptions = AS_STORED,
    channels: int | None = None,
    is_chosen: bool = True,
    every_class: bool = True,
) -> Findings:
    """Open every image and mask, and return the defects, a line each, notes, and what is read as classes.

    Args:
        training: Pairs that train.
        tests: Pairs that are held out.
        classes: How the masks are read; None when that could not be told.
        memory: What is known of unchanged files.
        read: How pictures are read.
        channels: What every image must have, or can be made to have; None: not known.
        is_chosen: Whether the user named the channels: colour becomes grey then, as asked.
        every_class: A class that occurs nowhere is a defect; otherwise only one that the other half has.
    """
    found = Findings()
    seen: dict[str, tuple[str, Path]] = {}
    present: dict[str, set[int | None]] = {}
    images: list[tuple[Path, dict[str, Any]]] = []
    codes = classes.codes if classes else None
    for half, pairs in (("training", training), ("test", tests)):
        held: set[int] = set()
        for pair in pairs:
            image, mask = _image_finding(pair.image, read, memory), _mask_finding(pair.mask, read, memory, classes)
            found += [f"{look['defect']}" for look in (image, mask) if "defect" in look]
            found += _compare(pair, image, mask, classes)
            found += _bands(pair, image, channels, is_chosen=is_chosen)
            found += _shared(image, pair, half, seen)
            held.update(mask.get("codes", ()))
            images.append((pair.image, image))
        present[half] = {codes.find(value) for value in held} if codes else set()
    what = {half: f"{half} mask" for half in present}
    found += lacking(codes.names if codes else (), present, what, anywhere=every_class)
    good = [(path, look) for path, look in images if "defect" not in look]
    found.notes += _notes(good, read)
    if good and all(look["constant"] for _, look in good):
        found.append(f"{good[0][0]}: every pixel is {good[0][1]['range'][0]:g}, and so it is in all images")
    if classes:
        masks = [pair.mask for pair in (*training, *tests)]
        found.classes = found_classes(masks, classes, memory, read)
        found += stray_classes(masks, classes, memory, read)
    return found


def _image_finding(path: Path, read: ReadOptions, memory: FileHashCache) -> dict[str, Any]:
    topic = f"picture check 2 {read.is_upright:d}"
    try:
        known = memory.get(path, topic) if path.is_file() else None
        finding = dict(known) if known is not None else look_at_image(read_raster(path, read), path)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    if known is None:
        memory.put(path, topic, finding)
    if finding["white"] is None and finding["type"][0] not in "fb" and read.high is None:
        low, high = finding["range"]
        return {
            "defect": f"{path}: holds {finding['type']} ({low:g} to {high:g}), which have no white of their own: name "
            f"the range that becomes 0 to 1, as in `dataset.low: {low:g}` and `dataset.high: {high:g}`"
        }
    return finding


def look_at_image(raster: Raster, path: Path) -> dict[str, Any]:
    """Return what is remembered of a decoded image; raises DataError when it holds what is not finite."""
    values = raster.coloured()
    broken = int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0
    if broken:
        raise DataError(f"{broken} values are not finite (NaN or infinity).", where=str(path))
    white = 255 if raster.palette is not None else raster.white
    low, high = float(values.min()), float(values.max())
    # An image of a single value (black) tells nothing: any two groups may share it.
    planes = np.moveaxis(values.astype(np.float32) / np.float32(white or 1), -1, 0)
    digest = "" if low == high else hashlib.sha256(np.ascontiguousarray(planes, "<f4").data).hexdigest()[:32]
    return {
        "size": list(values.shape[:2]),
        "channels": int(values.shape[-1]),
        "digest": digest,
        "range": [low, high],
        "constant": low == high,
        "white": white,
        "type": values.dtype.name,
        "alpha": raster.alpha is not None,
        "orientation": raster.orientation,
    }


def _mask_finding(path: Path, read: ReadOptions, memory: FileHashCache, classes: MaskClasses | None) -> dict[str, Any]:
    try:
        facts = dict(mask_facts(path, memory, read))
        if classes:
            facts["codes"] = sorted(total_values([facts], classes.coding))
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    return facts


def _compare(pair: Pair, image: dict[str, Any], mask: dict[str, Any], classes: MaskClasses | None) -> Iterator[str]:
    if "size" in image and "size" in mask and image["size"] != mask["size"]:
        turned = image["orientation"] >= 5 and image["size"] == mask["size"][::-1]
        advice = " (its EXIF orientation turns it: `dataset.exif: ignore` and `apply` differ in that)" if turned else ""
        yield f"{pair.mask}: {_size(mask)} pixels, and its image {_size(image)}{advice}"
    foreign = classes.codes.foreign(mask.get("codes", ())) if classes else []
    if classes and foreign:
        advice = "; it is lossy: map ranges, as in `dataset.labels: {background: '<128', cell: '>=128'}`"
        yield (
            f"{pair.mask}: holds {listed(foreign)}, which no class has ({classes.codes.legal()})"
            f"{advice if mask['lossy'] else ''}"
        )


def _bands(pair: Pair, image: dict[str, Any], channels: int | None, *, is_chosen: bool) -> Iterator[str]:
    count = image.get("channels")
    if count is None or channels is None or count == channels or (count == 1 and channels == 3):
        return
    if count == 3 and channels == 1:
        if not is_chosen:
            yield f"{pair.image}: in colour, and the first image is grey: set dataset.channels to 1 or 3"
        return
    expected = f"`dataset.channels` is {channels}" if is_chosen else f"the first image has {channels}"
    yield f"{pair.image}: has {count} bands, and {expected}"


def _shared(image: dict[str, Any], pair: Pair, half: str, seen: dict[str, tuple[str, Path]]) -> Iterator[str]:
    """An image that another group has too: a validation or test would know its answers."""
    digest = image.get("digest")
    if not digest:
        return
    here = f"{half} {pair.group}"
    other, path = seen.setdefault(digest, (here, pair.image))
    if other != here and path != pair.image:
        yield f"{pair.image}: the same image as {path} ({other}): groups must not share images"


def _notes(images: Sequence[tuple[Path, dict[str, Any]]], read: ReadOptions) -> Iterator[str]:
    """Say what is no defect and yet decides what a network is fed."""
    how = "applied; `dataset.exif: ignore` reads it as stored" if read.is_upright else "ignored; `dataset.exif: apply`"
    how += "" if read.is_upright else " reads it as a viewer shows it"
    for path, look in images:
        if look["orientation"] != 1:
            yield f"{path}: EXIF orientation {look['orientation']} ({ORIENTATIONS[look['orientation']]}) is {how}"
    constant = [path for path, look in images if look["constant"]]
    if constant and len(constant) < len(images):
        yield f"{constant[0]}: every pixel has one value; {len(constant)} of {len(images)} images are so"
    clear = [path for path, look in images if look["alpha"]]
    if clear:
        yield f"{clear[0]}: its alpha is left out, as in {len(clear)} of {len(images)} images"
    types: dict[str, int] = {}
    for _, look in images:
        types[look["type"]] = types.get(look["type"], 0) + 1
    if len(types) > 1:
        shown = ", ".join(f"{name} ({count})" for name, count in sorted(types.items()))
        yield f"the images are of several types: {shown}; each is read over its own white"
    yield from _unused_range(images, read)


def _unused_range(images: Sequence[tuple[Path, dict[str, Any]]], read: ReadOptions) -> Iterator[str]:
    if not images or read.low is not None or read.high is not None:
        return
    low, high = min(look["range"][0] for _, look in images), max(look["range"][1] for _, look in images)
    whites = {look["white"] for _, look in images}
    white = whites.pop() if len(whites) == 1 else None
    remedy = f"`dataset.low: {low:g}` and `dataset.high: {high:g}` would make that 0 to 1"
    if white is not None and 0 < high < white / _DIM:
        fed = f"the network is fed 0 to {high / white:.3g}"
        yield f"the images use {low:g} to {high:g} of 0 to {white}: {fed}; {remedy}"
    elif white is None and any(look["type"].startswith("float") for _, look in images) and max(-low, high) > _DIM:
        yield f"the images are floats of {low:g} to {high:g}, and fed as they are; {remedy}"


def _size(finding: dict[str, Any]) -> str:
    return " x ".join(map(str, reversed(finding["size"])))
