"""Cache of prepared data: folders that are whole or absent, a progress log of preparation, hashes of files.

`manifest.json`, written last, records size, time and hash of every other file of the folder. When the cache is opened
sizes and times are compared; a file whose time has changed is hashed. Anything that is off is built again.

`journal.json` beside the files names the cases that are written whole, and how long each file was then; what lies
behind that is cut off. It is written when the files are on the disk, at most every two seconds.

Hashes of files are kept until size or time changes.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.atomic_io import explain_os_error, file_hash, locked, write_atomically

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CACHE_HINT = "name another folder with --cache DIR or TUNER_CACHE; the cache may be deleted at any time."


def open_or_build(folder: Path, build: Callable[[Path], Mapping[str, Any]], *, goes_on: bool = False) -> dict[str, Any]:
    """Return the manifest of `folder`; when it is missing or damaged, build it first.

    Of several processes one builds and the others wait for it. `build` fills the folder that it is given and returns
    what the manifest shall say; when it fails nothing is left behind.

    Args:
        folder: What is opened or built; its name says what it holds.
        build: Is given an empty folder, and returns what the manifest says.
        goes_on: `build` can go on with what an interrupted call (Ctrl-C, SIGKILL) left in that folder; without it,
            it always gets an empty one.

    Raises:
        DiskFullError: No space left.
        DataError: The cache cannot be written.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest
    with explain_os_error(folder.parent, purpose="the prepared data", hint=CACHE_HINT):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock"):
            return read_manifest(folder) or _build(folder, build, goes_on=goes_on)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what the folder says about itself, or None when it is missing, truncated or damaged."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        for name, record in manifest["files"].items():
            problem = _damage(folder / name, record)
            if problem:
                logger.warning("prepared data will be built again: %s", problem)
                return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("prepared data will be built again: %s: %s", folder / MANIFEST, error)
        return None
    return manifest


def _build(folder: Path, build: Callable[[Path], Mapping[str, Any]], *, goes_on: bool) -> dict[str, Any]:
    prefix = f".{folder.name}.building-"
    scratch = folder.with_name(f"{prefix}parts")
    for leftover in folder.parent.glob(f"{prefix}*"):
        if not (goes_on and leftover == scratch):
            shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(mode=0o700, exist_ok=True)
    try:
        manifest = dict(build(scratch))
        manifest["files"] = {path.name: _record(path) for path in sorted(scratch.iterdir())}
        write_atomically(scratch / MANIFEST, json.dumps(manifest, indent=1).encode())
        scratch.chmod(0o755)
        if folder.exists():
            # Processes that have the damaged files mapped keep them; removing by rename is never seen half-done.
            folder.rename(scratch.with_name(scratch.name + ".old"))
        scratch.rename(folder)
    except Exception:
        # Not after Ctrl-C: what was written is gone on with.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(scratch.with_name(scratch.name + ".old"), ignore_errors=True)
    return manifest


def _record(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": file_hash(path)}


def _damage(path: Path, record: Mapping[str, Any]) -> str | None:
    status = path.stat()
    if status.st_size != record["bytes"]:
        return f"{path} has {status.st_size} bytes, not {record['bytes']}"
    if status.st_mtime_ns != record["mtime_ns"] and file_hash(path) != record["sha256"]:
        return f"{path} has changed since it was written"
    return None


NAME = "journal.json"
EVERY_S = 2.0


class ProgressLog:
    """Cases that are done, by half, and the pixels of each label in them."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._done: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._last = float("-inf")
        self.counts: NDArray[np.int64] = np.zeros(256, np.int64)
        """Pixels of each label in the training cases that are done; the owner adds to it."""
        self._read(folder)

    def done(self, half: str) -> int:
        """Return how many cases of a half, from the first on, are written."""
        return self._done.get(half, 0)

    def is_due(self) -> bool:
        """Say whether `write` should be called again."""
        return time.monotonic() - self._last >= EVERY_S

    def write(self, half: str, cases: int, lengths: Mapping[str, int]) -> None:
        """Note that `cases` of a half are on the disk, and how long the files are."""
        self._done[half] = cases
        self._bytes |= lengths
        content = {"done": self._done, "bytes": self._bytes, "counts": self.counts.tolist()}
        write_atomically(self._path, json.dumps(content).encode())
        self._last = time.monotonic()

    def remove(self) -> None:
        """The work is finished."""
        self._path.unlink(missing_ok=True)

    def _read(self, folder: Path) -> None:
        try:
            found: dict[str, Any] = json.loads(self._path.read_bytes())
            lengths = {str(name): int(length) for name, length in found["bytes"].items()}
            if any((folder / name).stat().st_size < length for name, length in lengths.items()):
                return
            counts = np.array(found["counts"], np.int64)
            done = {str(half): int(cases) for half, cases in found["done"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        if counts.shape == (256,):
            self.counts, self._done, self._bytes = counts, done, lengths


class FileHashCache:
    """Findings by file, kept as JSON in the cache folder; forgetting them costs time, never correctness."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, dict[str, Any]] = _read(path) if path else {}
        self._changed = False

    def get(self, file: Path, topic: str) -> Any | None:
        """Return what was remembered of `file` under `topic`, or None when it has changed since, or never was."""
        known = self._found.get(str(file.absolute()))
        if known is None or known.get("state") != _state(file):
            return None
        return known.get(topic)

    def put(self, file: Path, topic: str, finding: Any) -> None:
        """Keep a finding (anything that JSON can hold, not None)."""
        state = _state(file)
        known = self._found.get(str(file.absolute()))
        if known is None or known.get("state") != state:
            known = self._found[str(file.absolute())] = {"state": state}
        known[topic] = finding
        self._changed = True

    def content_hash(self, file: Path) -> str:
        """Return the SHA-256 of the file's bytes, read at most once."""
        known = self.get(file, "sha256")
        if known is None:
            known = file_hash(file)
            self.put(file, "sha256", known)
        return str(known)

    def save(self) -> None:
        """Write what is new; a cache that cannot be written only makes the next look slower."""
        if not self._changed or self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._found).encode())
            self._changed = False
        except OSError:
            return


def _state(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(known, dict) for known in found.values()) else {}
