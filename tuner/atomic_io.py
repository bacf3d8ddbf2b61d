"""Atomic writes, file locks, JSON lines, and full disks named as such: a file is whole or not there."""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tuner.errors import DataError, DiskFullError, RunError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def explain_os_error(folder: Path, *, purpose: str, hint: str) -> Iterator[None]:
    """Turn the system's refusals to write below `folder` into DiskFullError and DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                f"no space left for {purpose} ({_free(folder)} free).",
                hint=f"Free some space, or {hint}",
                where=str(folder),
            ) from error
        if error.errno in _FORBIDDEN or isinstance(error, (NotADirectoryError, FileExistsError)):
            raise DataError(
                f"{purpose} cannot be written: {error.strerror}.",
                hint=hint[:1].upper() + hint[1:],
                where=str(error.filename or folder),
            ) from error
        raise


def require_space(folder: Path, *, needed: int, purpose: str, hint: str) -> None:
    """Refuse to begin what cannot fit; `needed` in bytes."""
    if shutil.disk_usage(folder).free < needed:
        raise DiskFullError(
            f"no space for {purpose}: {needed / 2**20:,.1f} MiB needed, {_free(folder)} free.",
            hint=f"Free some space, or {hint}",
            where=str(folder),
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock of this host; it ends with the process, however that ends."""
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


_LOCK, _MADE = "lock", "made"
"""What a scratch folder holds."""


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Give a new hidden folder beside `target`, in which it can be made and then renamed; it is gone afterwards.

    What killed processes have left of earlier ones for the same target is removed: their lock is nobody's any more.
    """
    home, prefix = target.absolute().parent, f".{target.name}."
    _remove_scratch(home, prefix)
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
        try:
            with (scratch / _LOCK).open("xb") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # another process took it for left behind, just before the lock, and removes it
                    continue
                (scratch / _MADE).mkdir()
                yield scratch / _MADE
                return
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _remove_scratch(home: Path, prefix: str) -> None:
    """Remove scratch folders of a target whose writers are gone; whatever is not surely one stays."""
    named = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")
    beside: list[Path] = []
    with suppress(PermissionError):  # a folder may be written and not be listed
        beside = [*home.iterdir()]
    for folder in beside:
        if not named.fullmatch(folder.name) or folder.is_symlink():
            continue
        with suppress(OSError), (folder / _LOCK).open("r+b") as handle:
            if {item.name for item in folder.iterdir()} <= {_LOCK, _MADE}:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, content: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write a file that is either whole or not there; `write_file` says what the system's errors mean.

    `mode`: permissions that the file is created with, less the umask.
    """
    part = _write_part(path, content, mode)
    try:
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_part(path: Path, content: bytes | memoryview, mode: int = 0o666) -> Path:
    """Write the content beside `path` under a temporary name, down to the disk; nothing stays of what failed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return part


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class SampleWriter:
    """Writes a `.npy` file sample by sample.

    Not through a memory map: on a full disk that ends the process by a signal instead of an error. With `written` the
    file is there, and is gone on with after as many samples.

    Args:
        path: The file.
        shape: Of the whole array, as its header says.
        samples: The shape of each sample; their values stand behind one another.
        dtype: Of the values.
        written: How many samples are there already.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, ...],
        samples: Sequence[tuple[int, ...]],
        dtype: DTypeLike,
        written: int = 0,
    ) -> None:
        self.path = path
        self._shape, self._samples, self._dtype = shape, samples, np.dtype(dtype)
        self.written = written
        self._handle = path.open("r+b" if written else "wb")

    def __enter__(self) -> Self:
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._handle, header)
        # what was written after the samples that count is cut off
        self._handle.seek(sum(map(math.prod, self._samples[: self.written])) * self._dtype.itemsize, os.SEEK_CUR)
        self._handle.truncate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self._handle.close()

    def append(self, sample: NDArray[Any]) -> None:
        """Add one sample; raises DataError when it has not the shape that was announced for it."""
        if self.is_complete:
            raise DataError(f"more than the {self.written} samples that were announced.", where=self.path.name)
        wanted = tuple(self._samples[self.written])
        if sample.shape != wanted:
            raise DataError(f"a sample has shape {sample.shape}, not {wanted}.", where=self.path.name)
        self._handle.write(np.ascontiguousarray(sample, self._dtype).data)
        self.written += 1

    def settle(self) -> int:
        """Bring what was written to the disk, and return how long the file is."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    @property
    def is_complete(self) -> bool:
        """Whether as many samples were written as were announced."""
        return self.written == len(self._samples)


class ArrayWriter(SampleWriter):
    """Writes an array [N, *S] of samples [*S] of one shape."""

    def __init__(self, path: Path, *, shape: tuple[int, ...], dtype: DTypeLike, written: int = 0) -> None:
        super().__init__(path, shape=shape, samples=[shape[1:]] * shape[0], dtype=dtype, written=written)


def _free(folder: Path) -> str:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB"


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, the user's quota, the process's own limit."""


FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


@contextmanager
def space_needed(path: Path) -> Iterator[None]:
    """Turn the system's errors for lack of space into DiskFullError, for lack of permission into RunError."""
    try:
        yield
    except OSError as error:
        if error.errno in FORBIDDEN:
            raise RunError(
                f"{path.name!r} cannot be written: {error.strerror}.",
                hint="Name a folder that may be written.",
                where=str(path.parent),
            ) from error
        if error.errno not in NO_SPACE:
            raise
        raise DiskFullError(
            f"no space left to write {path.name!r} ({error.strerror}).",
            hint="Free some space; the training continues from its last checkpoint.",
            where=str(path.parent),
        ) from error


def prepare_file(path: Path, content: bytes | memoryview) -> Path:
    """Write the content beside `path` under a temporary name, down to the disk, and return that name.

    Raises:
        DiskFullError: There is no space; what was written of it is removed.
    """
    with space_needed(path):
        return _write_part(path, content)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by another content in one step. Raises DiskFullError and leaves the file as it was."""
    prepare_file(path, content).replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON document in one step."""
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by JSON lines in one step. Raises DiskFullError and leaves the file as it was."""
    write_file(path, _as_lines(lines))


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines, down to the disk. Raises DiskFullError and takes a half-written line back."""
    content = _as_lines(lines)
    with path.open("ab", buffering=0) as handle:
        size = handle.tell()
        try:
            with space_needed(path):
                left = memoryview(content)
                while left:
                    left = left[handle.write(left) :]
                os.fsync(handle.fileno())
        except DiskFullError:
            handle.truncate(size)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines up to the first one that is not whole (a killed process may leave half a line)."""
    found: list[dict[str, Any]] = []
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return found
    for line in content.split(b"\n")[:-1]:
        try:
            item = json.loads(line)
        except ValueError:
            break
        if not isinstance(item, dict):
            break
        found.append(item)
    return found


def _as_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
