"""Named tokens and roles, sessions that end with their token, limits on writes, users that a proxy has signed in."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

import api.security
from api.app import create_app
from api.config import ServiceSettings
from api.proxies import TrustedProxies
from api.roles import ADMIN, READ, RUN
from tests.api.browser import opened
from tests.api.conftest import served, settings_in
from tests.api.test_contract import STUDY, V1, error_of
from tests.api.test_security import BEARER, TOKEN
from tuner.errors import ConfigError
from tuner.settings import Settings
from tuner.storage.storage import Storage
from tuner.tokens import ROLES, TokenFile, add_token, revoke_token


@dataclass
class House:
    """A service with a token for each role."""

    url: str
    file: Path
    tokens: dict[str, str]

    def client(self, role: str | None = None) -> httpx.Client:
        """Return a program with a role; without one it is unknown."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def browser(self, role: str) -> httpx.Client:
        """Sign in."""
        client = httpx.Client(base_url=self.url, headers={"Origin": self.url, "Accept": "text/html"}, timeout=60)
        assert client.post("/login", data={"token": self.tokens[role]}).status_code == 303
        return client


@contextmanager
def house(folder: Path, *, private: bool = False, proxies: TrustedProxies | None = None) -> Iterator[House]:
    """Serve a copy of the demo to the tokens `reader`, `runner`, `adminer` and to that of the environment."""
    file = folder / "tokens.json"
    tokens = {role: add_token(file, f"{role}-token", role)[1] for role in ROLES}
    config = ServiceSettings(settings_in(folder, TOKEN), private=private, tokens=TokenFile(file))
    with served(replace(config, proxies=proxies or TrustedProxies())) as url:
        yield House(url, file, tokens)


def test_each_role_may_what_it_may(folder: Path) -> None:
    """And a refusal says which role is needed, and which one there is."""
    with house(folder, private=True) as place:
        statuses = {}
        for role in (None, *ROLES):
            with place.client(role) as client:
                statuses[role] = [
                    client.get(STUDY).status_code,
                    client.post(f"{STUDY}/pause").status_code,
                    client.delete(f"{V1}/studies/nothing").status_code,
                ]
        assert statuses == {None: [401] * 3, "read": [200, 403, 403], "run": [200, 200, 403], "admin": [200, 200, 404]}
        with place.client("read") as client:
            refused = client.post(f"{STUDY}/pause")
            message = error_of(refused)["message"]
            assert "role run" in message
            assert "'read-token' has the role read" in message
        assert httpx.post(f"{place.url}{STUDY}/pause", headers=BEARER, timeout=60).status_code == 200


def test_every_write_has_a_role(folder: Path) -> None:
    """A route that nobody has entered is an administrator's; one that is gone is no longer named."""
    with Storage.open(settings_in(folder).storage) as store:
        app = create_app(store, ServiceSettings(settings_in(folder)))
        writes = app.state.routes.names(("POST", "PUT", "PATCH", "DELETE")) - {"sign_in", "sign_out"}

    assert {*READ, *RUN, *ADMIN} == writes
    assert len(READ) + len(RUN) + len(ADMIN) == len(writes)


def test_a_revoked_token_ends_its_sessions_at_once(folder: Path) -> None:
    """In the browser that is signed in as well; other tokens are not touched."""
    with (
        house(folder, private=True) as place,
        closing(place.browser("run")) as browser,
        place.client("run") as program,
        closing(place.browser("admin")) as other,
    ):
        assert "run-token" in browser.get("/").text
        assert browser.post(f"{STUDY}/pause").status_code == 200
        assert program.get(STUDY).status_code == 200
        revoke_token(place.file, "run-token")
        assert browser.get("/").status_code == 303
        assert browser.post(f"{STUDY}/pause").status_code == 401
        assert program.get(STUDY).status_code == 401
        add_token(place.file, "run-token", "run")
        assert browser.post(f"{STUDY}/pause").status_code == 401
        assert other.get("/").status_code == 200


def test_sessions_are_listed_and_ended_by_their_own(folder: Path) -> None:
    """An administrator sees everybody's."""
    with house(folder) as place, closing(place.browser("run")) as browser, closing(place.browser("admin")) as boss:
        own = browser.get(f"{V1}/sessions").json()
        assert [(s["name"], s["role"], s["current"]) for s in own] == [("run-token", "run", True)]
        everybody = boss.get(f"{V1}/sessions").json()
        assert [s["name"] for s in everybody] == ["admin-token", "run-token"]
        assert httpx.get(f"{place.url}{V1}/sessions", timeout=60).json() == []
        assert browser.delete(f"{V1}/sessions/{everybody[0]['id']}").status_code == 404
        assert boss.delete(f"{V1}/sessions/{own[0]['id']}").status_code == 204
        assert browser.post(f"{STUDY}/pause").status_code == 401
        assert boss.get("/sessions").text.count("admin-token") >= 2


def test_writes_are_limited_for_each_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that has gone wild is slowed down; others go on, and so does reading."""
    monkeypatch.setattr(api.security, "MAX_WRITES", 3)
    with house(folder) as place, place.client("run") as wild, place.client("admin") as other:
        assert [wild.post(f"{STUDY}/pause").status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = wild.post(f"{STUDY}/pause")
        assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert "run-token" in error_of(refused)["message"]
        assert wild.get(STUDY).status_code == 200
        assert other.post(f"{STUDY}/pause").status_code == 200


def test_pages_offer_what_the_role_allows(folder: Path) -> None:
    """And say who is signed in; a page in memory is nobody else's."""
    with house(folder, private=True) as place:
        for role, shown in (("read", (False, False)), ("run", (True, False)), ("admin", (True, True))):
            with opened(place.url, width=1440) as (page, watch):
                page.goto(f"{place.url}/login?next=/studies/organs/settings")
                page.fill("input[name=token]", place.tokens[role])
                page.click("main button[type=submit]")
                page.wait_for_selector(".tabs")
                assert f"{role}-token" in page.inner_text("header")
                enqueue, delete = (page.locator(f"main button[data-dialog={name}]") for name in ("enqueue", "delete"))
                assert (enqueue.first.is_visible(), delete.last.is_visible()) == shown
                page.goto(f"{place.url}/")
                assert page.locator("a[href='/new']").first.is_visible() is shown[0]
                page.click("header button:has-text('Sign out')")
                page.wait_for_url("**/login*")
                assert not watch.errors


PROXY = TrustedProxies.resolve(
    {
        "TUNER_AUTH_HEADER": "X-Forwarded-User",
        "TUNER_AUTH_ROLE_HEADER": "X-Forwarded-Role",
        "TUNER_TRUSTED_PROXIES": "127.0.0.0/8",
    }
)
STRANGER = replace(PROXY, networks=TrustedProxies.resolve({"TUNER_TRUSTED_PROXIES": "10.9.8.7"}).networks)


def test_users_of_a_trusted_proxy_have_its_role(folder: Path) -> None:
    """Single sign-on: the service sees no password and no token."""
    with house(folder, private=True, proxies=PROXY) as place, place.client() as proxy:
        anna = {"X-Forwarded-User": "anna@lab.example"}
        assert proxy.get(STUDY, headers=anna).status_code == 200
        assert "anna@lab.example" in proxy.get("/", headers=anna).text
        refused = proxy.post(f"{STUDY}/pause", headers=anna)
        assert refused.status_code == 403
        assert "role run" in error_of(refused)["message"]
        runs = anna | {"X-Forwarded-Role": "run", "Origin": place.url}
        assert proxy.post(f"{STUDY}/pause", headers=runs).status_code == 200
        assert proxy.get(STUDY, headers={"X-Forwarded-User": ""}).status_code == 401
        for wrong in ({"X-Forwarded-Role": "root"}, {"X-Forwarded-User": "a, b"}):
            assert proxy.get(STUDY, headers=anna | wrong).status_code == 403
        twice = [("X-Forwarded-User", "anna"), ("X-Forwarded-User", "root")]
        assert proxy.get(STUDY, headers=twice).status_code == 403


def test_another_site_cannot_write_with_what_the_proxy_adds(folder: Path) -> None:
    """The proxy adds its headers, an Authorization among them, to whatever a browser is made to send."""
    with house(folder, proxies=PROXY) as place, place.client() as proxy:
        headers = {"X-Forwarded-User": "anna", "X-Forwarded-Role": "admin", "Authorization": "Bearer of the proxy"}
        evil = proxy.post(f"{STUDY}/pause", headers=headers | {"Origin": "https://evil.example"})

        assert evil.status_code == 403
        assert error_of(evil)["code"] == "bad_origin"
        assert proxy.post(f"{STUDY}/pause", headers=headers | {"Origin": place.url}).status_code == 200


def test_a_forged_header_from_elsewhere_is_ignored(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Anybody can send it; only the named proxies are believed."""
    headers = {"X-Forwarded-User": "root", "X-Forwarded-Role": "admin", "X-Forwarded-For": "10.9.8.7"}
    logger = logging.getLogger("api")
    with house(folder, private=True, proxies=STRANGER) as place, place.client() as forger:
        logger.propagate, before = True, logger.propagate
        with caplog.at_level(logging.WARNING, "api.sessions"):
            assert forger.get(STUDY, headers=headers).status_code == 401
            assert forger.post(f"{STUDY}/pause", headers=headers).status_code == 401
        logger.propagate = before
        # a handler may have seen one record twice: on the logger and, since it propagates here, on the root
        warned = {id(record) for record in caplog.records if "TUNER_TRUSTED_PROXIES" in record.getMessage()}
        assert len(warned) == 1


def test_wrong_tokens_behind_a_proxy_are_counted_for_each_client(folder: Path) -> None:
    """Otherwise one who guesses locks everybody out; an address that a client invents stands before its own."""
    with house(folder, proxies=PROXY) as place, place.client() as proxy:

        def guess(address: str) -> int:
            return proxy.post("/login", data={"token": "x"}, headers={"X-Forwarded-For": address}).status_code

        assert [guess(f"1.1.1.{turn}, 203.0.113.5") for turn in range(11)].count(401) == 10
        assert guess("203.0.113.5") == 429
        assert guess("203.0.113.6") == 401


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TUNER_AUTH_HEADER": "X-User"}, "TUNER_TRUSTED_PROXIES"),
        ({"TUNER_AUTH_ROLE_HEADER": "X-Role"}, "TUNER_AUTH_HEADER"),
        ({"TUNER_TRUSTED_PROXIES": "lab.example"}, "lab.example"),
        ({"TUNER_AUTH_DEFAULT_ROLE": "root"}, "root"),
        ({"TUNER_TOKENS": "/nowhere/tokens.json"}, "/nowhere/tokens.json"),
    ],
)
def test_a_setting_that_would_open_or_close_everything_is_refused(environment: dict[str, str], said: str) -> None:
    """At the start, not with the first request."""
    with pytest.raises(ConfigError, match=said):
        ServiceSettings.resolve(environment, Settings.resolve({}))


def test_named_tokens_or_a_proxy_suffice_for_an_open_address(tmp_path: Path) -> None:
    """TUNER_API_TOKEN is one way of several."""
    add_token(tmp_path / "t.json", "anna", "run")
    for environment in (
        {"TUNER_TOKENS": str(tmp_path / "t.json")},
        {"TUNER_AUTH_HEADER": "X-User", "TUNER_TRUSTED_PROXIES": "127.0.0.1"},
    ):
        private = environment | {"TUNER_API_PRIVATE": "1"}
        assert ServiceSettings.resolve(private, Settings.resolve({}), host="192.168.1.7").is_guarded
