"""Signing in: sessions of their own, a limit and a log for guesses, no way to elsewhere, no connection that stays."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

import api.connections
import api.sessions
from api.config import ServiceSettings
from api.pages.sign_in import local_address
from api.server import _options
from api.sessions import IDLE_S, LASTS_S, MAX_FAILURES, WINDOW_S, RateLimit, Sessions
from tests.api.conftest import settings_in
from tests.api.test_contract import STUDY, error_of
from tests.api.test_security import BEARER, TOKEN
from tuner.storage.storage import Storage


@contextmanager
def guarded_service(folder: Path, *, private: bool = False) -> Iterator[str]:
    """Serve as `tuner serve` does, with a token."""
    config = ServiceSettings(settings_in(folder, TOKEN), private=private)
    with Storage.open(config.settings.storage, create=True, retry_timeout_s=2) as store:
        options = _options(store, config)
        options.port = 0
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def guarded(folder: Path) -> Iterator[str]:
    """Address of a service with a token; reading is open."""
    with guarded_service(folder) as address:
        yield address


def signed_in(address: str) -> httpx.Client:
    """Sign in with a browser of its own."""
    client = httpx.Client(base_url=address, headers={"Origin": address}, timeout=60)
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    return client


def test_every_sign_in_is_a_session_of_its_own_and_can_be_ended(guarded: str) -> None:
    """One constant cookie for everybody could be taken from nobody."""
    with closing(signed_in(guarded)) as one, closing(signed_in(guarded)) as other:
        cookie = one.cookies["tuner_session"]
        assert cookie != other.cookies["tuner_session"]
        assert one.post(f"{STUDY}/pause").status_code == 200
        assert one.post("/logout").status_code == 303
        with httpx.Client(base_url=guarded, headers={"Origin": guarded}, cookies={"tuner_session": cookie}) as thief:
            assert thief.post(f"{STUDY}/pause").status_code == 401
        assert other.post(f"{STUDY}/pause").status_code == 200


def test_sessions_end_by_themselves() -> None:
    """After a day without a request, and after a week in any case; their secrets are not kept."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    used, left = sessions.begin("anna", "0"), sessions.begin("anna", "0")
    for _ in range(int(LASTS_S / IDLE_S * 2) - 1):
        now[0] += IDLE_S / 2
        assert sessions.find(used)
    assert not sessions.find(left)
    now[0] = LASTS_S
    assert not sessions.find(used)
    assert used not in repr(vars(sessions))
    assert not sessions.find("")


def test_guesses_are_limited_for_each_address() -> None:
    """The window slides: after a minute the oldest is forgotten."""
    now = [0.0]
    guesses = RateLimit(MAX_FAILURES, lambda: now[0])
    for _ in range(MAX_FAILURES):
        assert guesses.wait_s("one") == 0
        guesses.note("one")
        now[0] += 1
    assert guesses.wait_s("one") == pytest.approx(WINDOW_S - MAX_FAILURES)
    assert guesses.wait_s("other") == 0
    now[0] += guesses.wait_s("one")
    assert guesses.wait_s("one") == 0


def test_wrong_tokens_are_limited_and_logged(
    guarded: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the form and by the header alike; who has the token is let through by the header."""
    monkeypatch.setattr(logging.getLogger("api"), "propagate", True)
    caplog.set_level(logging.INFO, "api.sessions")
    with httpx.Client(base_url=guarded, timeout=60) as client:
        for turn in range(MAX_FAILURES):
            if turn % 2:
                assert client.post("/login", data={"token": f"guess {turn}"}).status_code == 401
            else:
                wrong = {"Authorization": f"Bearer guess-{turn}"}
                assert client.post(f"{STUDY}/pause", headers=wrong).status_code == 401
        refused = client.post("/login", data={"token": TOKEN})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        limited = client.post(f"{STUDY}/pause", headers={"Authorization": "Bearer x"})
        assert limited.status_code == 429
        assert error_of(limited)["code"] == "too_many_requests"
        assert client.post(f"{STUDY}/pause", headers=BEARER).status_code == 200
    assert caplog.text.count("127.0.0.1") >= MAX_FAILURES
    assert "guess" not in caplog.text


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/studies/a?state=PRUNED&sort=value", "/studies/a?state=PRUNED&sort=value"),
        ("/studies/%C3%A9", "/studies/%C3%A9"),
        ("/studies/é", "/studies/%C3%A9"),
        ("/é/evil.example", "/%C3%A9/evil.example"),
        ("é//evil.example", "/"),
        ("/ü/../x", "/%C3%BC/../x"),
        *((wrong, "/") for wrong in (
            "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
            "/\t/evil.example", "/\r\nSet-Cookie: a=b"," //evil.example", "\u00a0//evil.example",
            "javascript:alert(1)", "", "evil.example", "/\u2028/evil", "http:/evil.example",
        )),
    ],
)  # fmt: skip
def test_sign_in_leads_back_and_nowhere_else(target: str, location: str) -> None:
    """What is checked is what is sent: characters that are left out afterwards make `//host` of `/é/host`."""
    assert local_address(target) == location


def test_sign_in_leads_back_to_the_whole_address(folder: Path) -> None:
    """With its query: a filtered table is what was asked for."""
    with guarded_service(folder, private=True) as address, httpx.Client(base_url=address, timeout=60) as client:
        asked = "/studies/organs/trials?state=PRUNED&sort=value"
        to_login = client.get(asked, headers={"Accept": "text/html"})
        assert to_login.status_code == 303
        form = client.get(to_login.headers["Location"])
        assert 'value="/studies/organs/trials?state=PRUNED&amp;sort=value"' in form.text
        answer = client.post("/login", data={"token": TOKEN, "next": asked}, headers={"Origin": address})
        assert answer.headers["Location"] == asked
        assert client.get(asked, headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "], ids=["nothing", "half a head"]
)
def test_a_connection_that_says_nothing_is_closed(guarded: str, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Bytes that trickle in do not keep it; after an answer the limit holds for the next head."""
    monkeypatch.setattr(api.connections, "HEAD_S", 0.5)
    port = int(guarded.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 30) as fresh:
        fresh.sendall(sent)
        assert fresh.recv(100) == b""
    with socket.create_connection(("127.0.0.1", port), 30) as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in used.recv(4096)
        used.sendall(sent or b"G")
        while received := used.recv(4096):
            assert b"HTTP/1.1 200" not in received


def test_a_slow_answer_is_not_cut_off(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on what the client sends, not on what the service takes."""
    monkeypatch.setattr(api.connections, "HEAD_S", 0.01)
    with httpx.Client(base_url=guarded, timeout=60) as client:
        assert client.get("/studies/organs").status_code == 200
        assert len(client.get("/static/plotly.min.js").content) > 1_000_000
