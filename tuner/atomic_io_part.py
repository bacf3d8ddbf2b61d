"""Files that are either whole or not there, and a full disk that is called so."""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tuner.errors import DiskFullError, RunError

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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with space_needed(path), part.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return part


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
