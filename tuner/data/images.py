"""Images [C, H, W] and masks of codes [H, W] read from picture files, and resizing in the plane.

Intensities: white is 1 (8-bit values over 255, 16-bit values over 65535), floats are as they are; with `low` and
`high` these values of the file become 0 and 1. Alpha is left out. The code of a mask's pixel is its grey value or
palette index, or `COLOUR` plus red, green and blue where the mask is in colour.

Resizing in the plane: images bilinear (areas are averaged where an image shrinks), labels to the nearest pixel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.data.raster import MAX_PIXELS, Raster, decode, read_head
from tuner.data.source import Image
from tuner.errors import DataError

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".jp2",
)
"""File endings that are taken for images and masks."""

COLOUR = 1 << 24
"""Codes from here on are colours."""

Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the pictures of a data set are read."""

    is_upright: bool = False
    """Whether the EXIF orientation is applied."""
    max_pixels: int = MAX_PIXELS
    low: float | None = None
    """The value of the file that becomes 0; None: 0"""
    high: float | None = None
    """The value of the file that becomes 1; None: white"""


AS_STORED = ReadOptions()


def channels_of(path: Path, options: ReadOptions = AS_STORED) -> int:
    """Return the channels of an image (grey 1, colour and palettes 3, else its bands without alpha), from its head."""
    return read_head(path, max_pixels=options.max_pixels).channels


def size_of(path: Path, options: ReadOptions = AS_STORED) -> tuple[int, int]:
    """Return [H, W] of an image, from the head of the file."""
    return read_head(path, max_pixels=options.max_pixels).size(upright=options.is_upright)


def read_raster(path: Path, options: ReadOptions = AS_STORED) -> Raster:
    """Decode a picture, upright if the options say so; raises DataError."""
    raster = decode(path, max_pixels=options.max_pixels)
    return raster.upright() if options.is_upright else raster


def read_image(path: Path, channels: int | None, options: ReadOptions = AS_STORED) -> Image:
    """Read an image as [C, H, W] float32.

    Args:
        path: The file.
        channels: 3: grey images are repeated. 1: images in colour become grey (luma). None: as in the file.
        options: Orientation, range and limit.

    Raises:
        DataError: It cannot be read, has several pages, other bands than `channels`, no known range, or holds values
            that are not finite.
    """
    try:
        return intensities(read_raster(path, options), channels, options)
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None


def intensities(raster: Raster, channels: int | None, options: ReadOptions = AS_STORED) -> Image:
    """Return the image [C, H, W] float32 of a picture; raises DataError as `read_image`, without the file's name."""
    values = raster.coloured()
    white = 255 if raster.palette is not None else raster.white
    if values.dtype.kind == "f":
        broken = int(np.count_nonzero(~np.isfinite(values)))
        if broken:
            raise DataError(f"{broken} values are not finite (NaN or infinity).")
    elif white is None and options.high is None:
        raise DataError(
            f"holds {values.dtype} ({values.min()} to {values.max()}), which have no white of their own.",
            hint=f"Name the range that becomes 0 to 1: `dataset.low: {values.min()}` and "
            f"`dataset.high: {values.max()}` (folder), or store 8 or 16 bits, or floats.",
        )
    scaled = _scale(values, white, options)
    planes = np.moveaxis(scaled, -1, 0)
    if channels is not None and channels != len(planes):
        if len(planes) == 1 and channels == 3:
            planes = np.repeat(planes, 3, axis=0)
        elif len(planes) == 3 and channels == 1:
            planes = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), planes, 1)[None]
        else:
            raise DataError(
                f"has {len(planes)} band{'s' * (len(planes) != 1)}, not {channels}; none is dropped without a word.",
                hint=f"`dataset.channels: {len(planes)}` takes all of them.",
            )
    return np.ascontiguousarray(planes, np.float32)


def _scale(values: NDArray[np.generic], white: int | None, options: ReadOptions) -> NDArray[np.float32]:
    if options.low is None and options.high is None:
        if values.dtype.kind == "f" or white == 1:
            return values.astype(np.float32)
        if values.dtype == np.uint8:
            return values.astype(np.float32) / np.float32(white)
        return (values.astype(np.float64) / (white or 1)).astype(np.float32)
    low = options.low or 0.0
    high = options.high if options.high is not None else float(white or 1)
    if high <= low:
        raise DataError(f"low ({low:g}) is not below high ({high:g}).", where="dataset.low")
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)


def read_codes(path: Path, options: ReadOptions = AS_STORED) -> Codes:
    """Read a mask that stands alone as [H, W] codes: one in colour whose bands are equal is grey.

    Masks of a folder are read together (`tuner.data.mask_coding`). Raises DataError as `read_image`, and where the mask
    is drawn in its alpha.
    """
    try:
        raster = read_raster(path, options)
        if raster.alpha is not None and raster.alpha.min() < raster.alpha.max() and len(np.unique(raster.values)) == 1:
            raise DataError("one value everywhere, and a mask in its alpha; a value a class, without alpha, would do.")
        return colour_codes(raster.values) if raster.kind == "colour" and not is_grey(raster) else grey_codes(raster)
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None


def is_grey(raster: Raster) -> bool:
    """Say whether a picture in colour has three equal bands."""
    values = raster.values
    return values.shape[-1] == 3 and bool((values == values[..., :1]).all())


def grey_codes(raster: Raster) -> Codes:
    """Return grey values or palette indices [H, W]; of three equal bands the first. Raises DataError."""
    if raster.kind == "bands" or raster.values.dtype.kind == "f":
        kind = "floating point" if raster.values.dtype.kind == "f" else f"{raster.values.shape[-1]} bands"
        raise DataError(f"masks of {kind} are not read; whole numbers in grey, a palette or RGB would do.")
    values = raster.values[..., 0]
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if not 0 <= low <= high < 1 << 16:
        raise DataError(f"a mask holds {low} to {high}; 0 to 65535 would do.")
    return values.astype(np.int32)


def colour_codes(values: NDArray[np.generic]) -> Codes:
    """Return the codes [H, W] of colours [H, W, 3]; raises DataError where they have more than 8 bits."""
    if values.dtype != np.uint8:
        if values.dtype.kind != "u" or (values.astype(np.int64) % 257).any():
            raise DataError(f"masks in colour of {values.dtype} are not read; 8 bits a band would do.")
        values = values.astype(np.int64) // 257
    red, green, blue = np.moveaxis(values.astype(np.int32), -1, 0)
    codes: Codes = COLOUR + (red << 16) + (green << 8) + blue
    return codes


def code_text(code: int) -> str:
    """Return a code as study files spell it: `255`, `#ff0000`."""
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def parse_code(text: str) -> int | None:
    """Return the code that `255` or `#ff0000` spells; None when it is neither."""
    if text.startswith("#"):
        try:
            return COLOUR + int(text[1:], 16) if len(text) == 7 else None
        except ValueError:
            return None
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 1 << 16 else None


def resize_images(images: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize [..., H, W] to [..., *size]; what has the size already is returned as it is."""
    if images.shape[-2:] == size:
        return images
    height, width = size
    planes = images.reshape(-1, *images.shape[-2:])
    resized = np.empty((len(planes), height, width), np.float32)
    for index, plane in enumerate(planes):
        picture = Pillow.fromarray(np.ascontiguousarray(plane, np.float32))
        resized[index] = np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR))
    return resized.reshape(*images.shape[:-2], height, width)


def resize_labels(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Take [..., H, W] to [..., *size]: each new pixel takes the label of the old pixel that its centre lies in."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (_nearest(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    taken: NDArray[Any] = labels[..., rows[:, None], columns[None, :]]
    return taken


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    # Integers: at half-way points a float would round differently from one machine to the next.
    return ((2 * np.arange(new) + 1) * old) // (2 * new)
