"""ETags, and caches of responses by revision and by age, bounded and shared by all pages.

Fifty open pages then cost one computation a revision. Nothing is lost when it is dropped.
"""

import threading
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache, TTLCache
from fastapi import Request, Response

import tuner

POLL = "x-poll"
"""Header of the polls of open pages: they are content with what was true a moment ago."""


class NotModifiedError(Exception):
    """What the client has is still true."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def tag_of(revision: str) -> str:
    """Return the ETag of what follows from a revision in this version of the program."""
    return f'W/"{revision}-{tuner.__version__}"'


def unless_matches(request: Request, tag: str) -> None:
    """Raise NotModifiedError when the client has this already."""
    asked = request.headers.get("if-none-match")
    if asked is None:
        return
    known = {part.strip().removeprefix("W/") for part in asked.split(",")}
    if "*" in known or tag.removeprefix("W/") in known:
        raise NotModifiedError(tag)


def tagged(content: Any, tag: str, media_type: str = "application/json") -> Response:
    """Return bytes or text with the ETag that they are true for."""
    return Response(content, media_type=media_type, headers={"ETag": tag, "Cache-Control": "no-cache"})


MAX_BYTES = 24 * 2**20


class ResponseCache:
    """Bytes by key, the least recently used forgotten first."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._kept: LRUCache[tuple[str, ...], tuple[bytes, int]] = LRUCache(most_bytes, getsizeof=lambda kept: kept[1])
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], make: Callable[[], bytes]) -> bytes:
        """Return what was made for this key, or make it."""
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            return found[0]
        made = make()
        weight = len(made) + sum(map(len, key)) + 200  # an address may be longer than its page
        if weight <= self._kept.maxsize // 4:
            with self._lock:
                self._kept[key] = made, weight
        return made


class TtlCache:
    """Pages as they were a moment ago, for polls of open pages only: fifty of them cost one look at the storage."""

    PAGES_S = 1.5
    FIGURES_S = 4.0
    """Less than a page waits before it asks for a figure again, so that none stays behind the study."""
    MOST = 256
    LONGEST = 1000

    def __init__(self, for_s: float = PAGES_S) -> None:
        self._kept: TTLCache[tuple[str, ...], tuple[str, bytes]] = TTLCache(self.MOST, for_s)
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...]) -> tuple[str, bytes] | None:
        """Return revision and content of a page that was made a moment ago."""
        with self._lock:
            return self._kept.get(key)

    def put(self, key: tuple[str, ...], revision: str, content: bytes) -> None:
        """Keep a page for a moment; not one of an address that no open page has."""
        if sum(map(len, key)) > self.LONGEST:
            return
        with self._lock:
            self._kept[key] = revision, content
