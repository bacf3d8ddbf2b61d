"""Polls share an answer for a moment; whoever asks as things are now gets that, and so does the poll that follows."""

import httpx
import pytest
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import polls
from api.identity import Identity
from api.polls import PollMiddleware

POLL = {"X-Poll": "1"}


class Pages:
    """An application whose pages change when `state` does."""

    def __init__(self) -> None:
        self.state = "a"
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        tag = f'W/"{self.state}"'
        has_it = Request(scope).headers.get("if-none-match") == tag
        status = 404 if scope["path"] == "/none" else 304 if has_it else 200
        headers = {"ETag": tag} if status != 404 else {}
        await Response(None if has_it else self.state * 2000, status, headers)(scope, receive, send)


@pytest.fixture
def pages() -> Pages:
    """Pages that nobody has asked for."""
    return Pages()


def client(pages: Pages, who: list[Identity | None] | None = None) -> httpx.AsyncClient:
    """Return a client of these pages behind the middleware; `who` holds who is asking now."""
    inner = PollMiddleware(GZipMiddleware(pages, minimum_size=1000))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["identity"] = who[0] if who else None
        await inner(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


@pytest.mark.anyio
async def test_polls_share_an_answer_and_each_is_told_what_it_lacks(pages: Pages) -> None:
    """The one that has the page hears 304, the other gets the whole of it; the application was asked once."""
    async with client(pages) as ask:
        first = await ask.get("/", headers=POLL)
        again = await ask.get("/", headers={**POLL, "If-None-Match": first.headers["ETag"]})
        other = await ask.get("/", headers={**POLL, "If-None-Match": 'W/"older"'})

        assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
        assert again.headers["ETag"] == first.headers["ETag"]
        assert other.text == first.text == "a" * 2000
        assert other.headers["Content-Encoding"] == "gzip"
        assert pages.asked == 1


@pytest.mark.anyio
async def test_an_idle_page_is_never_made(pages: Pages) -> None:
    """All that is known after a 304 is the tag: a page that lacks it is made then."""
    async with client(pages) as ask:
        for _ in range(3):
            assert (await ask.get("/", headers={**POLL, "If-None-Match": 'W/"a"'})).status_code == 304
        assert pages.asked == 1
        assert (await ask.get("/", headers=POLL)).text == "a" * 2000
        assert pages.asked == 2


@pytest.mark.anyio
async def test_no_page_goes_back_in_time(pages: Pages) -> None:
    """Somebody presses a button, sees what it did, and the next poll does not take it away."""
    async with client(pages) as ask:
        await ask.get("/", headers=POLL)
        pages.state = "b"
        assert (await ask.get("/", headers=POLL)).text[0] == "a"
        assert (await ask.get("/")).text[0] == "b"
        assert (await ask.get("/", headers=POLL)).text[0] == "b"


@pytest.mark.anyio
async def test_the_moment_ends(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody stays behind the study."""
    monkeypatch.setattr(polls, "PAGES_S", 0.0)
    async with client(pages) as ask:
        await ask.get("/", headers=POLL)
        pages.state = "b"
        assert (await ask.get("/", headers=POLL)).text[0] == "b"


@pytest.mark.anyio
async def test_what_one_may_see_is_not_shown_to_another(pages: Pages) -> None:
    """A page says who is signed in and what they may do."""
    who: list[Identity | None] = [Identity("ada", "admin", "session")]
    async with client(pages, who) as ask:
        await ask.get("/", headers=POLL)
        pages.state = "b"
        who[0] = None
        assert (await ask.get("/", headers=POLL)).text[0] == "b"
        assert (await ask.get("/?state=FAIL", headers=POLL)).text[0] == "b"
        assert (await ask.get("/", headers={**POLL, "Accept-Encoding": "identity"})).text[0] == "b"
        assert pages.asked == 4


@pytest.mark.anyio
async def test_errors_are_not_kept(pages: Pages) -> None:
    """What is missing now may be there at the next poll."""
    async with client(pages) as ask:
        for _ in range(2):
            assert (await ask.get("/none", headers=POLL)).status_code == 404
        assert pages.asked == 2
