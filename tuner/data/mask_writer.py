"""Predicted masks as files in the format of their images, with the label ids of the data set."""

import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.atomic_io import explain_os_error, write_atomically
from tuner.colors import CLASS_COLOURS
from tuner.data.images import COLOUR
from tuner.data.inference_inputs import ARRAYS, NewCase, axes_of, mask_ending
from tuner.data.itk_files import itk_mask
from tuner.data.source import Label
from tuner.data.tiff_stacks import TIFF, spacing_file, stack_bytes
from tuner.data.volumes import is_nifti, open_nifti, turn_of
from tuner.errors import DataError

_HINT = "name another folder with -o DIR."


def mask_path(folder: Path, case: NewCase) -> Path:
    """Return where the mask of a case is written."""
    return folder / f"{case.name}{mask_ending(case)}"


def write_mask(
    folder: Path, case: NewCase, labels: Label, reading: Mapping[str, Any], *, background: bool = True
) -> Path:
    """Write the mask of a case, whole or not at all, and return its path.

    A volume is turned back to the axes of its image and lies on it: NIfTI has its affine and header, NRRD and MetaImage
    its spacing, origin and directions, a TIFF of several pages the file beside that states the spacing. PNG has a
    palette, its values are the label ids (in colour where the data set's masks are, 16 bits where an id is above 255);
    `.npz` and `.h5` hold an array `label`.

    Args:
        folder: Where it goes; created.
        case: The image.
        labels: [D, H, W] class numbers.
        reading: Of the run; its `labels` are the id of each class.
        background: Whether class 0 is background, which is black in a palette.

    Raises:
        DiskFullError: There is no space left.
        DataError: It cannot be written, or the format cannot hold it.
    """
    path = mask_path(folder, case)
    codes = np.asarray(reading["labels"], np.int32)[labels]
    ending = case.ending.lower()
    beside: dict[str, bytes] = {}
    if ending in ARRAYS:
        content = _arrays(codes, ending)
    elif path.name.endswith(".png"):
        if len(codes) != 1:
            raise DataError(f"a picture holds one slice, not {len(codes)}.", where=str(case.paths[0]))
        content = picture_bytes(codes[0], reading["labels"], background=background)
    else:
        content, beside = _volume(case.paths[0], codes, axes_of(reading), path.name)
    with explain_os_error(folder, purpose="the masks", hint=_HINT):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The head of a mask comes last: where it is, the values that it names are there.
        for name, more in beside.items():
            write_atomically(path.with_name(name), more)
        write_atomically(path, content)
    return path


def picture_bytes(codes: NDArray[np.int32], ids: Sequence[int], *, background: bool) -> bytes:
    """Return a PNG of codes [H, W] that reads back as these codes."""
    if max(ids) >= COLOUR:
        colours = codes - COLOUR
        planes = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
        picture = Pillow.fromarray(planes)
    elif max(ids) > 255:
        picture = Pillow.fromarray(codes.astype(np.uint16))
    else:
        picture = Pillow.fromarray(codes.astype(np.uint8))
        picture.putpalette(_palette(ids, background=background))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _palette(ids: Sequence[int], *, background: bool) -> list[int]:
    """Return red, green and blue of 256 values: the colours of the run's own pictures, and black for the background."""
    palette = np.zeros((256, 3), np.uint8)
    for number, code in enumerate(ids):
        if number or not background:
            palette[code] = CLASS_COLOURS[(number - int(background)) % len(CLASS_COLOURS)]
    return [int(value) for value in palette.ravel()]


def _arrays(codes: NDArray[np.int32], ending: str) -> bytes:
    buffer = io.BytesIO()
    labels = codes.astype(_whole_type(int(codes.max(initial=0))))
    if ending == ".npz":
        np.savez_compressed(buffer, label=labels[0] if len(labels) == 1 else labels)
        return buffer.getvalue()
    import h5py

    with h5py.File(buffer, "w") as file:
        file.create_dataset("label", data=labels, compression="gzip", chunks=(1, *labels.shape[1:]))
    return buffer.getvalue()


def _volume(source: Path, codes: NDArray[np.int32], axes: str | None, name: str) -> tuple[bytes, dict[str, bytes]]:
    """Return the mask of a volume in the format of its image, and the files that belong beside it, by name."""
    kind = _whole_type(int(codes.max(initial=0)))
    values = turn_of(source, axes).undo(codes).astype(kind)
    if is_nifti(source):
        return _nifti(source, values), {}
    if source.name.lower().endswith(TIFF):
        spacing = spacing_file(source)
        stem = name[: -len(source.suffix)]
        return stack_bytes(values.T), {f"{stem}.json": spacing.read_bytes()} if spacing else {}
    files = itk_mask(source, values, name)
    return files.pop(name), files


def _nifti(source: Path, values: NDArray[Any]) -> bytes:
    def made(image: Any) -> bytes:
        header = image.header.copy()
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        shape = tuple(image.shape[:3])
        content: bytes = type(image)(np.ascontiguousarray(values.reshape(shape)), image.affine, header).to_bytes()
        return content

    content = open_nifti(source, made)
    return gzip.compress(content, 5, mtime=0) if source.name.lower().endswith(".gz") else content


def _whole_type(largest: int) -> type[np.integer[Any]]:
    return np.uint8 if largest <= 255 else np.int16 if largest < 1 << 15 else np.int32
