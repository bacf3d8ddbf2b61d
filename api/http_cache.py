"""Caches of responses by revision and by age, bounded and shared by all pages.

Fifty open pages then cost one computation a revision. Nothing is lost when it is dropped.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BYTES = 24 * 2**20


class ResponseCache:
    """Bytes by key, the least recently used forgotten first."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._most = most_bytes
        self._size = 0
        self._kept: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], make: Callable[[], bytes]) -> bytes:
        """Return what was made for this key, or make it."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = make()
        with self._lock:
            if key not in self._kept and len(made) <= self._most // 4:
                self._kept[key] = made
                self._size += _weight(key, made)
                while self._size > self._most:
                    self._size -= _weight(*self._kept.popitem(last=False))
        return made


def _weight(key: tuple[str, ...], made: bytes) -> int:
    """Count the key as well: an address may be longer than its page."""
    return len(made) + sum(map(len, key)) + 200


class TtlCache:
    """Pages as they were a moment ago, for polls of open pages only: fifty of them cost one look at the storage."""

    FOR_S = 1.5
    MOST = 256
    LONGEST = 1000

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, str, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> tuple[str, bytes] | None:
        """Return ETag and content of a page that was made a moment ago."""
        with self._lock:
            found = self._kept.get(key)
        if found is None or time.monotonic() - found[0] > self.FOR_S:
            return None
        return found[1], found[2]

    def put(self, key: tuple[str, str], tag: str, content: bytes) -> None:
        """Keep a page for a moment; not one of an address that no open page has."""
        if sum(map(len, key)) > self.LONGEST:
            return
        with self._lock:
            self._kept[key] = (time.monotonic(), tag, content)
            self._kept.move_to_end(key)
            while len(self._kept) > self.MOST:
                self._kept.popitem(last=False)
