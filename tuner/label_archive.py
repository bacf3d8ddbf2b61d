"""Label maps in one `.npz`, written so that a slice can be read alone, and read as if somebody had made it to do harm.

What `np.load` reads: a ZIP archive with a deflated `.npy` (uint8, C order) for each case. The deflate stream is flushed
in full between slices (RFC 1951 allows it anywhere; zlib: `Z_FULL_FLUSH`), and the archive's comment says where, as
JSON: `{"tuner_slices": {CASE: {"fullest": slice, "step": slices between flushes, "bytes": [compressed bytes of each
part]}}}`. Archives without it are read from the beginning of a case up to the slice.
"""

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tuner.errors import NotFoundError

Labels = NDArray[np.uint8]

MAX_CASES = 16
MAX_BYTES = 256 * 2**20
"""Bytes that a label map may unpack to: reading its last slice inflates them, in pieces."""
MAX_TOTAL = 512 * 2**20
"""Bytes that the label maps of an archive may unpack to together; further cases are not offered."""
MAX_AT_ONCE = 16 * 2**20
"""Bytes that are unpacked to find the fullest slice where the archive does not say it, or to turn a Fortran array."""
_DIRECTORY = 512 * 1024
"""Bytes of a ZIP's directory: a hundred thousand empty members cost a hundred megabytes."""
_HEADER = 16 * 1024
_PIECE = 256 * 1024
_WIDEST = 2**20
"""Pixels of a row."""
_COMMENT = 60_000
_KEY = "tuner_slices"


@dataclass(frozen=True, slots=True)
class LabelCase:
    """One case of an archive, as its header describes it."""

    name: str
    shape: tuple[int, int, int]
    """[D, H, W]"""
    fullest: int
    """The slice that shows the most; the middle one where finding out would cost too much."""


def write_label_archive(arrays: Mapping[str, Labels]) -> bytes:
    """Write label maps [H, W] or [D, H, W]. They shrink to a hundredth at the fastest level already."""
    if sum(array.nbytes for array in arrays.values()) >= 2**31:  # more than plain ZIP holds, or anybody could look at
        large = io.BytesIO()
        np.savez_compressed(large, **arrays)  # type: ignore[arg-type]
        return large.getvalue()
    parts = {name: _deflate(np.ascontiguousarray(array)) for name, array in arrays.items()}
    buffer = io.BytesIO()
    entries = []
    for name, (array_bytes, checksum, pieces, _) in parts.items():
        title = f"{name}.npy".encode()
        size = sum(map(len, pieces))
        facts = struct.pack("<HHHHHIIIHH", 20, 0x800, 8, 0, 33, checksum, size, array_bytes, len(title), 0)
        entries.append((title, facts, buffer.tell()))
        buffer.write(b"PK\x03\x04" + facts + title)
        buffer.writelines(pieces)
    start = buffer.tell()
    for title, facts, offset in entries:
        buffer.write(b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, offset) + title)
    comment = _comment(parts)
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), buffer.tell() - start, start, len(comment))
    buffer.write(b"PK\x05\x06" + end + comment)
    return buffer.getvalue()


class LabelArchive:
    """An open archive. Every failure is a NotFoundError that says what is wrong with the file."""

    def __init__(self, handle: BinaryIO) -> None:
        """Read the directory. Raises NotFoundError."""
        self._handle = handle
        try:
            self._archive = zipfile.ZipFile(_Bounded(handle))
        except Exception as error:
            raise NotFoundError(f"the file is no readable archive: {_said(error)}.") from error
        found = [m for m in self._archive.infolist() if m.filename.endswith(".npy")]
        self._members = {m.filename.removesuffix(".npy"): m for m in found[:MAX_CASES]}
        self._index = _index(self._archive.comment)
        self._beyond = len(found) - len(self._members)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases, readable or not."""
        return tuple(self._members)

    def cases(self) -> tuple[list[LabelCase], list[str]]:
        """Return the cases that can be shown, and of the others why not. Few bytes of each are read."""
        total, unpacked = 0, 0
        cases: list[LabelCase] = []
        left_out = [f"{self._beyond} more cases than are shown."] if self._beyond else []
        for name in self._members:
            try:
                shape, _ = self._header(name)
                total += math.prod(shape)
                if total > MAX_TOTAL:
                    raise NotFoundError(f"{name!r}: with it the archive unpacks to more than {_mib(MAX_TOTAL)}.")
                fullest = self._index.get(name, {}).get("fullest")
                if not isinstance(fullest, int) or not 0 <= fullest < shape[0]:
                    unpacked += math.prod(shape)
                    fullest = self._fullest(name) if shape[0] > 1 and unpacked <= MAX_AT_ONCE else shape[0] // 2
                cases.append(LabelCase(name, shape, fullest))
            except NotFoundError as error:
                left_out.append(error.message)
        return cases, left_out

    def read(self, name: str) -> Labels:
        """Return the label map of a case, [D, H, W]. Raises NotFoundError."""
        (depth, height, width), fortran = self._header(name)
        with _explained(name):
            labels = np.empty(depth * height * width, np.uint8)
            filled = 0
            for piece in self._stream(name, 0, labels.size):
                labels[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                filled += len(piece)
        return labels.reshape((width, height, depth)).T if fortran else labels.reshape((depth, height, width))

    def read_slice(self, name: str, index: int, *, most: int | None = None) -> tuple[Labels, int]:
        """Return one slice [H, W], and the step at which its rows and columns were taken.

        `most`: the most rows or columns; of a larger slice every second, third … is taken. Raises NotFoundError.
        """
        (depth, height, width), fortran = self._header(name)
        if not 0 <= index < depth:
            raise NotFoundError(f"{name!r} has the slices 0 to {depth - 1}, not {index}.")
        step = 1 if most is None else max(1, math.ceil(max(height, width) / most))
        if fortran:
            if depth * height * width > MAX_AT_ONCE:
                raise NotFoundError(f"{name!r}: stored in Fortran order, and too large to be turned.")
            return self.read(name)[index, ::step, ::step], step
        with _explained(name):
            return self._thin(name, index, (height, width), step), step

    def _thin(self, name: str, index: int, size: tuple[int, int], step: int) -> Labels:
        """Return every `step`-th row and column of a slice; no more than a piece and a row are held at a time."""
        height, width = size
        rows: list[Labels] = []
        left, row = b"", 0
        for piece in self._stream(name, index * height * width, height * width):
            left += piece
            whole = len(left) // width
            block = np.frombuffer(left, np.uint8, whole * width).reshape(whole, width)
            rows.append(block[-row % step :: step, ::step].copy())
            left, row = left[whole * width :], row + whole
        return np.concatenate(rows)

    def _fullest(self, name: str) -> int:
        return int(np.argmax(np.count_nonzero(self.read(name), axis=(1, 2))))

    def _header(self, name: str) -> tuple[tuple[int, int, int], bool]:
        """Return [D, H, W] and whether it is in Fortran order. Raises NotFoundError: no label map, or too large."""
        member = self._members.get(name)
        if member is None:
            raise NotFoundError(f"there is no prediction of {name!r}.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotFoundError(f"{name!r}: packed by method {member.compress_type}; stored and deflated are read.")
        with _explained(name), self._archive.open(member) as file:
            shape, fortran, dtype = _npy_header(file)
        if dtype != np.uint8 or len(shape) not in (2, 3) or any(not 0 < size < 2**31 for size in shape):
            raise NotFoundError(f"{name!r}: no label map: {dtype} of shape {str(shape)[:80]}; uint8 [D, H, W] is one.")
        if math.prod(shape) > MAX_BYTES or shape[-1] > _WIDEST:
            raise NotFoundError(
                f"{name!r}: unpacks to {_mib(math.prod(shape))}, shape {shape}; at most {_mib(MAX_BYTES)} is shown."
            )
        depth, height, width = (1, *shape) if len(shape) == 2 else shape
        return (depth, height, width), fortran

    def _stream(self, name: str, offset: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes of the array from `offset` on, in pieces. Raises what reading raises."""
        member = self._members[name]
        index = self._index.get(name)
        if index is not None and member.compress_type == zipfile.ZIP_DEFLATED:
            yield from self._stream_indexed(member, index, offset, size)
            return
        with self._archive.open(member) as file:
            _npy_header(file)
            while offset:
                skipped = len(file.read(min(_PIECE, offset)))
                if not skipped:
                    raise EOFError("it ends too early")
                offset -= skipped
            while size:
                piece = file.read(min(_PIECE, size))
                if not piece:
                    raise EOFError("it ends too early")
                size -= len(piece)
                yield piece

    def _stream_indexed(
        self, member: zipfile.ZipInfo, index: Mapping[str, Any], offset: int, size: int
    ) -> Iterator[bytes]:
        """Inflate from the last flush before `offset`; the first part is the header alone."""
        (_, height, width), _ = self._header(member.filename.removesuffix(".npy"))
        part = height * width * index["step"]
        number = offset // part
        skip = offset - number * part
        begin = _data_start(self._handle, member) + sum(index["bytes"][: 1 + number])
        self._handle.seek(begin)
        inflate = zlib.decompressobj(-15)
        while size:
            packed = inflate.unconsumed_tail or self._handle.read(_PIECE)
            piece = inflate.decompress(packed, _PIECE)
            if not piece and (inflate.eof or not packed):
                raise EOFError("it ends too early")
            dropped = min(skip, len(piece))
            skip -= dropped
            piece = piece[dropped : dropped + size]
            size -= len(piece)
            if piece:
                yield piece


class _Bounded:
    """A file that gives no more than a directory's bytes at a time: `zipfile` asks for what the archive claims."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.seek, self.tell, self.seekable = handle.seek, handle.tell, handle.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._handle.read(_DIRECTORY + 1 if size < 0 else min(size, _DIRECTORY + 1))
        if len(content) > _DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has more than {_DIRECTORY} bytes")
        return content


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever reading a hostile file raises into a NotFoundError that says what it is."""
    try:
        yield
    except NotFoundError:
        raise
    except Exception as error:
        raise NotFoundError(f"{name!r}: cannot be read: {_said(error)}.") from error


def read_npy_header(content: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and length of the header that a `.npy` begins with. Raises ValueError for anything else."""
    file = io.BytesIO(content[:_HEADER])
    try:
        shape, fortran, dtype = _npy_header(file)
    except Exception as error:
        raise ValueError(_said(error)) from error
    if fortran or any(size < 0 for size in shape):
        raise ValueError("not a plain array")
    return shape, dtype, file.tell()


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # the header of the others may claim four gigabytes
        raise ValueError(f"a .npy of version {version[0]}.{version[1]}, and 1.0 is read")
    return np.lib.format.read_array_header_1_0(file, max_header_size=_HEADER)


def _deflate(array: Labels) -> tuple[int, int, list[bytes], int]:
    """Return bytes and CRC of the `.npy`, its packed parts (the header, then each slice) and the fullest slice."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    planes = array if array.ndim == 3 else array[None]
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    checksum, parts, filled = 0, [], []
    for content in (header.getvalue(), *planes):
        piece = content if isinstance(content, bytes) else content.tobytes()
        checksum = zlib.crc32(piece, checksum)
        parts.append(squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH))
        filled.append(0 if isinstance(content, bytes) else int(np.count_nonzero(content)))
    parts.append(squeeze.flush())
    return len(header.getvalue()) + array.nbytes, checksum, parts, int(np.argmax(filled[1:]))


def _comment(parts: Mapping[str, tuple[int, int, list[bytes], int]]) -> bytes:
    """Return the index, at the finest step that a comment has room for; nothing when there is none."""
    most = max((len(pieces) for _, _, pieces, _ in parts.values()), default=0)
    step = 1
    while step <= most:
        index = {}
        for name, (_, _, pieces, fullest) in parts.items():
            slices = [len(piece) for piece in pieces[1:-1]]
            sums = [sum(slices[at : at + step]) for at in range(0, len(slices), step)]
            index[name] = {"fullest": fullest, "step": step, "bytes": [len(pieces[0]), *sums]}
        comment = json.dumps({_KEY: index}, separators=(",", ":")).encode()
        if len(comment) <= _COMMENT:
            return comment
        step *= 2
    return b""


def _index(comment: bytes) -> dict[str, dict[str, Any]]:
    """Return the index that a comment holds; entries that are not one are left out."""
    try:
        found = json.loads(comment)[_KEY]
        return {
            str(name): entry
            for name, entry in found.items()
            if isinstance(entry["step"], int)
            and 0 < entry["step"] < 2**31
            and all(isinstance(size, int) and 0 <= size < 2**40 for size in entry["bytes"])
        }
    except Exception:  # an archive of before, or a comment of somebody else's
        return {}


def _data_start(handle: BinaryIO, member: zipfile.ZipInfo) -> int:
    handle.seek(member.header_offset)
    header = handle.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("a member does not begin where the directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    return member.header_offset + 30 + int(name) + int(extra)


def _said(error: Exception) -> str:
    words = " ".join(str(error).split())[:200]
    return words or type(error).__name__


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
