"""Polls of open pages (`X-Poll`) are answered from what another page was told a moment ago.

Fifty pages that ask every five seconds then cost one look at the storage, one page and one compression a moment.
Everything else is answered as things are now, and ends the moment of what it asked for: no page goes back in time.
"""

from dataclasses import dataclass

from cachetools import TTLCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http_cache import matches, not_modified

POLL = "x-poll"

PAGES_S = 2.5
"""Half of the time between two polls of a page."""
FIGURES_S = 4.0
"""Less than a page waits before it asks for a figure again, so that none stays behind the study."""
MAX_BYTES = 8 * 2**20
MAX_ADDRESS = 1000
"""Characters; no open page has a longer address."""

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    tag: str
    start: Message | None
    """None where all that is known is that this tag is still true."""
    body: bytes = b""

    @property
    def weight(self) -> int:
        return len(self.body) + 2000


class PollMiddleware:
    """ASGI middleware between who may ask and what is answered; used by one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._pages: TTLCache[_Key, _Answer] = TTLCache(MAX_BYTES, PAGES_S, getsizeof=lambda kept: kept.weight)
        self._figures: TTLCache[_Key, _Answer] = TTLCache(MAX_BYTES, FIGURES_S, getsizeof=lambda kept: kept.weight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a poll from memory, or note what it is answered."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        kept = self._figures if scope["path"].startswith("/api/") else self._pages
        key = (
            scope["path"],
            scope["query_string"],
            scope.get("state", {}).get("identity"),
            headers.get("accept"),
            headers.get("accept-encoding"),
        )
        if POLL not in headers:
            await self.app(scope, receive, send)
            kept.pop(key, None)
            return
        known = kept.get(key)
        if known is not None:
            if matches(headers, known.tag):
                await not_modified(known.tag)(scope, receive, send)
                return
            if known.start is not None:
                await send(dict(known.start))
                await send({"type": "http.response.body", "body": known.body})
                return
        await self.app(scope, receive, send if len(str(key)) > MAX_ADDRESS else _noting(kept, key, send))


def _noting(kept: TTLCache[_Key, _Answer], key: _Key, send: Send) -> Send:
    """Pass a response on and keep it, when it is one that has a tag and comes in one piece."""
    start: Message | None = None

    async def noted(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = {**message, "headers": list(message["headers"])}
        elif start is not None and message["type"] == "http.response.body":
            tag = Headers(raw=start["headers"]).get("etag")
            if tag is not None and not message.get("more_body"):
                if start["status"] == 304:
                    kept[key] = _Answer(tag, None)
                elif start["status"] == 200 and len(message.get("body", b"")) < MAX_BYTES // 8:
                    kept[key] = _Answer(tag, start, message.get("body", b""))
            start = None
        await send(message)

    return noted
