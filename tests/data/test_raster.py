"""Picture files of every depth, band count, layout and orientation against the arrays that they were written from."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tuner.data.images import ReadOptions, channels_of, read_codes, read_image, size_of
from tuner.data.raster import decode, orient, read_head
from tuner.errors import DataError

RNG = np.random.default_rng(7)
GREY8 = RNG.integers(0, 256, (20, 30), np.uint8)
RGB8 = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GREY16 = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)
RGB16 = RNG.integers(0, 4096, (20, 30, 3)).astype(np.uint16)
RGBA16 = RNG.integers(0, 65536, (20, 30, 4)).astype(np.uint16)
BITS = RNG.integers(0, 2, (20, 30), np.uint8)


def png(depth: int, colour: int, values: np.ndarray, *, chunks: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of samples [H, W, C] as they stand, written by the format's description."""
    height, width, _ = values.shape

    def rows(part: np.ndarray) -> bytes:
        if depth == 16:
            return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part.reshape(len(part), -1))
        bits = np.unpackbits(part.reshape(len(part), -1, 1).astype(np.uint8), axis=-1)[..., 8 - depth :]
        return b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bits)

    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b"".join(rows(values[row::down, column::right]) for row, column, down, right in passes)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", head) + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values: np.ndarray, **how: Any) -> bytes:
    """A TIFF as tifffile writes it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **how)
    return buffer.getvalue()


def pillow(picture: Image.Image, kind: str, **how: Any) -> bytes:
    """A file as Pillow writes it."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def _planes(values: np.ndarray) -> np.ndarray:
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


@pytest.mark.parametrize(
    ("name", "content", "values", "white"),
    [
        pytest.param("a.png", png(16, 2, RGB16), RGB16, 65535, id="png rgb 16"),
        pytest.param("a.png", png(16, 2, RGB16, interlaced=True), RGB16, 65535, id="png rgb 16 interlaced"),
        pytest.param("a.png", png(16, 6, RGBA16), RGBA16[..., :3], 65535, id="png rgba 16"),
        pytest.param("a.png", png(16, 4, RGBA16[..., :2]), RGBA16[..., 0], 65535, id="png grey alpha 16"),
        pytest.param("a.png", png(16, 0, GREY16[..., None]), GREY16, 65535, id="png grey 16"),
        pytest.param("a.png", png(8, 2, RGB8, interlaced=True), RGB8, 255, id="png rgb 8 interlaced"),
        pytest.param("a.png", png(4, 0, GREY8[..., None] >> 4), GREY8 >> 4, 15, id="png grey 4"),
        pytest.param("a.png", png(2, 0, GREY8[..., None] >> 6), GREY8 >> 6, 3, id="png grey 2"),
        pytest.param("a.png", png(1, 0, BITS[..., None]), BITS, 1, id="png grey 1"),
        pytest.param("a.tif", tiff(RGB16, photometric="rgb"), RGB16, 65535, id="tiff rgb 16"),
        pytest.param("a.tif", tiff(RGB16, photometric="rgb", byteorder=">"), RGB16, 65535, id="tiff big endian"),
        pytest.param(
            "a.tif",
            tiff(np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate"),
            RGB16,
            65535,
            id="tiff planar",
        ),
        pytest.param(
            "a.tif",
            tiff(RGB16, photometric="rgb", tile=(16, 16), compression="lzw", predictor=2),
            RGB16,
            65535,
            id="tiff tiled lzw",
        ),
        pytest.param("a.tif", tiff(GREY16, compression="packbits"), GREY16, 65535, id="tiff packbits"),
        pytest.param("a.tif", tiff(GREY8, compression="zstd"), GREY8, 255, id="tiff zstd"),
        pytest.param("a.tif", tiff(GREY8, photometric="miniswhite"), 255 - GREY8, 255, id="tiff white is zero"),
        pytest.param("a.tif", tiff(BITS.astype(bool), photometric="minisblack"), BITS, 1, id="tiff 1 bit"),
        pytest.param("a.tif", tiff(GREY16, bigtiff=True), GREY16, 65535, id="bigtiff"),
        pytest.param(
            "a.tif",
            tiff(RGBA16, photometric="rgb", extrasamples=["unassalpha"]),
            RGBA16[..., :3],
            65535,
            id="tiff alpha",
        ),
        pytest.param(
            "a.tif", tiff(RGBA16, photometric="rgb", extrasamples=["unspecified"]), RGBA16, 65535, id="tiff 4 bands"
        ),
        pytest.param(
            "a.tif",
            tiff(np.repeat(RGB16, 2, -1), photometric="minisblack", planarconfig="contig"),
            np.repeat(RGB16, 2, -1),
            65535,
            id="tiff 6 bands",
        ),
        pytest.param("a.tif", tiff(GREY8.astype(np.float16)), GREY8, 1, id="tiff float 16"),
        pytest.param("a.tif", tiff(GREY8 / 3), GREY8 / 3, 1, id="tiff float 64"),
        pytest.param("a.pgm", b"P5 30 20 4095\n" + GREY16.astype(">u2").tobytes(), GREY16, 4095, id="pgm 12 bits"),
        pytest.param("a.ppm", b"P6\n# c\n30 20\n65535\n" + RGB16.astype(">u2").tobytes(), RGB16, 65535, id="ppm 16"),
        pytest.param(
            "a.pnm", b"P2 30 20 255\n" + " ".join(map(str, GREY8.ravel())).encode(), GREY8, 255, id="plain pgm"
        ),
        pytest.param("a.jp2", imagecodecs.jpeg2k_encode(RGB16, level=0), RGB16, 65535, id="jpeg 2000 rgb 16"),
        pytest.param(
            "a.jp2",
            imagecodecs.jpeg2k_encode(GREY16, level=0, bitspersample=12),
            GREY16,
            4095,
            id="jpeg 2000 grey 12",
        ),
        pytest.param("a.bmp", pillow(Image.fromarray(RGB8), "BMP"), RGB8, 255, id="bmp"),
        pytest.param("a.webp", pillow(Image.fromarray(RGB8), "WEBP", lossless=True), RGB8, 255, id="webp lossless"),
        pytest.param("a.png", pillow(Image.fromarray(RGB8), "BMP"), RGB8, 255, id="another ending"),
    ],
)
def test_every_bit_arrives(name: str, content: bytes, values: np.ndarray, white: int, tmp_path: Path) -> None:
    """No depth, byte order, layout or compression loses a bit or a band: a 12-bit camera is not read as black."""
    path = tmp_path / name
    path.write_bytes(content)

    image = read_image(path, None)

    assert np.array_equal(image, (_planes(values).astype(np.float64) / white).astype(np.float32))
    assert channels_of(path) == len(image)
    assert size_of(path) == image.shape[1:]


def test_cmyk_has_its_colours(tmp_path: Path) -> None:
    """Inks are turned into red, green and blue, in JPEG and in TIFF of 16 bits."""
    flat = np.zeros((16, 16, 3), np.uint8) + np.array([200, 40, 120], np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    inks = (65535 - np.dstack([flat * np.uint16(257), np.full((16, 16, 1), 65535, np.uint16)])).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")

    for name in ("a.jpg", "a.tif"):
        assert np.allclose(read_image(tmp_path / name, 3) * 255, _planes(flat), atol=2), name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(tiff(GREY8.astype(np.int32) - 5), r"holds int32 \(-5 to 25\d\).*dataset\.low: -5", id="int32"),
        pytest.param(tiff(GREY8.astype(np.complex64)), r"complex64 is not read", id="complex"),
        pytest.param(tiff(np.stack([GREY8] * 3), photometric="minisblack"), r"holds 3 pages", id="pages"),
        pytest.param(tiff(np.stack([GREY8] * 3), imagej=True), r"holds 3 pages", id="imagej stack"),
        pytest.param(tiff(RGB8, photometric="cielab"), r"CIE L\*a\*b\* is not read; save it", id="lab"),
        pytest.param(tiff(GREY16)[:-300], r"truncated", id="tiff truncated"),
        pytest.param(
            pillow(Image.fromarray(RGB8), "TIFF", compression="tiff_lzw")[:-8],
            r"damaged or truncated",
            id="tiff tag cut",
        ),
        pytest.param(png(16, 2, RGB16)[:1500], r"cannot be read as an image", id="png truncated"),
        pytest.param(pillow(Image.fromarray(RGB8), "JPEG")[:500], r"cannot be read as an image", id="jpeg truncated"),
        pytest.param(b"P5 30 20 255\n123", r"holds 3 bytes of 600: it is truncated", id="pgm truncated"),
        pytest.param(b"P5 0 20 255\n", r"is no Netpbm picture", id="pgm empty"),
        pytest.param(b"P5 90000 90000 255\n", r"8100 million.*max_megapixels", id="pgm bomb"),
        pytest.param(
            pillow(Image.fromarray(GREY8), "GIF", save_all=True, append_images=[Image.fromarray(GREY8 // 2)], loop=0),
            r"holds 2 pages",
            id="gif",
        ),
        pytest.param(
            pillow(Image.fromarray(RGB8), "WEBP", save_all=True, append_images=[Image.fromarray(RGB8 // 2)]),
            r"holds 2 pages",
            id="webp",
        ),
    ],
)
def test_refused_by_name_with_the_remedy(content: bytes, words: str, tmp_path: Path) -> None:
    """What cannot be read rightly is refused; nothing is read halfway."""
    (tmp_path / "a.tif").write_bytes(content)

    with pytest.raises(DataError, match=rf"(?s){words}") as caught:
        read_image(tmp_path / "a.tif", None)
    assert str(tmp_path / "a.tif") in str(caught.value)


def test_damage_is_seen_where_logging_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`logging.config` disables loggers that exist, and a program may raise their level."""
    (tmp_path / "a.tif").write_bytes(pillow(Image.fromarray(RGB8), "TIFF", compression="tiff_lzw")[:-8])
    log = logging.getLogger("tifffile")
    for disabled, level in ((True, logging.NOTSET), (False, logging.CRITICAL)):
        monkeypatch.setattr(log, "disabled", disabled)
        log.setLevel(level)
        with pytest.raises(DataError, match="damaged or truncated"):
            read_image(tmp_path / "a.tif", None)
        assert (log.disabled, log.level) == (disabled, level)
    log.setLevel(logging.NOTSET)


def test_bands_are_never_dropped(tmp_path: Path) -> None:
    """Four bands where three are asked for are refused, and the option that takes them is named."""
    tifffile.imwrite(tmp_path / "a.tif", RGBA16, photometric="rgb", extrasamples=["unspecified"])

    with pytest.raises(DataError, match=r"has 4 bands, not 3.*dataset\.channels: 4"):
        read_image(tmp_path / "a.tif", 3)
    assert read_image(tmp_path / "a.tif", 4).shape == (4, 20, 30)


def test_low_and_high_are_0_and_1(tmp_path: Path) -> None:
    """The range of a 12-bit camera fills 0 to 1, negative integers too."""
    (tmp_path / "a.png").write_bytes(png(16, 2, RGB16))
    tifffile.imwrite(tmp_path / "b.tif", GREY8.astype(np.int32) - 100)

    assert np.allclose(read_image(tmp_path / "a.png", 3, ReadOptions(high=4095)), _planes(RGB16) / 4095)
    found = read_image(tmp_path / "b.tif", 1, ReadOptions(low=-100, high=155))
    assert np.allclose(found, GREY8[None] / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_exif_orientation(orientation: int, ending: str, tmp_path: Path) -> None:
    """All eight turn a picture as Pillow's own transposition does, in every format that carries the tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RGB8).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    from PIL import ImageOps

    with Image.open(path) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))

    upright = read_image(path, 3, ReadOptions(is_upright=True))

    assert np.array_equal(np.rint(upright * 255), _planes(shown))
    assert np.array_equal(np.rint(read_image(path, 3) * 255), _planes(RGB8))
    assert size_of(path, ReadOptions(is_upright=True)) == shown.shape[:2]
    assert read_head(path).orientation == orientation
    assert np.array_equal(orient(RGB8, orientation), shown)


def test_a_limit_that_can_be_raised(tmp_path: Path) -> None:
    """Pillow's guard against decompression bombs is ours to move, and is back in its place behind us."""
    Image.fromarray(RGB8).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS

    with pytest.raises(DataError, match=r"has 30 x 20 pixels.*max_megapixels"):
        decode(tmp_path / "a.png", max_pixels=599)
    assert decode(tmp_path / "a.png", max_pixels=600).values.shape == (20, 30, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_camera_s_previews_are_no_pages(tmp_path: Path) -> None:
    """Phones write the picture and its previews into one JPEG (MPO)."""
    flat = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    flat.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[flat.resize((8, 8))])

    assert read_image(tmp_path / "a.jpg", 3).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        pytest.param(lambda p: Image.fromarray(np.dstack([BITS * 255] * 3)).save(p), BITS * 255, id="equal bands"),
        pytest.param(lambda p: Image.fromarray(np.dstack([BITS * 9, BITS * 0 + 255])).save(p), BITS * 9, id="LA"),
        pytest.param(lambda p: p.write_bytes(png(16, 0, GREY16[..., None])), GREY16, id="16 bits"),
    ],
)
def test_codes_of_a_mask_that_stands_alone(make: Callable[[Path], None], values: np.ndarray, tmp_path: Path) -> None:
    """A grey mask stored as RGB holds its values, not colours: nnU-Net's labels in such files are labels."""
    make(tmp_path / "a.png")

    assert np.array_equal(read_codes(tmp_path / "a.png"), values)
