"""Samples of different sizes, one behind the other in one memory-mapped file, read as if they were a list of arrays."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tuner.atomic_io import cut_after
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


def between(samples: SampleArray, start: int, stop: int) -> NDArray[Any]:
    """Return the samples `start` to `stop` as one array; they must have one size, as the slices of a case have."""
    return np.asarray(samples[start:stop])


def blank_like(samples: SampleArray) -> SampleArray:
    """Return samples of the same sizes in memory, to be written into one by one."""
    if isinstance(samples, Ragged):
        return Ragged(np.zeros(sum(map(math.prod, samples.shapes)), np.uint8), samples.shapes)
    return np.zeros(samples.shape, np.uint8)


def space_of(samples: SampleArray, index: int) -> Shape:
    """Return the shape of one sample, without its first axis where that is the channels'."""
    return samples.shapes[index] if isinstance(samples, Ragged) else tuple(samples.shape[1:])


class FlatWriter:
    """Writes arrays of different sizes behind one another into a `.npy` file of one axis.

    Not through a memory map: on a full disk that ends the process by a signal instead of an error. With `written` the
    file is there, and is gone on with after as many arrays.
    """

    def __init__(self, path: Path, *, shapes: Sequence[Shape], dtype: DTypeLike, written: int = 0) -> None:
        self.path = path
        self._shapes, self._dtype = list(shapes), np.dtype(dtype)
        self.written = written
        self._handle = path.open("r+b" if written else "wb")

    def __enter__(self) -> "FlatWriter":
        total = sum(math.prod(shape) for shape in self._shapes)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (total,)}
        np.lib.format.write_array_header_1_0(self._handle, header)
        cut_after(self._handle, sum(map(math.prod, self._shapes[: self.written])) * self._dtype.itemsize)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self._handle.close()

    def append(self, sample: NDArray[Any]) -> None:
        """Add one sample; raises DataError when it has not the shape that was announced for it."""
        if self.written == len(self._shapes):
            raise DataError(f"more than the {self.written} samples that were announced.", where=self.path.name)
        if sample.shape != tuple(self._shapes[self.written]):
            raise DataError(
                f"a sample has shape {sample.shape}, not {self._shapes[self.written]}.", where=self.path.name
            )
        self._handle.write(np.ascontiguousarray(sample, self._dtype).data)
        self.written += 1

    def settle(self) -> int:
        """Bring what was written to the disk, and return how long the file is."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    @property
    def is_complete(self) -> bool:
        """Whether as many samples were written as were announced."""
        return self.written == len(self._shapes)
