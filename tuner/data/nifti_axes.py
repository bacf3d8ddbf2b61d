"""CT scans in NIfTI whichever way their axes run: read as [slice, row, column], and label maps written the same way.

Row 0 is anterior, column 0 the patient's right, slice 0 the lowest, as in the prepared Synapse data.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.volumes import open_nifti
from tuner.errors import DataError

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
