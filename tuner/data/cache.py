"""Prepared data, built once per host and shared: a folder that is either whole or not there, and notices damage.

`manifest.json`, written last, records size, time and hash of every other file of the folder. When the cache is opened
sizes and times are compared; a file whose time has changed is hashed. Anything that is off is built again.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuner.atomic_io import explained, file_hash, locked, write_atomically

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
    with explained(folder.parent, purpose="the prepared data", hint=CACHE_HINT):
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
