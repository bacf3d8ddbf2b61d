"""Decoding a picture file without losing anything: every bit, every band, palette, alpha and orientation.

Pillow decodes what it can hold; it keeps the high byte of 16-bit colour, scales Netpbm values and guesses at TIFF. So
TIFF is decoded by tifffile, and PNG and JPEG 2000 of more than 8 bits by imagecodecs (both pure wheels of one
maintainer, less than half of OpenCV's size, and the readers of scikit-image); Netpbm's grey and colour maps are read
here, values as they stand. What the file is, is told by its content, not by its ending.

Symbols: H, W space, C bands.
"""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tuner.errors import DataError

Kind = Literal["bilevel", "grey", "palette", "colour", "bands"]
Values = NDArray[Any]

MAX_PIXELS = 2 * 89_478_485
"""The size from which Pillow takes a file for a decompression bomb."""

ORIENTATIONS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "flipped",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 270 degrees",
    8: "turned by 270 degrees",
}
"""EXIF's tag 0x0112, by what it does."""

_ORIENTATION_TAG = 0x0112
_OPENING = threading.Lock()
_UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, RuntimeError, KeyError, IndexError, TypeError, OverflowError)
_KINDS: dict[str, Kind] = {
    "1": "bilevel",
    "L": "grey",
    "LA": "grey",
    "I": "grey",
    "F": "grey",
    "I;16": "grey",
    "I;16L": "grey",
    "I;16B": "grey",
    "I;16N": "grey",
    "P": "palette",
    "PA": "palette",
    "RGB": "colour",
    "RGBA": "colour",
    "RGBX": "colour",
    "RGBa": "colour",
    "CMYK": "colour",
    "YCbCr": "colour",
}


@dataclass(frozen=True, slots=True)
class Raster:
    """A picture as its file holds it."""

    values: Values
    """[H, W, C]: grey values or palette indices (C = 1), red, green, blue (C = 3), or bands of another number"""
    kind: Kind
    white: int | None
    """The value of white: 255, 65535, 4095, Netpbm's maxval; None where the format names none (floats, 32 bits)."""
    levels: int
    """The largest sample that the file could hold before anything was scaled: 3 of PNG with two bits, else `white`."""
    palette: NDArray[np.uint8] | None = None
    """[K, 3], of a palette"""
    alpha: NDArray[np.uint8] | None = None
    """[H, W], opaque 255"""
    is_lossy: bool = False
    orientation: int = 1
    """EXIF's 1 to 8, as in the file"""
    is_upright: bool = False
    """Whether that was applied."""

    def upright(self) -> "Raster":
        """Return the picture as a viewer shows it: the EXIF orientation, if there is one, is applied."""
        if self.is_upright or self.orientation == 1:
            return self
        alpha = None if self.alpha is None else orient(self.alpha, self.orientation)
        return replace(self, values=orient(self.values, self.orientation), alpha=alpha, is_upright=True)

    def coloured(self) -> Values:
        """Return [H, W, C] with palette indices replaced by their colours."""
        if self.palette is None:
            return self.values
        return self.palette[np.minimum(self.values[..., 0].astype(np.intp), len(self.palette) - 1)]


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of its picture before the pixels are decoded."""

    height: int
    width: int
    channels: int
    """Of an image: alpha is none, a palette has three"""
    orientation: int

    def size(self, *, upright: bool) -> tuple[int, int]:
        """[H, W], as stored or as a viewer shows it."""
        turned = upright and self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)


def orient(values: Values, orientation: int) -> Values:
    """Turn [H, W, ...] as stored into what EXIF's orientation asks for."""
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def decode(path: Path, *, max_pixels: int = MAX_PIXELS) -> Raster:
    """Decode the one picture of a file.

    Raises:
        DataError: It is missing, damaged, has several pages or more pixels than allowed, or is coded in a way that is
            not read; with the remedy.
    """
    with _named_errors(path):
        start = _start(path)
        if _is_tiff(start):
            return _decode_tiff(path, max_pixels)
        if start[:2] in (b"P2", b"P3", b"P5", b"P6"):
            return _decode_netpbm(path, max_pixels)
        with _open(path, max_pixels) as picture:
            return _decode_picture(picture, path, start)


def read_head(path: Path, *, max_pixels: int = MAX_PIXELS) -> Head:
    """Return size, channels and orientation of a file; raises DataError as `decode`, where the head shows it."""
    with _named_errors(path):
        start = _start(path)
        if _is_tiff(start):
            with _tiff_page(path, max_pixels) as page:
                colours = _tiff_channels(page)
                return Head(int(page.imagelength), int(page.imagewidth), colours, _tiff_orientation(page))
        with _open(path, max_pixels) as picture:
            kind = _kind_of(picture)
            # Pillow takes 16-bit grey with alpha for colour.
            is_grey = start[25] in (0, 4) if start.startswith(b"\x89PNG") else kind in ("bilevel", "grey")
            channels = 1 if is_grey else 3
            return Head(int(picture.height), int(picture.width), channels, _orientation_of(picture, path))


def _decode_picture(picture: Pillow.Image, path: Path, start: bytes) -> Raster:
    kind, orientation = _kind_of(picture), _orientation_of(picture, path)
    deep = _decode_deep(path, start)
    if deep is not None:
        return replace(_split_alpha(*deep), orientation=orientation)
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[np.uint8] | None = None
    if kind == "palette":
        alpha = _palette_alpha(picture)
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        values = np.asarray(picture.getchannel(0) if picture.mode == "PA" else picture)
    elif picture.mode in ("LA", "RGBA", "RGBa"):
        both = np.asarray(picture.convert("RGBA") if picture.mode == "RGBa" else picture)
        values, alpha = both[..., :-1], both[..., -1]
    else:
        values = np.asarray(picture.convert("RGB") if kind == "colour" else picture)
    white = _white_of(values.dtype)
    is_shallow = start.startswith(b"\x89PNG") and start[24] < 8 and kind == "grey"
    return Raster(
        _split_bands(values.astype(np.uint8) if values.dtype == np.bool_ else values),
        kind,
        white,
        (1 << start[24]) - 1 if is_shallow else white or 0,
        palette,
        alpha,
        _is_lossy(picture, path),
        orientation,
    )


def _white_of(dtype: np.dtype[Any]) -> int | None:
    if dtype == np.bool_:
        return 1
    return int(np.iinfo(dtype).max) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def _kind_of(picture: Pillow.Image) -> Kind:
    kind = _KINDS.get(picture.mode)
    if kind is None:
        raise DataError(f"pictures of Pillow's mode {picture.mode!r} are not read; save it as PNG in grey or RGB.")
    return kind


def _palette_alpha(picture: Pillow.Image) -> NDArray[np.uint8] | None:
    if picture.mode == "PA":
        return np.asarray(picture.getchannel(1))
    clear = picture.info.get("transparency")
    if clear is None:
        return None
    table = np.full(256, 255, np.uint8)
    if isinstance(clear, bytes):
        table[: len(clear)] = np.frombuffer(clear, np.uint8)[:256]
    else:
        table[int(clear)] = 0
    alpha: NDArray[np.uint8] = table[np.asarray(picture)]
    return alpha


def _decode_deep(path: Path, start: bytes) -> tuple[Values, int] | None:
    """Decode PNG in colour and JPEG 2000 of more than 8 bits: values, and white. None of anything else."""
    if start.startswith(b"\x89PNG") and start[24] == 16 and start[25] != 0:
        from imagecodecs import png_decode

        return np.asarray(png_decode(path.read_bytes())), 65535
    place = start.find(b"\xff\x4f\xff\x51")
    if place < 0 or start[:3] == b"\xff\xd8\xff" or len(start) < place + 43:
        return None
    precision = start[place + 42]
    if precision & 0x80:
        raise DataError("JPEG 2000 with signed values is not read; save it as TIFF or PNG.")
    if precision < 8:
        return None
    from imagecodecs import jpeg2k_decode

    return np.asarray(jpeg2k_decode(path.read_bytes())), (1 << (precision + 1)) - 1


def _split_alpha(values: Values, white: int) -> Raster:
    """Make a raster of [H, W] or [H, W, C], whose second or fourth band is alpha."""
    bands = _split_bands(values)
    alpha = None
    if bands.shape[-1] in (2, 4):
        alpha = (bands[..., -1].astype(np.float64) * (255 / white)).round().astype(np.uint8)
        bands = bands[..., :-1]
    return Raster(bands, _kind_by_count(bands.shape[-1]), white, white, None, alpha)


def _kind_by_count(count: int) -> Kind:
    return "grey" if count == 1 else "colour" if count == 3 else "bands"


def _split_bands(values: Values) -> Values:
    return values[..., None] if values.ndim == 2 else values


def _is_lossy(picture: Pillow.Image, path: Path) -> bool:
    if picture.format in ("JPEG", "MPO"):
        return True
    if picture.format != "WEBP":
        return False
    with path.open("rb") as file:  # a RIFF file: chunks of name, length and content
        file.seek(12)
        while len(chunk := file.read(8)) == 8:
            if chunk[:4] == b"VP8 ":
                return True
            length = int.from_bytes(chunk[4:], "little")
            file.seek(length + (length & 1), 1)
    return False


def _orientation_of(picture: Pillow.Image, path: Path) -> int:
    if picture.format == "PNG" and not _has_png_chunk(path, b"eXIf"):
        return 1  # Pillow would decode the whole picture to find that out
    return _sound_orientation(picture.getexif().get(_ORIENTATION_TAG, 1))


def _sound_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_png_chunk(path: Path, name: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(8)
        while len(chunk := file.read(8)) == 8:
            if chunk[4:] == name:
                return True
            file.seek(int.from_bytes(chunk[:4], "big") + 4, 1)
    return False


@contextmanager
def _open(path: Path, max_pixels: int) -> Iterator[Pillow.Image]:
    with _OPENING, warnings.catch_warnings():
        # Pillow knows one limit for the whole process; here each data set has its own.
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            picture = Pillow.open(path)
        finally:
            Pillow.MAX_IMAGE_PIXELS = limit
    with picture:
        _check_size(picture.width, picture.height, max_pixels)
        # The further pictures of a camera's MPO are previews and depths of the first.
        pages = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
        if pages != 1:
            raise _several(pages)
        yield picture


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DataError(
            f"has {width} x {height} pixels, {width * height / 1e6:.0f} million: above the limit of "
            f"{max_pixels / 1e6:.0f} million that guards against decompression bombs.",
            hint="Where the file can be trusted, raise `dataset.max_megapixels` (folder, cityscapes), or tile the "
            "picture.",
        )


def _several(pages: int) -> DataError:
    return DataError(f"holds {pages} pages; one image a file would do.")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _is_tiff(start: bytes) -> bool:
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def _tiff_page(path: Path, max_pixels: int) -> Iterator[Any]:
    import tifffile

    with _refused_damage(), tifffile.TiffFile(path) as file:
        pages = [page.aspage() for page in file.pages]
        # Reduced copies and transparency masks belong to the first picture.
        full = [page for page in pages if not page.is_reduced and not page.is_mask] or pages
        if len(full) != 1:
            raise _several(len(full))
        page = full[0]
        stack = int(np.prod(file.series[0].shape)) // max(1, int(np.prod(page.shape))) if file.is_imagej else 1
        if stack > 1 or page.imagedepth > 1:
            raise _several(max(stack, int(page.imagedepth)))
        _check_size(int(page.imagewidth), int(page.imagelength), max_pixels)
        yield page


@contextmanager
def _refused_damage() -> Iterator[None]:
    """Refuse what tifffile only logs: it goes on without a tag that it cannot read, such as the bits of a sample."""
    records: list[logging.LogRecord] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            records.append(record)
        return False

    log = logging.getLogger("tifffile")
    disabled, level = log.disabled, log.level
    log.disabled = False  # a program that configures logging may have disabled all loggers that were there
    if not log.isEnabledFor(logging.ERROR):
        log.setLevel(logging.ERROR)
    log.addFilter(collect)
    try:
        yield
    finally:
        log.removeFilter(collect)
        log.disabled = disabled
        log.setLevel(level)
    if records:
        raise DataError(f"is damaged or truncated: {records[0].getMessage()}.")


def _tiff_channels(page: Any) -> int:
    if page.photometric == 3 or (page.photometric == 5 and page.samplesperpixel == 4):
        return 3
    return int(page.samplesperpixel) - sum(int(extra) in (1, 2) for extra in page.extrasamples)


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return _sound_orientation(int(tag.value)) if tag is not None else 1


_PHOTOMETRIC = {
    4: "transparency mask",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "colour filter array",
}
_TIFF_JPEG = (6, 7, 34892, 33007)


def _decode_tiff(path: Path, max_pixels: int) -> Raster:
    with _tiff_page(path, max_pixels) as page:
        photometric, compression = int(page.photometric), int(page.compression)
        if photometric not in (0, 1, 2, 3, 5, 6) or (photometric == 6 and compression not in _TIFF_JPEG):
            name = _PHOTOMETRIC.get(photometric, "YCbCr" if photometric == 6 else f"interpretation {photometric}")
            raise DataError(f"TIFF of {name} is not read; save it in grey or RGB.")
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > path.stat().st_size:
            raise DataError(f"ends {max(ends) - path.stat().st_size} bytes before its pixels do: it is truncated.")
        values = np.asarray(page.asarray())
        if page.axes.startswith("S") and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        values = _split_bands(values)
        if values.ndim != 3 or values.dtype.kind not in "buif":
            raise DataError(f"TIFF of axes {page.axes} and type {values.dtype} is not read; save it in grey or RGB.")
        bits = page.bitspersample
        return _tiff_raster(page, values, int(bits if isinstance(bits, int) else max(bits)))


def _tiff_raster(page: Any, values: Values, bits: int) -> Raster:
    kind = values.dtype.kind
    white = None if kind in "if" or bits > 16 else (1 << bits) - 1
    values = values.astype(np.uint8) if kind == "b" else values.astype(values.dtype.newbyteorder("="), copy=False)
    colours = values.shape[-1] - len(page.extrasamples)
    photometric, palette, alpha = int(page.photometric), None, None
    if photometric == 0 and white is not None:
        values = white - values
    if photometric == 3:
        table = np.asarray(page.colormap)
        palette = (table >> 8 if table.max() > 255 else table).astype(np.uint8).T
    for place, extra in enumerate(page.extrasamples, colours):
        if int(extra) in (1, 2) and alpha is None and white is not None:
            alpha = (values[..., place].astype(np.float64) * (255 / white)).round().astype(np.uint8)
            values = np.delete(values, place, axis=-1)
    found: Kind
    if photometric == 3:
        found = "palette"
    elif photometric == 5 and values.shape[-1] == 4 and white is not None:
        ink, black = values[..., :3].astype(np.float64), values[..., 3:].astype(np.float64)
        values = ((white - ink) * (white - black) / white).round().astype(values.dtype)
        found = "colour"
    else:
        found = "bilevel" if white == 1 and values.shape[-1] == 1 else _kind_by_count(values.shape[-1])
    lossy = int(page.compression) in _TIFF_JPEG
    return Raster(values, found, white, white or 0, palette, alpha, lossy, _tiff_orientation(page))


_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([0-9]+)")


def _decode_netpbm(path: Path, max_pixels: int) -> Raster:
    """Read P2, P3, P5 and P6: values as they stand, white is the file's maxval."""
    content = path.read_bytes()
    place, numbers = 2, []
    for _ in range(3):
        match = _TOKEN.match(content, place)
        if match is None:
            raise DataError("is no Netpbm picture: width, height and maxval are missing.")
        numbers.append(int(match[1]))
        place = match.end()
    width, height, white = numbers
    if not 1 <= white <= 65535 or not width or not height:
        raise DataError(f"is no Netpbm picture: {width} x {height} pixels, maxval {white}.")
    _check_size(width, height, max_pixels)
    count = 3 if content[1:2] in b"36" else 1
    kind = np.dtype(">u2" if white > 255 else "u1")
    needed = width * height * count
    if content[1:2] in b"56":
        raster = content[place + 1 :]
        if len(raster) < needed * kind.itemsize:
            raise DataError(f"holds {len(raster)} bytes of {needed * kind.itemsize}: it is truncated.")
        if raster[needed * kind.itemsize :].lstrip()[:1] == b"P":
            raise _several(2)
        values = np.frombuffer(raster, kind, needed).astype(kind.newbyteorder("="))
    else:
        words = content[place:].split()
        if len(words) != needed:
            raise DataError(f"holds {len(words)} values of {needed}.")
        values = np.array(words, np.int64).astype(kind.newbyteorder("="))
    return Raster(values.reshape(height, width, count), _kind_by_count(count), white, white)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    if not path.is_file():
        what = "the link leads nowhere." if path.is_symlink() else "the file is not there."
        raise DataError(what, where=str(path))
    try:
        yield
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None
    except MemoryError as error:
        raise DataError("there is no memory left to decode it.", where=str(path)) from error
    except (*_UNREADABLE, Pillow.DecompressionBombError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        size = path.stat().st_size
        raise DataError(f"cannot be read as an image ({size} bytes; truncated?): {reason}.", where=str(path)) from error
