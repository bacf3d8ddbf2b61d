"""Reading pictures, resize.

Reading images and masks in the formats that Pillow reads, and finding out what is wrong with them.

Intensities: 8-bit values over 255, 16-bit values over 65535, floats as they are. The code of a mask's pixel is its
grey value or palette index, or `COLOUR` plus red, green and blue where the mask is in colour.

Resizing in the plane: images bilinear (areas are averaged where an image shrinks), labels to the nearest pixel.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.data.source import Image
from tuner.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".jp2")
"""File endings that are taken for images and masks."""

COLOUR = 1 << 24
"""Codes from here on are colours."""

Codes = NDArray[np.int32]
Found = TypeVar("Found")

_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "I", "F", "LA")
_COLOURED = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "RGBX")
# Everything that Pillow raises on files that are truncated, damaged, of another kind, or absurdly large.
_UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, RuntimeError, Pillow.DecompressionBombError)


def channels_of(path: Path) -> int:
    """Return 1 for a grey image and 3 for one in colour, from the head of the file."""
    return _read(path, lambda picture: 1 if picture.mode in _GREY else 3)


def size_of(path: Path) -> tuple[int, int]:
    """Return [H, W] of an image, from the head of the file."""
    return _read(path, lambda picture: (int(picture.height), int(picture.width)))


def read_image(path: Path, channels: int | None) -> Image:
    """Read an image as [C, H, W] float32.

    Args:
        path: The file.
        channels: 3: grey images are repeated. 1: images in colour become grey (luma). None: as in the file.

    Raises:
        DataError: It cannot be read, has several pages, or holds values that are not finite.
    """
    image = _read(path, lambda picture: _intensities(picture, channels))
    broken = int(np.count_nonzero(~np.isfinite(image)))
    if broken:
        raise DataError(f"{broken} values are not finite (NaN or infinity).", where=str(path))
    return image


def read_codes(path: Path) -> Codes:
    """Read a mask as [H, W] codes; raises DataError as `read_image`."""
    return _read(path, _codes)


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


def _intensities(picture: Pillow.Image, channels: int | None) -> Image:
    mode = picture.mode
    if mode not in (*_GREY, *_COLOURED):
        raise DataError(f"images of Pillow's mode {mode!r} are not read.")
    if mode in _COLOURED or mode == "LA":
        picture = picture.convert("L" if mode == "LA" else "RGB")
        if channels == 1:
            picture = picture.convert("L")
    values: NDArray[Any] = np.asarray(picture)
    scaled: NDArray[np.float32]
    if values.dtype == np.bool_:
        scaled = values.astype(np.float32)
    elif values.dtype == np.uint8:
        scaled = values.astype(np.float32) / np.float32(255)
    elif values.dtype.kind in "iu":
        scaled = (values / 65535).astype(np.float32)
    else:
        scaled = values.astype(np.float32)
    planes = scaled[None] if scaled.ndim == 2 else np.moveaxis(scaled, -1, 0)
    if channels == 3 and len(planes) == 1:
        planes = np.repeat(planes, 3, axis=0)
    return np.ascontiguousarray(planes, np.float32)


def _codes(picture: Pillow.Image) -> Codes:
    mode = picture.mode
    if mode in ("RGB", "RGBA", "RGBX", "PA"):
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(np.int32), -1, 0)
        coloured: Codes = COLOUR + (red << 16) + (green << 8) + blue
        return coloured
    if mode == "LA":
        picture = picture.getchannel(0)
    elif mode not in ("1", "L", "P", "I;16", "I;16L", "I;16B", "I"):
        raise DataError(f"masks of Pillow's mode {mode!r} are not read; grey, palette or RGB would do.")
    values: Codes = np.asarray(picture).astype(np.int32)
    if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
        raise DataError(f"a mask holds {values.min()} to {values.max()}; 0 to 65535 would do.")
    return values


def _read(path: Path, read: Callable[[Pillow.Image], Found]) -> Found:
    if not path.is_file():
        raise DataError("the file is not there.", where=str(path))
    try:
        with Pillow.open(path) as picture:
            pages: Any = getattr(picture, "n_frames", 1)
            if pages != 1:
                raise DataError(f"holds {pages} pages; one image a file would do.")
            return read(picture)
    except DataError as error:
        raise DataError(error.message, where=str(path)) from None
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        size = path.stat().st_size
        raise DataError(f"cannot be read as an image ({size} bytes; truncated?): {reason}.", where=str(path)) from error


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
