"""Synapse (abdominal CT, eight organs) in TransUNet's layout: lists, slices, test volumes, official division.

Training slices come from `train_npz`, test volumes from `test_vol_h5`; which of them count stands in the lists.
Intensities are those of the files: -125..275 HU, scaled to 0..1. Every slice is resized to `size` x `size`, whatever
its own size and shape.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.images import resize_images, resize_labels
from tuner.data.source import Image, Label, TestCase
from tuner.errors import DataError
from tuner.registry import Scalar

LISTS, SLICES, VOLUMES = "lists_Synapse", "train_npz", "test_vol_h5"
CLASSES = 9
WINDOW = (-125, 275)
"""The window in HU that was taken to 0..1."""

_KEYS = ("image", "label")

Found = TypeVar("Found")

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and h5py raise on files that are truncated, damaged or of another kind."""


def slice_path(folder: Path, name: str) -> Path:
    """Return where the training slice `case0005_slice000` is."""
    return folder / SLICES / f"{name}.npz"


def volume_path(folder: Path, case: str) -> Path:
    """Return where the test volume `case0001` is."""
    return folder / VOLUMES / f"{case}.npy.h5"


def case_of(slice_name: str) -> str:
    """Return the case of a slice: `case0005` of `case0005_slice000`."""
    return slice_name.rpartition("_slice")[0]


def find_folder(data_root: Path | None, *, whole: bool = True) -> Path:
    """Return `<data root>/synapse`, or say what is expected where and how to get it.

    Raises:
        DataError: Something of lists and slices is missing; with `whole=False` only when all of it is.
    """
    entry = DATASETS["synapse"]
    advice = (
        f"Expected:\n{entry.layout}\n{entry.how_to_get}\n"
        "Without any data: tuner launch --dataset phantom runs on a procedural abdomen."
    )
    if data_root is None:
        raise DataError(
            "dataset synapse needs a data root, and none was named.",
            hint=f"Name it with --data-root DIR or TUNER_DATA_ROOT. {advice}",
            where="dataset.name",
        )
    folder = data_root / "synapse"
    needed = (f"{LISTS}/train.txt", f"{LISTS}/test_vol.txt", SLICES)
    try:
        missing = [name for name in needed if not (folder / name).exists()]
        found = _found(data_root, folder)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", where=str(error.filename or folder)) from error
    if len(missing) == len(needed) or (missing and whole):
        raise DataError(
            f"dataset synapse is not there: {found}; missing {', '.join(missing)}.",
            hint=advice,
            where=str(folder),
        )
    return folder


def read_list(path: Path) -> tuple[list[str], list[str]]:
    """Read names, one a line, and the defects of the list: strange names and repeated ones."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return [], [f"{path}: the list is not there"]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"{path}: cannot be read as text: {error}"]
    names: dict[str, int] = {}
    defects = []
    for number, line in enumerate(lines, 1):
        name = line.strip().removesuffix(".npz").removesuffix(".npy.h5")
        if not name:
            continue
        if not all(char.isalnum() or char in "._-" for char in name) or name.startswith("."):
            defects.append(f"{path}:{number}: {name!r} is not a name (letters, digits, '.', '_', '-')")
        elif name in names:
            defects.append(f"{path}:{number}: {name} is listed twice, first in line {names[name]}")
        else:
            names[name] = number
    return list(names), defects


def read_slice(path: Path) -> tuple[Image, Label]:
    """Read a training slice as [H, W] float32 and [H, W] uint8; DataError names what is wrong with it."""
    image, label = _read(path, "npz", lambda: _arrays_of_npz(path))
    return _check(path, image, label, dims=2)


def read_volume(path: Path) -> tuple[Image, Label]:
    """Read a test volume as [slices, H, W] float32 and uint8; DataError names what is wrong with it."""
    image, label = _read(path, "h5", lambda: _arrays_of_h5(path))
    return _check(path, image, label, dims=3)


def read_image_only(path: Path) -> Image:
    """Read the array `image` of an npz or h5 file, labels or none beside it, as [slices, H, W] float32.

    Raises:
        DataError: It cannot be read, has not two or three axes, or holds what is no finite number.
    """
    kind = "npz" if path.name.lower().endswith(".npz") else "h5"
    arrays = _arrays_of_npz if kind == "npz" else _arrays_of_h5
    (image,) = _read(path, kind, lambda: arrays(path, ("image",)))
    if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.kind not in "fiub":
        raise DataError(
            f"image is {image.dtype} of shape {image.shape}, expected [H, W] or [slices, H, W].", where=str(path)
        )
    broken = int(np.count_nonzero(~np.isfinite(image)))
    if broken:
        raise DataError(f"image holds {broken} pixels that are not finite (NaN or infinity).", where=str(path))
    return np.asarray(image if image.ndim == 3 else image[None], np.float32)


def slice_shape(path: Path) -> tuple[int, ...]:
    """Return [H, W] of a training slice without reading its pixels."""

    def shape() -> tuple[int, ...]:
        with zipfile.ZipFile(path) as archive, archive.open("image.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(int(extent) for extent in read(file)[0])

    return _read(path, "npz", shape)


def volume_shape(path: Path) -> tuple[int, ...]:
    """Return [slices, H, W] of a test volume without reading its pixels."""

    def shape() -> tuple[int, ...]:
        import h5py

        with h5py.File(path) as file:
            return tuple(int(extent) for extent in _datasets(file)[0].shape)

    return _read(path, "h5", shape)


def defects_of(image: NDArray[Any], label: NDArray[Any], *, dims: int, classes: int = CLASSES) -> list[str]:
    """List what is wrong with an image and its label."""
    names = {2: "[H, W]", 3: "[slices, H, W]"}
    found = [
        f"{name} has shape {array.shape}, expected {names[dims]}"
        for name, array in (("image", image), ("label", label))
        if array.ndim != dims or 0 in array.shape
    ]
    for name, array in (("image", image), ("label", label)):
        if array.dtype.kind not in "fiub":
            return [*found, f"{name} holds {array.dtype}, not numbers"]
    if not found and image.shape != label.shape:
        found.append(f"image {image.shape} and label {label.shape} differ in shape")
    broken = int(np.count_nonzero(~np.isfinite(image)))
    if broken:
        found.append(f"image holds {broken} pixel{'s' * (broken != 1)} that are not finite (NaN or infinity)")
    finite = label[np.isfinite(label)] if label.dtype.kind == "f" else label
    fractions = finite.size < label.size or (label.dtype.kind == "f" and bool((finite != np.rint(finite)).any()))
    if fractions:
        found.append("label holds values that are not whole numbers")
    elif label.size and not 0 <= label.min() <= label.max() < classes:
        wrong = np.unique(label[(label < 0) | (label >= classes)])
        listed = ", ".join(f"{value:g}" for value in wrong[:8]) + (", …" if len(wrong) > 8 else "")
        found.append(f"label holds {listed}; expected 0 to {classes - 1}")
    return found


def _check(path: Path, image: NDArray[Any], label: NDArray[Any], *, dims: int) -> tuple[Image, Label]:
    found = defects_of(image, label, dims=dims)
    if found:
        raise DataError("; ".join(found) + ".", where=str(path))
    return image.astype(np.float32, copy=False), label.astype(np.uint8)


def _arrays_of_npz(path: Path, keys: Sequence[str] = _KEYS) -> tuple[NDArray[Any], ...]:
    # Opened here: numpy leaves the files open that it cannot read.
    with path.open("rb") as handle:
        file = np.load(handle, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("not an npz archive")
        with file:
            _need_keys(file.files, keys)
            return tuple(file[key] for key in keys)


def _arrays_of_h5(path: Path, keys: Sequence[str] = _KEYS) -> tuple[NDArray[Any], ...]:
    import h5py

    with h5py.File(path) as file:
        return tuple(np.asarray(array) for array in _datasets(file, keys))


def _datasets(file: Any, keys: Sequence[str] = _KEYS) -> tuple[Any, ...]:
    """The arrays of an open h5 file. A link into another file could show whatever that file holds."""
    import h5py

    _need_keys(list(file.keys()), keys)
    for key in keys:
        is_own = isinstance(file.get(key, getlink=True), h5py.HardLink)
        if not (is_own and isinstance(file[key], h5py.Dataset)):
            raise DataError(f"{key!r} is {'a group' if is_own else 'a link out of the file'}, not an array.")
    return tuple(file[key] for key in keys)


def _need_keys(found: Sequence[str], keys: Sequence[str] = _KEYS) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise DataError(f"no array {' and '.join(map(repr, missing))}; found {', '.join(found) or 'none'}.")


def _read(path: Path, kind: str, read: Callable[[], Found]) -> Found:
    if not path.is_file():
        raise DataError("the file is not there.", where=str(path))
    try:
        return read()
    except DataError as error:
        raise DataError(error.message, where=str(path)) from None
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        size = path.stat().st_size
        raise DataError(f"cannot be read as {kind} ({size} bytes; truncated?): {reason}.", where=str(path)) from error


def _found(data_root: Path, folder: Path) -> str:
    if not data_root.is_dir():
        return f"{data_root} is not a folder"
    place = folder if folder.is_dir() else data_root
    names = sorted(path.name for path in place.iterdir())
    return f"{place} holds {', '.join(names[:8]) or 'nothing'}{', …' if len(names) > 8 else ''}"


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

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
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


OFFICIAL_TRAIN = tuple(
    f"case{number:04d}" for number in (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
)
OFFICIAL_TEST = tuple(f"case{number:04d}" for number in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))

RAW_TO_SYNAPSE = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}
"""Label ids of the challenge's files -> ids of the benchmark; every other one becomes background."""

RAW_LABELS = 14
"""Ids of the challenge's files are 0 to 13."""
