"""Reading NIfTI.

Reading volumes: NIfTI, and single pictures as volumes of one slice.

Arrays are turned to [D, H, W], the file's third, second and first axis: slices lie along the third. nibabel is
imported where a file is opened.

CT scans in NIfTI whichever way their axes run: read as [slice, row, column], and label maps written the same way.

Row 0 is anterior, column 0 the patient's right, slice 0 the lowest, as in the prepared Synapse data.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuner.data.images import SUFFIXES, read_codes, read_image
from tuner.errors import DataError

NIFTI = (".nii.gz", ".nii")
ENDINGS = (*NIFTI, *SUFFIXES)
"""File endings that are read."""

Found = TypeVar("Found")

_DAMAGED = (OSError, ValueError, EOFError, KeyError, TypeError, zlib.error)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file are."""

    shape: tuple[int, ...]
    """[D, H, W]"""
    channels: int
    spacing: tuple[float, ...] | None
    """Along each axis of `shape`, in mm; None for a picture."""
    affine: tuple[float, ...] | None
    """The 16 numbers of the file's affine."""


def read_grid(path: Path) -> Grid:
    """Return the grid of a file from its head (a picture is read whole); DataError says what is wrong with it."""
    if not _is_nifti(path):
        planes = read_image(path, None)
        return Grid((1, *planes.shape[1:]), len(planes), None, None)
    return open_nifti(path, _grid_of)


def read_channels(path: Path) -> NDArray[np.float32]:
    """Read an image as [C, D, H, W] float32, values as in the file (a picture's over its largest).

    Raises:
        DataError: It cannot be read, or holds values that are not finite.
    """
    if not _is_nifti(path):
        return read_image(path, None)[:, None]
    values = open_nifti(path, _values_of).astype(np.float32)
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise DataError(f"{broken} voxels are not finite (NaN or infinity).", where=str(path))
    return values if values.ndim == 4 else values[None]


def read_truth(path: Path) -> NDArray[np.int32]:
    """Read a label map as [D, H, W]; DataError when it cannot be read or holds what is not a label."""
    if not _is_nifti(path):
        return read_codes(path)[None]
    values = open_nifti(path, _values_of)
    if values.ndim != 3:
        raise DataError(f"a label map has {values.ndim} axes, not 3.", where=str(path))
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all() or (np.rint(numbers) != numbers).any() or np.abs(numbers).max() >= 1 << 31:
        raise DataError("holds values that are not whole numbers.", where=str(path))
    return np.ascontiguousarray(numbers, np.int32)


def read_json(path: Path) -> dict[str, Any]:
    """Read the description of a data set; DataError when it is missing or no JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("the description of the data set is not there.", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}.", where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError(f"holds a {type(found).__name__}, not an object.", where=str(path))
    return found


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI)


def _grid_of(image: Any) -> Grid:
    shape = _shape(image)
    zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    affine = tuple(float(number) for number in np.asarray(image.affine).ravel())
    return Grid(shape[:3][::-1], shape[3] if len(shape) == 4 else 1, tuple(zooms[::-1]), affine)


def _values_of(image: Any) -> NDArray[Any]:
    kind = image.get_data_dtype()
    if kind.kind not in "biuf":
        raise DataError(f"holds values of type {kind}; whole or real numbers would do.")
    values: NDArray[Any] = np.asanyarray(image.dataobj).reshape(_shape(image)).T
    return values


def _shape(image: Any) -> tuple[int, ...]:
    shape = tuple(int(extent) for extent in image.shape)
    shape += (1,) * (3 - len(shape))
    if len(shape) > 4 or 0 in shape:
        raise DataError(f"has shape {shape}; three axes, or four with the channels last, would do.")
    return shape


def open_nifti(path: Path, read: Callable[[Any], Found]) -> Found:
    """Open a NIfTI file and return what `read` makes of it; DataError says what is wrong with the file."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not path.is_file():
        raise DataError("the file is not there.", where=str(path))
    try:
        return read(nibabel.load(path))
    except DataError as error:
        raise DataError(error.message, where=str(path)) from None
    except (*_DAMAGED, ImageFileError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        size = path.stat().st_size
        raise DataError(f"cannot be read as NIfTI ({size} bytes; truncated?): {reason}.", where=str(path)) from error


_AXES = ("L", "A", "S")


def read_scan(path: Path) -> NDArray[np.float32]:
    """Read a scan as [slices, H, W] float32 in the values of the file (HU).

    Raises:
        DataError: It cannot be read, is no volume, or holds values that are not finite.
    """
    values: NDArray[np.float32] = open_nifti(path, _turned)
    broken = int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise DataError(f"{broken} voxels are not finite (NaN or infinity).", where=str(path))
    return values


def turned_back(labels: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Take labels [slices, H, W] back to the axes of a file with this affine, [x, y, z]."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    axes = labels.transpose(2, 1, 0)[:, ::-1]
    turned: NDArray[Any] = apply_orientation(axes, ornt_transform(axcodes2ornt(_AXES), io_orientation(affine)))
    return turned


def _turned(image: Any) -> NDArray[np.float32]:
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    if len(image.shape) != 3:
        raise DataError(f"has shape {tuple(image.shape)}; a scan has three axes.")
    values = np.asarray(image.dataobj, np.float32)
    axes = apply_orientation(values, ornt_transform(io_orientation(image.affine), axcodes2ornt(_AXES)))
    return np.ascontiguousarray(axes[:, ::-1].transpose(2, 1, 0))
