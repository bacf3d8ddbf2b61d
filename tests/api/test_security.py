"""Who may do what: tokens, sessions, origins, hosts, sizes, paths, markup."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.config import ServiceSettings
from api.http_cache import ResponseCache
from api.study_files import read_posted
from tests.api.conftest import served, settings_in
from tests.api.test_contract import STUDY, V1, error_of
from tuner.errors import ConfigError, SpecError
from tuner.settings import Settings

TOKEN = "a long random text"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def guarded(folder: Path) -> Iterator[httpx.Client]:
    """A service with a token; reading is open."""
    config = ServiceSettings(settings_in(folder, TOKEN))
    with served(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def private(folder: Path) -> Iterator[httpx.Client]:
    """A service with a token for reading as well."""
    config = ServiceSettings(settings_in(folder, TOKEN), private=True)
    with served(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_writes_need_the_token(guarded: httpx.Client) -> None:
    """Anybody who can reach the port could otherwise stop a week of work."""
    assert guarded.get(STUDY).status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": ""}):
        answer = guarded.post(f"{STUDY}/pause", headers=headers)
        assert answer.status_code == 401
        assert error_of(answer)["code"] == "unauthorized"
    assert guarded.post(f"{STUDY}/pause", headers=BEARER).status_code == 200


def test_private_reading_needs_it_too(private: httpx.Client) -> None:
    """TUNER_API_PRIVATE hides names and numbers of studies."""
    assert private.get(STUDY).status_code == 401
    assert private.get("/metrics").status_code == 401
    assert private.get("/openapi.json").status_code == 401
    assert private.get("/healthz").status_code == 200
    assert private.get(STUDY, headers=BEARER).status_code == 200
    page = private.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 303
    assert page.headers["Location"] == "/login?next=%2F"


def test_signing_in_gives_a_cookie_that_only_this_origin_can_use(guarded: httpx.Client) -> None:
    """A page of another site must not press our buttons in the browser of somebody who is signed in."""
    origin = str(guarded.base_url).rstrip("/")
    assert guarded.post("/login", data={"token": "wrong"}).status_code == 401
    signed = guarded.post("/login", data={"token": TOKEN, "next": "/studies/organs"}, headers={"Origin": origin})
    assert signed.status_code == 303
    assert signed.headers["Location"] == "/studies/organs"
    cookie = signed.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie

    assert guarded.post(f"{STUDY}/pause").status_code == 403
    assert guarded.post(f"{STUDY}/pause", headers={"Origin": "https://evil.example"}).status_code == 403
    assert guarded.post(f"{STUDY}/pause", headers={"Origin": "null"}).status_code == 403
    assert guarded.post(f"{STUDY}/pause", headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_nowhere_else(guarded: httpx.Client, target: str) -> None:
    """An open redirect makes a good phishing link."""
    answer = guarded.post("/login", data={"token": TOKEN, "next": target})

    assert answer.headers["Location"] == "/"


def test_without_a_token_other_sites_still_cannot_write(writer: httpx.Client) -> None:
    """A service on a laptop's loopback is reached by every page that its owner opens."""
    assert writer.post(f"{STUDY}/pause", headers={"Origin": "https://evil.example"}).status_code == 403
    assert writer.post(f"{STUDY}/pause", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    remembered = {"Origin": "https://evil.example", "Authorization": "Basic YW5uYTp4"}  # of a proxy that asks for it
    assert writer.post(f"{STUDY}/pause", headers=remembered).status_code == 403
    assert writer.post(f"{STUDY}/pause").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_foreign_hosts_are_refused(reader: httpx.Client, host: str) -> None:
    """DNS rebinding: another site's name must not lead a browser to this server."""
    answer = reader.get(STUDY, headers={"Host": host})

    assert answer.status_code == 400


def test_named_hosts_and_loopback_are_served() -> None:
    """Behind a proxy the service has a name of its own."""
    settings = Settings.resolve({})
    config = ServiceSettings.resolve({"TUNER_ALLOWED_HOSTS": "lab.example, other:9000"}, settings)

    assert all(map(config.answers_to, ("lab.example:443", "other", "localhost:1", "127.0.0.1", "[::1]:8000")))
    assert not config.answers_to("example")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "lab.example"])
def test_open_addresses_need_a_token(host: str) -> None:
    """A forgotten flag must not put a lab's studies on the network."""
    with pytest.raises(ConfigError, match="TUNER_API_TOKEN"):
        ServiceSettings.resolve({}, Settings.resolve({}), host=host)
    ServiceSettings.resolve({}, Settings.resolve({"TUNER_API_TOKEN": TOKEN}), host=host)


def test_privacy_without_a_token_is_refused() -> None:
    """Nobody could ever sign in."""
    with pytest.raises(ConfigError, match="TUNER_API_PRIVATE"):
        ServiceSettings.resolve({"TUNER_API_PRIVATE": "1"}, Settings.resolve({}))


def test_large_bodies_are_413(writer: httpx.Client) -> None:
    """Memory is bounded, whether the length is announced or not."""
    body = b'{"name": "' + b"x" * 1_100_000 + b'"}'

    def chunks() -> Iterator[bytes]:
        yield from (body[i : i + 65536] for i in range(0, len(body), 65536))

    for content in (body, chunks()):
        answer = writer.post(f"{V1}/studies", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert error_of(answer)["code"] == "too_large"


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2ftuner.db",
        "/%2e%2e/%2e%2e/tuner.db",
        "/....//tuner.db",
        "/.hidden",
        "/nul%00l",
        "/" + "a" * 5000,
    ],
)
def test_no_path_leaves_the_folder_of_a_trial(reader: httpx.Client, path: str) -> None:
    """Artifacts are files of a disk that holds other files too."""
    answer = reader.get(f"{STUDY}/trials/0/artifacts{path}")

    assert 400 <= answer.status_code < 500
    error_of(answer)


def test_links_are_not_followed(writer: httpx.Client, folder: Path) -> None:
    """A link in an artifact folder must not become a window on the machine."""
    number = writer.get(STUDY).json()["best"]["number"]
    (folder / "artifacts" / "organs" / str(number) / "window.txt").symlink_to("/etc/hostname")

    assert writer.get(f"{STUDY}/trials/{number}/artifacts/window.txt").status_code == 404


def test_artifacts_run_nothing(reader: httpx.Client) -> None:
    """What a trial wrote is data, whatever it claims to be."""
    number = reader.get(STUDY).json()["best"]["number"]
    answer = reader.get(f"{STUDY}/trials/{number}/artifacts/config.yaml")

    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_content_policy_is_strict(reader: httpx.Client) -> None:
    """No script but our own runs, whatever a study is called."""
    policy = reader.get("/").headers["Content-Security-Policy"]

    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("PUT", f"{V1}/studies", 405),
        ("PUT", STUDY, 405),
        ("GET", f"{V1}/studies/nope", 404),
        ("GET", f"{V1}/studies/%00", 422),
        ("GET", f"{V1}/studies/{'x' * 5000}", 422),
        ("GET", f"{STUDY}/trials/99999", 404),
        ("GET", f"{STUDY}/trials/-1", 422),
        ("GET", f"{STUDY}/trials/99999999999999999999999", 422),
        ("GET", f"{STUDY}/figures/nope", 422),
        ("GET", f"{STUDY}/figures/pareto", 422),
        ("GET", f"{STUDY}/figures/slice?param=nope", 422),
        ("GET", f"{STUDY}/figures/importance?loss=nope", 422),
        ("GET", f"{STUDY}/trials?loss=%00", 404),
        ("GET", f"{STUDY}/figures/slice?" + "&".join(["param=train.lr"] * 50), 422),
        ("GET", f"{STUDY}/figures/history?format=exe", 422),
        ("GET", f"{STUDY}/export?format=pickle", 422),
        ("GET", "/studies/organs?offset=-1", 422),
        ("GET", "/studies/organs?offset=99999999999999999999", 422),
        ("GET", "/studies/organs?sort=__class__", 422),
        ("GET", "/studies/organs/compare?trials=99999999999", 422),
        ("GET", "/studies/organs/compare?by=luck", 422),
        ("GET", "/studies/organs/trials/0/pictures/..%2f..%2ftuner.db", 404),
        ("GET", "/datasets/..%2f..%2f/samples/0.png", 404),
        ("GET", "/datasets/phantom-0123456789abcdef/samples/-1.png", 404),
        ("GET", "/?search=" + "x" * 300, 422),
        ("TRACE", STUDY, 405),
    ],
)
def test_every_error_has_the_one_shape(reader: httpx.Client, method: str, path: str, status: int) -> None:
    """A client handles errors in one place, or not at all."""
    answer = reader.request(method, path)

    assert answer.status_code == status
    error_of(answer)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b'{"a": 1e999999}', b'{"name": "\\ud800", "dataset": "phantom"}', b"\xff\xfe", b"null",
     b'{"dataset": "phantom", "seed": ' + b"9" * 5000 + b"}", b'{"dataset": "phantom", "budget": {"trials": NaN}}'],
)  # fmt: skip
def test_broken_bodies_are_the_clients_fault(reader: httpx.Client, content: bytes) -> None:
    """A 500 says that we made a mistake; these are not ours."""
    answer = reader.post(f"{V1}/studies", content=content, headers={"Content-Type": "application/json"})

    assert 400 <= answer.status_code < 500
    error_of(answer)


@pytest.mark.parametrize(
    "text",
    [
        "x: 2026-99-99",
        "x: !!int z",
        "x: !!timestamp soon",
        "x: !!python/object/apply:os.system [id]",
        "a: &a [*a]",
        "- " * 2000,
        "dataset: phantom\nname: '<script>'",
        "dataset: phantom\nname: '../outside'",
        "dataset: {name: folder, folder: ../../etc}",
        "dataset: phantom\nbudget: {trials: 1000000000}",
    ],
)
def test_broken_study_files_are_explained(reader: httpx.Client, text: str) -> None:
    """What people type into the form is checked at every key; none of it may run, hang or break the page."""
    answer = reader.post("/new/draft", json={"yaml": text})

    assert answer.status_code == 200
    assert answer.json()["problems"]


@pytest.mark.parametrize("path", ["/new", "/new/draft", "/login", f"{STUDY}/trials", f"{STUDY}/resume"])
def test_every_write_bounds_its_body(reader: httpx.Client, path: str) -> None:
    """One route without the bound would be the one that is found."""
    answer = reader.post(path, content=(b"x" * 65536 for _ in range(50)))

    assert answer.status_code == 413
    error_of(answer)


def test_a_body_that_does_not_come_is_not_waited_for(reader: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens connections and says nothing must not take all that there are."""
    monkeypatch.setattr("api.security.BODY_S", 0.2)
    port = reader.base_url.port or 0
    with socket.create_connection(("127.0.0.1", port), 20) as silent:
        silent.sendall(f"POST {STUDY}/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{{".encode())
        answer = silent.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("token", ["x" * 50_000, "\u00e9", "a long random texT", f"{TOKEN}\t{TOKEN}"])
def test_wrong_tokens_are_401(guarded: httpx.Client, token: str) -> None:
    """However long, and whatever is in them."""
    answer = guarded.post(f"{STUDY}/pause", headers=[(b"Authorization", b"Bearer " + token.encode())])

    assert answer.status_code == 401
    error_of(answer)


def test_what_is_remembered_is_bounded_with_its_addresses() -> None:
    """An address of fifty kilobytes may have a page of two: a thousand of them must not fill the memory."""
    memory = ResponseCache(most_bytes=1_000_000)
    for turn in range(100):
        memory.get(("tag", f"{turn}" + "y" * 50_000), lambda: b"page")
    again = [memory.get(("tag", f"{turn}" + "y" * 50_000), lambda: b"made again") for turn in (0, 99)]

    assert again == [b"made again", b"page"]


def test_errors_are_pages_for_people(reader: httpx.Client) -> None:
    """Somebody with a browser is not shown JSON."""
    answer = reader.get("/studies/<script>", headers={"Accept": "text/html"})

    assert answer.status_code == 404
    assert "text/html" in answer.headers["Content-Type"]
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text


@pytest.mark.parametrize("path", ["../outside", "/etc", "~/data", "a/../../b", "a\\b"])
def test_posted_data_paths_stay_below_the_data_root(tmp_path: Path, path: str) -> None:
    """A study that somebody posts must not read whatever a worker's user may read."""
    study = {"dataset": {"name": "phantom", "validation": [path]}}

    with pytest.raises(SpecError, match="leads out of the data root"):
        read_posted(study, tmp_path)
    assert read_posted({"dataset": {"name": "phantom", "validation": ["inside/case1"]}}, tmp_path).total


@pytest.mark.parametrize(
    "section",
    [
        pytest.param({"model": {"name": "unet", "weights": "../elsewhere.pt"}}, id="fixed"),
        pytest.param({"model": {"name": "unet", "weights": "/etc/weights.pt"}}, id="a whole path"),
        pytest.param({"search": {"model.weights": ["a.pt", "../elsewhere.pt"]}}, id="searched"),
        pytest.param({"search": {"model.name": ["unet"], "model.unet.weights": "~/a.pt"}}, id="of one of several"),
    ],
)
def test_weights_of_a_posted_study_stay_below_the_data_root(section: dict[str, Any], tmp_path: Path) -> None:
    """Whoever may post studies may not have any file of the workers' machines opened."""
    with pytest.raises(SpecError, match=r"model\.(unet\.)?weights: .* leads out of the data root"):
        read_posted({"dataset": {"name": "phantom"}, **section}, tmp_path)


def nested(depth: int) -> Any:
    """Return lists in lists."""
    found: Any = "x"
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "path", ["../outside", "/etc", "~/data", "a/../../b", "..", "link", "link/inside", "a\nb", "circle"]
)
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(lambda p: {"dataset": {"name": "folder", "path": p}}, id="fixed"),
        pytest.param(lambda p: {"dataset": "folder", "search": {"dataset.path": ["fine", p]}}, id="searched"),
        pytest.param(lambda p: {"dataset": "folder", "search": {"dataset.path": p}}, id="fixed in the search"),
        pytest.param(lambda p: {"dataset": {"name": "phantom", "validation": ["a", p]}}, id="a case"),
        pytest.param(lambda p: {"dataset": "phantom", "search": {"model.weights": ["a.pt", p]}}, id="weights"),
        pytest.param(
            lambda p: {"dataset": "phantom", "model": {"entry": "a.b:c", "start": p}}, id="option of an own network"
        ),
        pytest.param(
            lambda p: {"dataset": "phantom", "model": {"entry": "a.b:c"}, "search": {"model.start": ["x", p]}},
            id="the same, searched",
        ),
    ],
)  # fmt: skip
def test_no_value_of_a_posted_study_can_become_a_path_elsewhere(
    where: Callable[[str], dict[str, Any]], path: str, tmp_path: Path
) -> None:
    """Wherever it stands: what is searched becomes a configuration like what is fixed."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")

    with pytest.raises(SpecError, match="leads out of the data root"):
        read_posted(where(path), root)
    assert read_posted(where("a/b/fine.pt"), root).total


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"search": {"loss": [{f"s{i}": ["dice", "boundary"]} for i in range(3000)]}}, id="sums"),
        pytest.param({"search": {f"x{i}": 1 for i in range(20_000)}}, id="keys"),
        pytest.param({"search": {"loss": [f"dise{i}" for i in range(20_000)]}}, id="names"),
        pytest.param({"search": {"loss": [{"s": [f"dise{i}" for i in range(20_000)]}]}}, id="terms"),
        pytest.param({"search": {"train.seed": list(range(100_000))}}, id="choices"),
        pytest.param({"search": {"loss": ["d" * 900_000]}}, id="a long name"),
        pytest.param({"search": {"d" * 900_000: 1}}, id="a long key"),
        pytest.param({"model": nested(500)}, id="depth"),
        pytest.param({"dataset": {"name": "phantom", "validation": [f"c{i}" for i in range(60_000)]}}, id="cases"),
        pytest.param({"seed": 16**5000}, id="a long number"),
    ],
)
def test_checking_a_posted_study_is_bounded(content: dict[str, Any], tmp_path: Path) -> None:
    """It is refused by its size, not by the work of comparing all of it."""
    with pytest.raises(SpecError, match=r"at most|more than") as caught:
        read_posted({"dataset": "phantom", **content}, tmp_path)
    assert len(caught.value.problems) == 1
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "{a: " * 5000, "- " * 20_000, "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 400)),
     "x: 0x" + "f" * 6000, "x: " + "1:" * 50_000 + "1", "? " + "[" * 3000, "x: [" + "1, " * 24_990 + "1, 1, 1, 1, 1]",
     "k" * 50_000 + ": 1", "\x00", "\ufffe", "x: 1e" + "9" * 5000, "? [a, b]\n: 1"],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_checking_posted_text_is_bounded(reader: httpx.Client, text: str) -> None:
    """Brackets, blocks, numbers, keys: what costs more than its length is refused before it is read."""
    answer = reader.post("/new/draft", json={"yaml": text})

    assert answer.status_code == 200
    assert answer.json()["problems"]
    assert len(answer.text) < 5000


def test_code_that_a_posted_study_names_is_not_imported(tmp_path: Path) -> None:
    """It is stored as text; `antigravity` opens a browser when it is imported."""
    spec = read_posted({"dataset": {"name": "phantom"}, "model": {"entry": "antigravity:fly", "width": 3}}, tmp_path)

    assert spec.config({}).model == {"name": "entry", "entry": "antigravity:fly", "width": 3}
    assert "antigravity" not in sys.modules
