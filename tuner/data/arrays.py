"""Arrays of a split (training, validation): written into a cache folder, memory-mapped; ragged where sizes differ."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tuner.atomic_io import ArrayWriter, SampleWriter, require_space
from tuner.data.cache import CACHE_HINT, ProgressLog
from tuner.data.source import IGNORE_INDEX, HasSpacing, Source, VariableSize
from tuner.errors import DataError

Shape = tuple[int, ...]


class Ragged:
    """Arrays of one type and of as many axes, each of its own size.

    Args:
        flat: All values, [sum of the sizes]; a memory map or an array.
        shapes: The shape of each array, in order.
    """

    def __init__(self, flat: NDArray[Any], shapes: Sequence[Shape]) -> None:
        self.shapes = tuple(tuple(int(extent) for extent in shape) for shape in shapes)
        self._flat = flat
        self._ends = np.cumsum([math.prod(shape) for shape in self.shapes], dtype=np.int64)
        if (int(self._ends[-1]) if self.shapes else 0) != flat.size:
            raise DataError(f"{flat.size} values are stored; the sizes of {len(self.shapes)} samples need others.")

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]]) -> "Ragged":
        """Put arrays behind one another."""
        flat = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, np.uint8)
        return cls(flat, [array.shape for array in arrays])

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        """Return one array, as a view (nothing is read before it is used), or several of one size, stacked."""
        if isinstance(index, slice):
            return np.stack([self[number] for number in range(*index.indices(len(self)))])
        shape = self.shapes[index]
        end = int(self._ends[index])
        return self._flat[end - math.prod(shape) : end].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Size of all values in bytes."""
        return int(self._flat.nbytes)


SampleArray = NDArray[Any] | Ragged
"""[N, ...]: one array where all samples have one size, else `Ragged`."""


def stack_range(samples: SampleArray, start: int, stop: int) -> NDArray[Any]:
    """Return the samples `start` to `stop` as one array; they must have one size, as the slices of a case have."""
    return np.asarray(samples[start:stop])


def zeros_like(samples: SampleArray, kind: DTypeLike = np.uint8) -> SampleArray:
    """Return samples of the same sizes in memory, to be written into one by one."""
    if isinstance(samples, Ragged):
        return Ragged(np.zeros(sum(map(math.prod, samples.shapes)), kind), samples.shapes)
    return np.zeros(samples.shape, kind)


def spatial_shape(samples: SampleArray, index: int) -> Shape:
    """Return the shape of one sample, without its first axis where that is the channels'."""
    return samples.shapes[index] if isinstance(samples, Ragged) else tuple(samples.shape[1:])


class FlatWriter(SampleWriter):
    """Writes arrays of different shapes behind one another into an array of one axis."""

    def __init__(self, path: Path, *, shapes: Sequence[Shape], dtype: DTypeLike, written: int = 0) -> None:
        total = sum(map(math.prod, shapes))
        super().__init__(path, shape=(total,), samples=list(shapes), dtype=dtype, written=written)


ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Spacing = tuple[float, ...] | None


@dataclass(frozen=True)
class Split:
    """Samples of one half of the division; the arrays are read-only memory maps."""

    images: SampleArray
    """[N, C, *S] float32, or N arrays [C, *S] of different sizes"""
    labels: SampleArray
    """[N, *S] uint8, class ids or 255 (ignore), or N arrays [*S]"""
    case_of: NDArray[np.int32]
    """[N] index into `cases`; the samples of a case follow each other, slices from the lowest up"""
    cases: tuple[str, ...]
    spacings: tuple[Spacing, ...] = ()
    """By case, the size in mm of a pixel of what is scored as one ([slices, H, W] or [*S]); empty where unknown."""

    def spacing_of(self, case: int) -> Spacing:
        """Return the spacing of a case by its number; None where it is not known."""
        return self.spacings[case] if self.spacings else None


def write_splits(
    folder: Path,
    *,
    name: str,
    class_names: Sequence[str],
    source: Source,
    cases: Mapping[str, Sequence[str]],
    on_progress: ProgressCallback | None,
) -> dict[str, Any]:
    """Write both splits and return what the manifest says of them.

    Raises:
        DataError: Labels are no classes, samples are fewer, more or of other sizes than announced, or none is labelled.
        DiskFullError: They would not fit.
    """
    spaces = {case: _spaces(source, case) for half in cases.values() for case in half}
    total, done = sum(map(len, spaces.values())), 0
    pixels = sum(math.prod(space) for case in spaces.values() for space in case)
    # An image takes four bytes a pixel and channel, a label one; what an interrupted call left is there already.
    there = sum(path.stat().st_size for path in folder.glob("*.npy"))
    needed = pixels * (4 * source.sample_shape[0] + 1) - there
    require_space(folder.parent, needed=needed, purpose="the prepared data", hint=CACHE_HINT)
    journal = ProgressLog(folder)
    for half, names in cases.items():
        for step in _write_split(folder, half, {case: spaces[case] for case in names}, source, journal):
            done += step
            if on_progress:
                on_progress("preparing", done, total)
    journal.remove()
    manifest: dict[str, Any] = {
        "class_frequencies": class_frequencies(journal.counts, name, len(class_names)),
        "class_names": list(class_names),
        "samples": {case: len(found) for case, found in spaces.items()},
    }
    return manifest | ({"spaces": spaces, "validation": list(cases["validation"])} if is_uneven(source) else {})


def _write_split(
    folder: Path, half: str, spaces: Mapping[str, Sequence[Shape]], source: Source, journal: ProgressLog
) -> Iterator[int]:
    """Write one half and yield how many samples were done each time; begins with those of an interrupted call."""
    names = list(spaces)
    done = journal.done(half)
    announced = sum(map(len, spaces.values()))
    written = sum(len(spaces[case]) for case in names[:done])
    shapes = [space for case in names for space in spaces[case]]
    with _writers(folder, half, source, shapes, written) as arrays:
        if written:
            yield written
        for number, case in enumerate(names[done:], done + 1):
            for image, label in source.samples(case):
                arrays[0].append(image)
                arrays[1].append(label)
                if half == "train":
                    journal.counts += np.bincount(label.ravel(), minlength=256)
                yield 1
            written += len(spaces[case])
            if journal.is_due() and arrays[1].written == written:
                journal.write(half, number, {array.path.name: array.settle() for array in arrays})
        if not arrays[0].is_complete:
            raise DataError(f"fewer samples than the {announced} that were announced.", where=half)


def open_validation(folder: Path, manifest: Mapping[str, Any]) -> tuple[SampleArray, SampleArray]:
    """Map the images [N, C, *S] and labels [N, *S] of the validation split of a prepared folder, without its source.

    Raises OSError, ValueError or DataError when the folder does not hold what its manifest says.
    """
    return _arrays(folder, "validation", manifest, manifest.get("validation", ()))


def open_split(folder: Path, half: str, cases: tuple[str, ...], manifest: Mapping[str, Any], source: Source) -> Split:
    """Map one half; spacings are asked of the source."""
    sizes = manifest["samples"]
    images, labels = _arrays(folder, half, manifest, cases)
    return Split(
        images=images,
        labels=labels,
        case_of=np.repeat(np.arange(len(cases), dtype=np.int32), [sizes[case] for case in cases]),
        cases=cases,
        # Distances are measured on the validation split only; the heads of all training files stay closed.
        spacings=tuple(map(source.spacing, cases)) if half == "validation" and isinstance(source, HasSpacing) else (),
    )


def label_writer(folder: Path, half: str, like: SampleArray) -> ArrayWriter | FlatWriter:
    """Return a writer of other labels for the samples of a half, of the same sizes."""
    if isinstance(like, Ragged):
        return FlatWriter(folder / _flat(half, "labels"), shapes=like.shapes, dtype="u1")
    return ArrayWriter(folder / f"{half}-labels.npy", shape=like.shape, dtype="u1")


def is_uneven(source: Source) -> bool:
    """Say whether samples keep the sizes that they have."""
    return isinstance(source, VariableSize) and source.uneven


def _spaces(source: Source, case: str) -> list[Shape]:
    """Return *S of every sample of a case, before it is read."""
    if isinstance(source, VariableSize) and source.uneven:
        return source.spaces(case)
    return [source.sample_shape[1:]] * source.count(case)


@contextmanager
def _writers(
    folder: Path, half: str, source: Source, spaces: Sequence[Shape], written: int
) -> Iterator[tuple[SampleWriter, SampleWriter]]:
    channels, *space = source.sample_shape
    with ExitStack() as stack:
        opened = stack.enter_context
        if is_uneven(source):
            shapes = [(channels, *each) for each in spaces]
            yield (
                opened(FlatWriter(folder / _flat(half, "images"), shapes=shapes, dtype="<f4", written=written)),
                opened(FlatWriter(folder / _flat(half, "labels"), shapes=spaces, dtype="u1", written=written)),
            )
        else:
            shape, flat = (len(spaces), channels, *space), (len(spaces), *space)
            yield (
                opened(ArrayWriter(folder / f"{half}-images.npy", shape=shape, dtype="<f4", written=written)),
                opened(ArrayWriter(folder / f"{half}-labels.npy", shape=flat, dtype="u1", written=written)),
            )


def class_frequencies(counts: NDArray[np.int64], name: str, classes: int) -> list[float]:
    """Return the share of each class among the labelled pixels, from the pixels of each label [256].

    Raises DataError for labels that are no classes, and where nothing is labelled.
    """
    foreign = [int(label) for label in np.flatnonzero(counts) if classes <= label != IGNORE_INDEX]
    if foreign:
        raise DataError(f"labels {foreign} are not classes of {name} (0 to {classes - 1}).")
    counted = counts[:classes]
    if not counted.sum():
        raise DataError(f"the training cases of {name} hold no labelled pixel.")
    return [float(share) for share in counted / counted.sum()]


def _arrays(
    folder: Path, half: str, manifest: Mapping[str, Any], cases: Sequence[str]
) -> tuple[SampleArray, SampleArray]:
    if "spaces" not in manifest:
        return _map(folder / f"{half}-images.npy"), _map(folder / f"{half}-labels.npy")
    spaces = [tuple(space) for case in cases for space in manifest["spaces"][case]]
    images, labels = _map(folder / _flat(half, "images")), _map(folder / _flat(half, "labels"))
    channels = images.size // max(1, labels.size)
    return Ragged(images, [(channels, *space) for space in spaces]), Ragged(labels, spaces)


def _flat(half: str, kind: str) -> str:
    return f"{half}-{kind}-flat.npy"


def _map(path: Path) -> NDArray[Any]:
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped
