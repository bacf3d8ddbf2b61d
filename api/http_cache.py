"""ETags, and a cache of contents by revision, bounded and shared by all pages.

Fifty open pages then cost one computation a revision. Nothing is lost when it is dropped.
"""

import threading
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache
from fastapi import Request, Response
from starlette.datastructures import Headers

import tuner


class NotModifiedError(Exception):
    """What the client has is still true."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


def tag_of(revision: str) -> str:
    """Return the ETag of what follows from a revision in this version of the program."""
    return f'W/"{revision}-{tuner.__version__}"'


def matches(headers: Headers, tag: str) -> bool:
    """Tell whether the client has this already (`If-None-Match`)."""
    asked = headers.get("if-none-match")
    if asked is None:
        return False
    known = {part.strip().removeprefix("W/") for part in asked.split(",")}
    return "*" in known or tag.removeprefix("W/") in known


def unless_matches(request: Request, tag: str) -> None:
    """Raise NotModifiedError when the client has this already."""
    if matches(request.headers, tag):
        raise NotModifiedError(tag)


def not_modified(tag: str) -> Response:
    """Answer that what the client has is still true."""
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})


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
