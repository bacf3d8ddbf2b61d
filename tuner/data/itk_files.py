"""NRRD and MetaImage volumes, by SimpleITK: where their voxels are, their values, and masks that lie on them.

SimpleITK is imported where a file is opened. Its directions are turned to those of NIfTI (x to the right, y to the
front).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError

Affine = NDArray[np.float64]
ITK = (".nrrd", ".mha", ".mhd")

_HEAD_BYTES = 1 << 16
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_SPACE_UNITS = re.compile(rb'^space units:\s*"([^"]*)"', re.MULTILINE | re.IGNORECASE)
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_companion(path: Path) -> Path | None:
    """Return the file beside that holds the values of a head; None where they follow it in the same file.

    Raises:
        DataError: It lies elsewhere, or there are several.
    """
    head = _head(path)
    match = _DATA_FILE.search(head)
    if match is None and not _is_nrrd(path):
        # What comes later than that is not looked for: it might name any file.
        raise DataError(f"its head does not say where its values are ({len(head)} bytes were read).", where=str(path))
    if match is None or match[1].upper() == b"LOCAL":
        return None
    name = match[1].decode("utf-8", "replace")
    if name.upper().startswith("LIST") or "%" in name or "/" in name or "\\" in name or not name.isprintable():
        raise DataError(
            f"its values are in {name!r}; in the file itself, or in one file of its folder, they would be read.",
            where=str(path),
        )
    return path.parent / name


def itk_head(path: Path) -> tuple[tuple[int, ...], Affine, str | None]:
    """Return the shape [x, y, z] or [x, y, z, C], the affine, and the unit where the head names one."""
    with _said(path):
        reader = _reader(path)
        reader.ReadImageInformation()
        shape = tuple(map(int, reader.GetSize()))
        components = int(reader.GetNumberOfComponents())
        affine = _affine(reader)
    shape += (1,) * (3 - len(shape))
    return (*shape, components) if components > 1 else shape, affine, _unit(path)


def itk_values(path: Path) -> NDArray[Any]:
    """Read the values as [x, y, z], or [x, y, z, C]."""
    import SimpleITK

    with _said(path):
        image = _reader(path).Execute()
        values: NDArray[Any] = SimpleITK.GetArrayFromImage(image)
        vectors = image.GetNumberOfComponentsPerPixel() > 1
    space = values.ndim - vectors
    if space == 2:
        values = values[None]
    return np.moveaxis(values, -1, 0).T if vectors else values.T


def itk_mask(source: Path, labels: NDArray[Any], name: str) -> dict[str, bytes]:
    """Return the files of a mask, [x, y, z], that lies on the image `source`, by name; `name` is the first one's."""
    import SimpleITK

    with _said(source):
        reader = _reader(source)
        reader.ReadImageInformation()
        planes = np.ascontiguousarray(labels.T)
        dimensions = min(reader.GetDimension(), 3)
        image = SimpleITK.GetImageFromArray(planes[0] if dimensions == 2 else planes)
        direction = np.array(reader.GetDirection()).reshape((reader.GetDimension(),) * 2)[:dimensions, :dimensions]
        image.SetSpacing(reader.GetSpacing()[:dimensions])
        image.SetOrigin(reader.GetOrigin()[:dimensions])
        image.SetDirection([float(cosine) for cosine in direction.ravel()])
        with TemporaryDirectory() as folder:
            SimpleITK.WriteImage(image, str(Path(folder, name)), True)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir(), key=lambda one: one.name)}


def _is_nrrd(path: Path) -> bool:
    return path.name.lower().endswith(".nrrd")


def _head(path: Path) -> bytes:
    """Return the text at the beginning of a file: of NRRD up to its first empty line."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not _is_nrrd(path):
        return head
    text, *values = re.split(rb"\r?\n\r?\n", head, maxsplit=1)
    if not values and len(head) == _HEAD_BYTES:
        raise DataError(f"its head has no end in {_HEAD_BYTES} bytes.", where=str(path))
    return text


def _reader(path: Path) -> Any:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    companion = itk_companion(path)
    if companion is not None and not companion.is_file():
        raise DataError(f"its values are in {companion.name}, which is not there.", where=str(path))
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    return reader


def _affine(reader: Any) -> Affine:
    dimensions = int(reader.GetDimension())
    space = min(dimensions, 3)
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:space, :space]
    affine = np.eye(4)
    affine[:space, :space] = direction * np.array(reader.GetSpacing())[:space]
    affine[:space, 3] = np.array(reader.GetOrigin())[:space]
    turned: Affine = _FLIP @ affine
    return turned


def _unit(path: Path) -> str | None:
    match = _SPACE_UNITS.search(_head(path)) if _is_nrrd(path) else None
    return match[1].decode("utf-8", "replace") if match else None


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what SimpleITK raises into a DataError."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[-1] if lines else type(error).__name__).rstrip(".")
        size = path.stat().st_size if path.is_file() else 0
        raise DataError(
            f"cannot be read as {path.suffix[1:].upper()} ({size} bytes; truncated?): {reason}.", where=str(path)
        ) from error
