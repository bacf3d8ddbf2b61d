"""What was found out about a file, remembered until its size or its time changes."""

import json
from pathlib import Path
from typing import Any

from tuner.atomic_io import file_hash, write_atomically


class FileMemory:
    """Findings by file, kept as JSON in the cache folder; forgetting them costs time, never correctness."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, dict[str, Any]] = _read(path) if path else {}
        self._changed = False

    def recall(self, file: Path, topic: str) -> Any | None:
        """Return what was remembered of `file` under `topic`, or None when it has changed since, or never was."""
        known = self._found.get(str(file.absolute()))
        if known is None or known.get("state") != _state(file):
            return None
        return known.get(topic)

    def remember(self, file: Path, topic: str, finding: Any) -> None:
        """Keep a finding (anything that JSON can hold, not None)."""
        state = _state(file)
        known = self._found.get(str(file.absolute()))
        if known is None or known.get("state") != state:
            known = self._found[str(file.absolute())] = {"state": state}
        known[topic] = finding
        self._changed = True

    def content_hash(self, file: Path) -> str:
        """Return the SHA-256 of the file's bytes, read at most once."""
        known = self.recall(file, "sha256")
        if known is None:
            known = file_hash(file)
            self.remember(file, "sha256", known)
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
