"""Labelled volumes as samples: slices (2-D) or slabs of consecutive slices (3-D), and their checks.

CT is clipped to `low`..`high` HU and taken to 0..1; other channels are standardised volume by volume, unless the data
set says that they are not to be. Every file is turned to one orientation first (`tuner.data.volumes`). Slices are
resized in the plane, never resampled across it; with `resize: false` they keep their sizes, and in 3-D every case is
one volume in its own size.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.cache import FileHashCache
from tuner.data.checks import Findings, lacking
from tuner.data.images import resize_images, resize_labels
from tuner.data.label_map import ClassCodes, listed
from tuner.data.source import IGNORE_INDEX, FoundClass, Image, Label, TestCase
from tuner.data.splits import group_of
from tuner.data.volumes import (
    AXIAL,
    PLANES,
    SAME_PLACE,
    Grid,
    axis_codes,
    companions,
    farthest,
    is_volume,
    not_there,
    obliquity,
    read_channels,
    read_grid,
    read_truth,
    shear,
)
from tuner.errors import DataError
from tuner.registry import Scalar

_READING = 3
"""Raised when the same files would give other numbers."""

_THICKER = 1.05
"""Slices lie across another axis than the axial one when its spacing is larger by this factor."""


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
    notes: tuple[str, ...] = ()
    """What lies there and is not used, and what else was made of the description."""
    regions: Mapping[str, Any] | None = None
    """Classes that overlap, where the description declares them: `regions` and perhaps `regions_class_order`."""


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

    @cached_property
    def axes(self) -> str:
        """How D, H and W of every volume run, whichever way its file has them: a value of `PLANES`."""
        plane = str(self.options["slices"])
        if plane in PLANES:
            return PLANES[plane]
        return AXIAL if self.uneven and not self.stacked else slice_axes(self.found)

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

    @property
    def declared_regions(self) -> Mapping[str, Any] | None:
        """The regions of the description."""
        return self.found.regions

    def count(self, case: str) -> int:
        """Number of slices or slabs, from the head of the label map."""
        depth = self._grid(case).shape[0]
        if self.stacked:
            return depth
        return 1 if self.uneven else -(-depth // self._int("depth"))

    def spaces(self, case: str) -> list[tuple[int, ...]]:
        """[H, W] of each slice, or [D, H, W] of the one volume, from the head of the label map."""
        shape = self._grid(case).shape
        return [shape[1:]] * shape[0] if self.stacked else [shape]

    def spacing(self, case: str) -> tuple[float, ...] | None:
        """Size of a voxel [slices, H, W] after resizing, in mm; None for pictures."""
        grid = self._grid(case)
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
        """Channels and their kinds, the orientation, the window, and the label of each class."""
        first = next(iter(self.found.cases.values()))
        return {
            "form": "volumes",
            "channels": self.channels,
            "files": len(first.images),
            "axes": self.axes,
            "kinds": list(self.found.kinds),
            "low": self.options["low"],
            "high": self.options["high"],
            "labels": self.found.codes.of_classes(),
        }

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """Images and label maps, and the files beside that belong to them, named relative to the data set."""
        named = [path for case in cases for path in self._of(case).paths]
        paths = list(dict.fromkeys(file for path in named for file in (path, *companions(path))))
        return [(path.relative_to(self.found.folder).as_posix(), path) for path in paths]

    def recipe(self) -> Mapping[str, Any]:
        """The options, the kinds of the channels, and the version of reading."""
        passed_over = {"path", "group", "slices"} | ({"resize"} if not self.uneven else {"resize", "size", "depth"})
        options = {name: value for name, value in self.options.items() if name not in passed_over}
        kept = {"resize": False} if self.uneven else {}
        meaning = {"kinds": self.found.kinds, "labels": self.found.codes.labels, "axes": self.axes}
        return {**options, **kept, **meaning, "reading": _READING}

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

    def found_classes(self, cases: Sequence[str], memory: FileHashCache) -> list[FoundClass]:
        """Voxels, objects (voxels that share a face) and label maps of every class; unreadable ones are left out."""
        totals: dict[int, list[int]] = {}
        for case in cases:
            try:
                found = _class_counts(self._of(case), self.found.codes, memory)
            except DataError:
                continue
            for number, (voxels, objects, smallest) in found.items():
                total = totals.setdefault(int(number), [0, 0, smallest, 0])
                total[0] += voxels
                total[1] += objects
                total[2] = min(total[2], smallest)
                total[3] += 1
        codes, whole = self.found.codes, sum(total[0] for total in totals.values())
        rows = []
        for number in [*range(len(codes.names)), *([IGNORE_INDEX] if IGNORE_INDEX in totals else [])]:
            voxels, objects, smallest, held = totals.get(number, [0, 0, 0, 0])
            name = "ignored" if number == IGNORE_INDEX else codes.names[number]
            share = voxels / max(whole, 1)
            rows.append(
                FoundClass(number, name, codes.value_text(number), share, objects, smallest if objects else None, held)
            )
        return rows

    def original(self, case: str) -> TestCase:
        """A test volume in its own size, with its spacing."""
        recording = self.found.tests[case]
        image, label = self._read(recording)
        if self.stacked:
            image = np.moveaxis(image, 0, 1) if len(image) > 1 else image[0]
        return TestCase(case, image, label, self._grid(case).spacing)

    def _read(self, recording: Recording) -> tuple[Image, Label]:
        """[C, D, H, W] and [D, H, W]."""
        first = recording.images[0]
        planes = [read_channels(path, self.axes, like=first) for path in recording.images]
        truth = read_truth(recording.label, self.axes, like=first)
        shapes = {plane.shape[1:] for plane in planes} | {truth.shape}
        if len(shapes) > 1:
            raise DataError(
                f"images and labels of {recording.name} differ in shape: {', '.join(map(str, sorted(shapes)))}.",
                where=str(recording.label),
            )
        grid = read_grid(first, self.axes) if is_volume(first) else None
        for path in recording.paths[1:]:
            apart = misplaced(grid, read_grid(path, self.axes, like=first)) if grid else 0.0
            if apart > SAME_PLACE:
                raise DataError(f"lies elsewhere than {first.name}: {apart:.3g} voxels apart.", where=str(path))
        image = np.concatenate(planes)
        if len(image) != self.channels:
            raise DataError(f"{len(image)} channels, the first case has {self.channels}.", where=str(recording.label))
        if is_volume(first) and len(image) != len(self.found.kinds):
            raise DataError(f"{unnamed_channels(len(image), self.found.kinds)}.", where=str(first))
        normalise(image, self.found.kinds, low=float(self.options["low"] or 0), high=float(self.options["high"] or 0))
        try:
            return image, self.found.codes.apply(truth)
        except DataError as error:
            raise DataError(error.message, where=str(recording.label)) from None

    @cached_property
    def _group_of(self) -> Callable[[str], str | None]:
        return group_of(str(self.options["group"] or ""))

    def _grid(self, case: str) -> Grid:
        """The grid of a case's label map."""
        if case not in self._grids:
            recording = self._of(case)
            self._grids[case] = read_grid(recording.label, self.axes, like=recording.images[0])
        return self._grids[case]

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        return {}

    def _of(self, case: str) -> Recording:
        return self.found.cases[case] if case in self.found.cases else self.found.tests[case]

    def _int(self, name: str) -> int:
        return int(self.options[name] or 0)


def _class_counts(recording: Recording, codes: ClassCodes, memory: FileHashCache) -> Mapping[str, tuple[int, int, int]]:
    """Return voxels, objects and voxels of the smallest object by class number; raises DataError."""
    topic = f"volume objects 1 {hashlib.sha256(repr(codes).encode()).hexdigest()[:16]}"
    known: Mapping[str, tuple[int, int, int]] | None = memory.get(recording.label, topic)
    if known is None:
        from scipy import ndimage

        labels = codes.apply(read_truth(recording.label, like=recording.images[0]))
        known = {}
        for number in np.unique(labels).tolist():
            objects, count = ndimage.label(labels == number)
            sizes = np.bincount(objects.ravel())[1:]
            known[str(number)] = (int(sizes.sum()), int(count), int(sizes.min()))
        memory.put(recording.label, topic, known)
    return known


def slice_axes(found: VolumeSet) -> str:
    """Return how D, H and W run where slices lie across the axis of the largest spacing.

    That is the axis along which most cases have one voxel, else the one whose median spacing over the training cases is
    the largest; the axial one where there is no clear difference.
    """
    sizes: list[tuple[float, ...]] = []
    single: list[str] = []
    for case in found.cases.values():
        if not is_volume(case.images[0]):
            continue
        try:
            grid = read_grid(case.images[0])
        except DataError:
            continue  # what is wrong with it is said when it is read
        thin = [plane for plane, extent in zip(_ACROSS, grid.shape, strict=True) if extent == 1]
        single += thin if len(thin) == 1 else [""]
        sizes += [grid.spacing] if grid.spacing else []
    for plane in _ACROSS:
        if 2 * single.count(plane) > len(single):
            return PLANES[plane]
    if not sizes:
        return AXIAL
    medians = dict(zip(_ACROSS, np.median(sizes, 0).tolist(), strict=True))
    thickest = max(medians, key=medians.__getitem__)
    return PLANES[thickest] if medians[thickest] > _THICKER * medians["axial"] else AXIAL


_ACROSS = ("axial", "coronal", "sagittal")
"""The planes whose slices lie across D, H and W of an axial volume."""


def misplaced(first: Grid, other: Grid) -> float:
    """Return how far a file lies from the first image of its case, at most, in voxels; 0 where one states no place."""
    if first.matrix is None or other.matrix is None:
        return 0.0
    return farthest(first.matrix, other.matrix, first.shape)


def unnamed_channels(count: int, kinds: Sequence[str]) -> str:
    """Say that volumes have another number of channels than the description names."""
    shown = ", ".join(kinds)
    return f"{count} channels (a time axis?), and the description names {len(kinds)}: {shown}"


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


_IMAGE, _TRUTH = "volume check 4", "label map check 4"

_MAX_NAMED = 8
"""Files that a note names; of more the number is said."""
_OBLIQUE, _SHEARED = 1.0, 0.1
"""Degrees from which on axes are called oblique, or sheared."""
_SPACING_RATIO = 3.0
_EXACTLY = 0.01
"""Voxels by which files of a case may lie apart without a word."""

Seen = dict[str, tuple[str, Path]]
"""Digest of a slice -> the case that had it first, and its file."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a file of a readable case says of its place."""

    path: Path
    image: Mapping[str, Any]
    label: Mapping[str, Any]


def check_volumes(
    found: VolumeSet, memory: FileHashCache, *, channels: int | None = None, axes: str = AXIAL
) -> Findings:
    """Open every file of every case and return the defects, a line each; saves what was good in `memory`.

    What differs within the set, and what was made of odd heads, are its notes.

    Args:
        found: The cases.
        memory: What is known of unchanged files.
        channels: How many every case must have; None: volumes as many as the description names, pictures as many as
            the first one that can be read.
        axes: How the volumes are turned.
    """
    defects: list[str] = []
    seen: Seen = {}
    present: dict[str, set[int | None]] = {}
    places: list[_Look] = []
    is_described = channels is None
    for half, cases in (("training", found.cases), ("test", found.tests)):
        held: set[int] = set()
        for recording in cases.values():
            looks = _looks(recording, memory, axes)
            defects += [str(look["defect"]) for look in looks if "defect" in look]
            defects += _compare(recording, looks)
            count = sum(look.get("channels", 0) for look in looks[:-1])
            if not any("defect" in look for look in looks[:-1]):
                places.append(_Look(recording.images[0], looks[0], looks[-1]))
                if is_described and is_volume(recording.images[0]):
                    if count != len(found.kinds):
                        defects.append(f"{recording.images[0]}: {unnamed_channels(count, found.kinds)}")
                else:
                    channels = channels or count
                    defects += _count_channels(recording, count, channels)
            values = looks[-1].get("values", [])
            foreign = found.codes.foreign(values)
            if foreign:
                defects.append(
                    f"{recording.label}: holds {listed(foreign)}, which no class has ({found.codes.legal()}); "
                    "the label map, or `labels` of the description, has to change"
                )
            defects += _shared(recording, looks[0], seen)
            held.update(values)
        present[half] = {found.codes.labels.get(value) for value in held}
    memory.save()
    what = {half: f"{half} case" for half in present}
    defects += lacking(found.codes.names, present, what, anywhere=True)
    return Findings(defects, notes=_differences(places, axes))


def _looks(recording: Recording, memory: FileHashCache, axes: str) -> list[dict[str, Any]]:
    """What each file of a case says; the first image decides how the others are turned, as when they are read."""
    first = recording.images[0]
    looks = [_finding(first, None, memory, axes, is_label=False)]
    like = None if "defect" in looks[0] else first
    looks += [_finding(path, like, memory, axes, is_label=path == recording.label) for path in recording.paths[1:]]
    return looks


def _finding(path: Path, like: Path | None, memory: FileHashCache, axes: str, *, is_label: bool) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise DataError(f"{not_there(path)}.", where=str(path))
        # What is known of a file holds as long as those are unchanged that it was read with.
        others = [file.stat() for file in (*companions(path), *([like] if like else [])) if file.is_file()]
        states = [f"{state.st_size}-{state.st_mtime_ns}" for state in others]
        topic = " ".join((_TRUTH if is_label else _IMAGE, axes, *states))
        known = memory.get(path, topic)
        if known is not None:
            return dict(known)
        finding = _grid_facts(read_grid(path, axes, like=like))
        if is_label:
            finding["values"] = np.unique(read_truth(path, axes, like=like)).tolist()[: 1 << 8]
        else:
            finding["digests"] = _digests(path, like, axes)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.put(path, topic, finding)
    return dict(finding)


def _digests(path: Path, like: Path | None, axes: str) -> list[str]:
    """Hash of every slice; empty for one of a single value (air), which any two cases may share."""
    image = read_channels(path, axes, like=like)
    if image.min() == image.max() and image.shape[1] > 1:
        raise DataError(f"every voxel is {image.flat[0]:g}: the volume is empty.", where=str(path))
    slices = [np.ascontiguousarray(image[:, place], "<f4") for place in range(image.shape[1])]
    return ["" if one.min() == one.max() else hashlib.sha256(one.data).hexdigest()[:24] for one in slices]


def _grid_facts(grid: Grid) -> dict[str, Any]:
    head = grid.head
    facts: dict[str, Any] = {
        "shape": list(grid.shape),
        "channels": grid.channels,
        "unit": head.unit,
        "remarks": list(head.remarks),
    }
    if head.affine is not None and grid.spacing is not None:
        facts |= {
            "spacing": list(grid.spacing),
            "affine": list(grid.affine or ()),
            "codes": axis_codes(head.affine),
            "obliquity": obliquity(head.affine),
            "shear": shear(head.affine),
        }
    return facts


def _count_channels(recording: Recording, count: int, expected: int) -> Iterator[str]:
    if count != expected:
        yield f"{recording.images[0]}: {count} channel{'s' * (count != 1)}, and {expected} in the other cases"


def _compare(recording: Recording, looks: list[dict[str, Any]]) -> Iterator[str]:
    """Every file of a case must lie on its first image, whichever way the axes of either run."""
    first = looks[0]
    if "defect" in first:
        return
    name = recording.images[0].name
    if 1 in first["shape"][1:] and first["shape"][0] != 1:
        shown = " x ".join(map(str, first["shape"]))
        yield (
            f"{recording.images[0]}: [slices, rows, columns] are {shown}, slices one pixel wide: "
            "`slices: axial`, `coronal` or `sagittal` says which plane they lie in"
        )
    for path, look in zip(recording.paths[1:], looks[1:], strict=True):
        if "defect" in look:
            continue
        if look["shape"] != first["shape"]:
            yield f"{path}: shape {look['shape']}, and {name} {first['shape']}"
        elif "affine" in look and "affine" in first:
            here, there = np.reshape(look["affine"], (4, 4)), np.reshape(first["affine"], (4, 4))
            look["apart"] = farthest(there, here, first["shape"])
            if look["apart"] > SAME_PLACE:
                what = "affine" if np.allclose(look["spacing"], first["spacing"], rtol=1e-3) else "spacing"
                yield f"{path}: its {what} is not that of {name}: they lie up to {look['apart']:.3g} voxels apart"


def _differences(places: Sequence[_Look], axes: str) -> Iterator[str]:
    """Say what differs within the set, and what was made of heads that contradict themselves."""
    stated = [look for look in places if "affine" in look.image]
    yield from _directions(stated)
    yield from _angles(stated, "obliquity", _OBLIQUE, "oblique: they are turned to the closest axes, not resampled")
    yield from _angles(stated, "shear", _SHEARED, "sheared (a tilted gantry?): distances are those of right angles")
    yield from _units(stated)
    remarks: dict[str, list[Path]] = {}
    for look in places:
        for remark in look.image["remarks"]:
            remarks.setdefault(str(remark), []).append(look.path)
    for remark, paths in remarks.items():
        yield (f"{len(paths)} of {len(places)} images: {remark} ({_named(path.name for path in paths)})")
    yield from _spacings(stated, axes)


def _directions(stated: Sequence[_Look]) -> Iterator[str]:
    codes = _groups(stated, lambda look: str(look.image["codes"]))
    if len(codes) > 1:
        usual, *others = sorted(codes, key=lambda code: -len(codes[code]))
        named = [f"{look.path.name} {code}" for code in others for look in codes[code]]
        yield (
            f"the axes of {len(named)} of {len(stated)} images do not run {usual} as those of the others: "
            f"{_named(named)}; all are turned to one orientation"
        )
    turned = [
        f"{look.path.name} {look.image['codes']}, labels {look.label['codes']}"
        for look in stated
        if look.label.get("apart", 1.0) <= SAME_PLACE and look.label["codes"] != look.image["codes"]
    ]
    if turned:
        yield (f"the axes of {len(turned)} label maps run otherwise than those of the image: {_named(turned)}")
    apart = [
        (found, look.path.name) for look in stated if _EXACTLY < (found := look.label.get("apart", 0.0)) <= SAME_PLACE
    ]
    if apart:
        named = [f"{name} {found:.2g}" for found, name in sorted(apart, reverse=True)]
        yield (
            f"the affines of {len(apart)} label maps differ from the image's by parts of a voxel and are taken for the "
            f"same one: {_named(named)}"
        )


def _angles(stated: Sequence[_Look], what: str, least: float, words: str) -> Iterator[str]:
    found = sorted(((float(look.image[what]), look.path.name) for look in stated), reverse=True)
    named = [f"{name} {angle:.1f}°" for angle, name in found if angle > least]
    if named:
        yield (f"the axes of {len(named)} of {len(stated)} images are {words}: {_named(named)}")


def _units(stated: Sequence[_Look]) -> Iterator[str]:
    units = _groups(stated, lambda look: str(look.image["unit"] or "mm"))
    usual, *others = sorted(units, key=lambda unit: -len(units[unit])) or ["mm"]
    if others:
        named = [f"{look.path.name} {unit}" for unit in others for look in units[unit]]
        yield (f"{len(named)} of {len(stated)} images have another unit than {usual}: {_named(named)}; all become mm")
    elif usual != "mm":
        spacing = " x ".join(f"{size:g}" for size in stated[0].image["spacing"])
        yield (f"the unit of the images is {usual}: a voxel of {stated[0].path.name} is {spacing} mm")


def _spacings(stated: Sequence[_Look], axes: str) -> Iterator[str]:
    if not stated:
        return
    table = np.array([look.image["spacing"] for look in stated])
    for along, sizes in zip(("slices", "rows", "columns"), table.T, strict=True):
        least, most = int(sizes.argmin()), int(sizes.argmax())
        if sizes[most] > _SPACING_RATIO * sizes[least]:
            yield (
                f"the spacing of {along} differs {sizes[most] / sizes[least]:.1f} times: {sizes[least]:g} mm "
                f"({stated[least].path.name}) to {sizes[most]:g} mm ({stated[most].path.name})"
            )
    across = [
        look.path.name
        for look, sizes in zip(stated, table, strict=True)
        if axes in PLANES.values() and look.image["shape"][0] > 1 and sizes[0] * _SPACING_RATIO < sizes.max()
    ]
    if across:
        plane = next(name for name, value in PLANES.items() if value == axes)
        yield (
            f"slices are {plane}, and the largest spacing of {len(across)} of {len(stated)} images lies in that plane: "
            f"{_named(across)}"
        )


def _groups(looks: Sequence[_Look], key: Callable[[_Look], str]) -> dict[str, list[_Look]]:
    found: dict[str, list[_Look]] = {}
    for look in looks:
        found.setdefault(key(look), []).append(look)
    return found


def _named(names: Iterable[str]) -> str:
    listing = list(names)
    more = f" and {len(listing) - _MAX_NAMED} more" if len(listing) > _MAX_NAMED else ""
    return ", ".join(listing[:_MAX_NAMED]) + more


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
