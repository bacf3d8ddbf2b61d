"""TIFF files of several pages as volumes, by tifffile: pages are slices, `CASE.json` beside states their spacing.

This is nnU-Net's way (`Tiff3DIO`): {"spacing": [slices, rows, columns]}. tifffile is imported where a file is opened.
"""

import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError

TIFF = (".tif", ".tiff")

_UNREADABLE = (OSError, ValueError, RuntimeError, IndexError, KeyError, TypeError, struct.error, zlib.error, EOFError)


def is_stack(path: Path) -> bool:
    """Return whether this is a TIFF of several pages; one that cannot be opened is none."""
    if not path.name.lower().endswith(TIFF) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return len(list(islice(_pages(file), 2))) > 1
    except (OSError, struct.error):
        return False


def stack_shape(path: Path) -> tuple[int, ...]:
    """Return [x, y, z], or [x, y, z, C], from the heads of the pages."""
    shape, axes = _series(path, read=False)
    sizes = dict(zip(axes, shape, strict=True))
    place = {"X": sizes["X"], "Y": sizes["Y"], "Z": sizes["Z"]}
    return (*place.values(), sizes["C"]) if "C" in sizes else tuple(place.values())


def stack_values(path: Path) -> NDArray[Any]:
    """Read the values as [x, y, z], or [x, y, z, C]."""
    values, axes = _series(path, read=True)
    order = [axes.index(axis) for axis in "XYZC" if axis in axes]
    turned: NDArray[Any] = values.transpose(order)
    return turned


def stack_spacing(path: Path) -> tuple[float, ...] | None:
    """Return the size of a voxel [z, y, x] in mm from the file beside; None without one.

    Raises:
        DataError: It is no three positive numbers.
    """
    beside = spacing_file(path)
    if beside is None:
        return None
    try:
        spacing = json.loads(beside.read_bytes())["spacing"]
        found = tuple(float(extent) for extent in spacing)
    except (OSError, ValueError, KeyError, TypeError):
        found = ()
    if len(found) != 3 or not all(np.isfinite(extent) and extent > 0 for extent in found):
        raise DataError('holds no {"spacing": [slices, rows, columns]} in mm.', where=str(beside))
    return found


def spacing_file(path: Path) -> Path | None:
    """Return `CASE.json` beside `CASE_0000.tif` or `CASE.tif`; None where there is none."""
    stem = path.name[: -len(path.suffix)]
    named = [stem[:-5]] if len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdecimal() else []
    for name in (*named, stem):
        beside = path.with_name(f"{name}.json")
        if beside.is_file():
            return beside
    return None


def stack_bytes(labels: NDArray[Any]) -> bytes:
    """Return a TIFF whose pages are the slices of labels [D, H, W]."""
    from tifffile import imwrite

    buffer = io.BytesIO()
    imwrite(buffer, np.ascontiguousarray(labels), compression="zlib", photometric="minisblack", metadata=None)
    return buffer.getvalue()


def _series(path: Path, *, read: bool) -> tuple[Any, str]:
    """Return the shape, or the values, of the pages and the names of their axes: Z, Y, X, and C where there is one."""
    from tifffile import TiffFile

    # Its warnings are of pages that are missed, which is an error here.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as raw:
            whole = list(_pages(raw))
        with TiffFile(path) as file:
            if len(file.pages) != len(whole):
                raise ValueError(f"page {len(file.pages) + 1} is not there")
            if len(file.series) != 1:
                raise DataError(f"its {len(file.pages)} pages differ in size or kind; slices of one volume would do.")
            series = file.series[0]
            axes, shape = str(series.axes), tuple(map(int, series.shape))
            content = series.asarray() if read else shape
    except DataError as error:
        raise DataError(error.message, where=str(path)) from None
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        size = path.stat().st_size
        raise DataError(f"cannot be read as TIFF ({size} bytes; truncated?): {reason}.", where=str(path)) from error
    stacked = [axis for axis in axes if axis not in "YXSC"]
    if len(stacked) == 1:
        axes = axes.replace(stacked[0], "Z")
    elif not stacked and axes == "CYX":
        # ImageJ names the slices of a plain stack channels.
        axes = "ZYX"
    axes = axes.replace("S", "C")
    if sorted(axes) not in (sorted("ZYX"), sorted("ZYXC")):
        shown = " x ".join(map(str, shape))
        raise DataError(
            f"its pages are {series.axes} ({shown}); slices, with or without channels, would do.", where=str(path)
        )
    return content, axes


def _pages(file: BinaryIO) -> Iterator[int]:
    """Yield where the directory of each page begins, by the links from one to the next; a lost one is yielded too."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2), "")
    (magic,) = struct.unpack(f"{order or '<'}H", file.read(2))
    if not order or magic not in (42, 43):
        return
    is_big = magic == 43
    count_format, link_format, entry = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}H", f"{order}I", 12)
    file.seek(8 if is_big else 4)
    seen: set[int] = set()
    while link := file.read(struct.calcsize(link_format)):
        (offset,) = struct.unpack(link_format, link)
        if offset == 0 or offset in seen:
            return
        seen.add(offset)
        yield offset
        file.seek(offset)
        head = file.read(struct.calcsize(count_format))
        if len(head) < struct.calcsize(count_format):
            return
        file.seek(struct.unpack(count_format, head)[0] * entry, io.SEEK_CUR)
