"""The Synapse data set (abdominal CT, eight organs) in TransUNet's layout, as a source of samples.

Training slices come from `train_npz`, test volumes from `test_vol_h5`; which of them count stands in the lists.
Intensities are those of the files: -125..275 HU, scaled to 0..1. Every slice is resized to `size` x `size`, whatever
its own size and shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.data.datasets.synapse_files import (
    CLASSES,
    LISTS,
    WINDOW,
    case_of,
    find_folder,
    read_list,
    read_slice,
    read_volume,
    slice_path,
    slice_shape,
    volume_path,
    volume_shape,
)
from tuner.data.memory import FileMemory
from tuner.data.resize import resize_images, resize_labels
from tuner.data.source import Image, Label, TestCase
from tuner.errors import DataError
from tuner.registry import Scalar

_RESIZING = 1
"""Raised when resizing gives other numbers."""


@dataclass(frozen=True)
class Synapse:
    """What the lists of a folder name."""

    folder: Path
    size: int
    slices: Mapping[str, tuple[str, ...]]
    """Training case -> its slice names, from the lowest slice up."""
    volumes: tuple[str, ...]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[1, size, size]."""
        return (1, self.size, self.size)

    @property
    def stacked(self) -> bool:
        """The slices of a case are one volume."""
        return True

    @property
    def training(self) -> tuple[str, ...]:
        """Training cases."""
        return tuple(self.slices)

    @property
    def test(self) -> tuple[str, ...]:
        """Test cases."""
        return self.volumes

    def count(self, case: str) -> int:
        """Number of slices; of a test case it is read from its volume."""
        if case in self.slices:
            return len(self.slices[case])
        return volume_shape(volume_path(self.folder, case))[0]

    @property
    def uneven(self) -> bool:
        """All slices are resized."""
        return False

    def spaces(self, case: str) -> list[tuple[int, ...]]:
        """[H, W] of every slice as it is in its file, from the heads of the files."""
        if case in self.slices:
            return [slice_shape(path) for path in self._paths(case)]
        depth, *space = volume_shape(volume_path(self.folder, case))
        return [tuple(space)] * depth

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """The npz files of training cases and the h5 files of test cases, named relative to the data set."""
        paths = [path for case in cases for path in self._paths(case)]
        missing = [str(path.relative_to(self.folder)) for path in paths if not path.is_file()]
        if missing:
            more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DataError(
                f"the lists name {len(missing)} of {len(paths)} files that are not there: "
                f"{', '.join(missing[:3])}{more}.",
                hint="tuner data check synapse lists every one of them.",
                where=str(self.folder),
            )
        return [(path.relative_to(self.folder).as_posix(), path) for path in paths]

    def recipe(self) -> Mapping[str, Any]:
        """The size, and the version of the resizing."""
        return {"size": self.size, "resizing": _RESIZING}

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """The slices of a case, resized: [1, size, size] and [size, size]."""
        target = (self.size, self.size)
        if case in self.slices:
            pairs: Iterator[tuple[Image, Label]] = map(read_slice, self._paths(case))
        else:
            pairs = zip(*read_volume(volume_path(self.folder, case)), strict=True)
        for image, label in pairs:
            yield resize_images(image[None], target), resize_labels(label, target)

    def reading(self, memory: FileMemory) -> Mapping[str, Any]:
        """CT in the window of the data set; a label is the number of its class."""
        return {"form": "ct", "channels": 1, "low": WINDOW[0], "high": WINDOW[1], "labels": list(range(CLASSES))}

    def original(self, case: str) -> TestCase:
        """A test volume as it is; the layout states no spacing."""
        image, label = read_volume(volume_path(self.folder, case))
        return TestCase(case, image, label, None)

    def _paths(self, case: str) -> list[Path]:
        if case in self.slices:
            return [slice_path(self.folder, name) for name in self.slices[case]]
        return [volume_path(self.folder, case)]


def open_synapse(options: Mapping[str, Scalar], data_root: Path | None) -> Synapse:
    """Read the lists of `<data root>/synapse`.

    Raises:
        DataError: Folder, lists or slices are missing (the message shows the layout and how to get the data), or a list
            is empty or holds what is not a name.
    """
    folder = find_folder(data_root)
    names, defects = read_list(folder / LISTS / "train.txt")
    volumes, more = read_list(folder / LISTS / "test_vol.txt")
    defects += more + [f"{name!r} in train.txt is not of the form CASE_sliceNNN" for name in names if not case_of(name)]
    if not names:
        defects.append(f"{folder / LISTS / 'train.txt'} names no slice: there is nothing to train on")
    both = sorted({case_of(name) for name in names} & set(volumes))
    defects += [f"{case} is a training case and a test case" for case in both]
    if defects:
        raise DataError("; ".join(defects) + ".", hint="Correct the lists.", where=str(folder / LISTS))
    return Synapse(folder, int(options["size"] or 0), group_slices(names), tuple(volumes))


def group_slices(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group slice names by case, cases and slices in order of their numbers."""
    cases: dict[str, list[str]] = {}
    for name in names:
        cases.setdefault(case_of(name), []).append(name)
    return {case: tuple(sorted(cases[case], key=_number)) for case in sorted(cases)}


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_slice")[2]
    return (int(digits) if digits.isdecimal() else -1), name
