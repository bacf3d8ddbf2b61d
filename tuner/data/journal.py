"""How far the preparing of a data set has come, so that it goes on after Ctrl-C or SIGKILL instead of beginning again.

`journal.json` beside the files names the cases that are written whole, and how long each file was then; what lies
behind that is cut off. It is written when the files are on the disk, at most every two seconds.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.atomic_io import write_atomically

NAME = "journal.json"
EVERY_S = 2.0


class Journal:
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
