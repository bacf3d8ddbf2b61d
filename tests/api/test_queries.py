"""What a request asks for beside its path: words of the query, methods."""

import re

import httpx
import pytest

from tests.api.test_contract import STUDY, V1, error_of

METHODS = {
    f"{V1}/studies": "GET, HEAD, POST",
    STUDY: "DELETE, GET, HEAD, PATCH",
    f"{STUDY}/pause": "POST",
    f"{STUDY}/budget": "POST",
    f"{STUDY}/trials": "GET, HEAD, POST",
    f"{STUDY}/trials/0/artifacts/log.txt": "GET, HEAD",
    "/": "GET, HEAD",
    "/login": "GET, HEAD, POST",
    "/studies/organs/trials/0/pictures/case": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/static/main.js": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/new/draft": "POST",
}


@pytest.mark.parametrize("path", METHODS)
def test_a_refused_method_names_the_others(reader: httpx.Client, path: str) -> None:
    """RFC 9110, 15.5.6: a 405 says in `Allow` what would be right."""
    answer = reader.request("PUT", path)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == METHODS[path]


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        (f"{V1}/studies?limt=3", "'limit'"),
        (f"{STUDY}?x=1", "takes none"),
        (f"{STUDY}/trials?stat=COMPLETE", "'state'"),
        (f"{STUDY}/figures/history?los=dice", "'loss'"),
        (f"{STUDY}/export?fromat=json", "'format'"),
        (f"{V1}/losses?family=pixel", "takes none"),
        ("/?serch=organs", "'search'"),
        ("/studies/organs?ofset=3", "'offset'"),
        ("/studies/organs/compare?trial=3,4", "'trials'"),
        ("/metrics?x", "takes none"),
        (f"{STUDY}/trials?limit=1&limit=2", "Name it once"),
    ],
)
def test_unknown_words_of_a_query_are_422(reader: httpx.Client, path: str, guess: str) -> None:
    """A misspelt filter that is ignored answers with everything, and looks like an answer."""
    answer = reader.get(path)

    assert answer.status_code == 422
    assert guess in error_of(answer)["hint"]
    assert (error_of(answer)["where"] or "").startswith("query.")


def test_known_words_are_taken(reader: httpx.Client) -> None:
    """Those that pages send, and a word that may stand several times."""
    assert reader.get(f"{STUDY}/figures/slice?param=train.lr&param=train.batch_size").status_code == 200
    study = "/studies/organs"
    tabs = ("leaderboard", "trials", "predictions", "compare", "trials/0")
    for page in ("/", study, *(f"{study}/{tab}" for tab in tabs), "/losses", "/datasets"):
        text = reader.get(page, headers={"Accept": "text/html"}).text
        for address in set(re.findall(r'(?:src|href)="(/[^"#]*\?[^"]*)"', text)):
            answer = reader.get(address.replace("&amp;", "&"))
            assert answer.status_code != 422 or "pyarrow" in answer.text, address


def test_raising_the_budget_does_not_resume(writer: httpx.Client) -> None:
    """Two wishes are two requests; `resume` with a number is both."""
    writer.post(f"{STUDY}/pause")
    total = writer.get(STUDY).json()["trials"]["total"]

    raised = writer.post(f"{STUDY}/budget", json={"trials": total + 1})
    assert (raised.json()["phase"], raised.json()["trials"]["total"]) == ("paused", total + 1)
    assert writer.post(f"{STUDY}/budget", json={"trials": total}).status_code == 422
    assert writer.post(f"{STUDY}/budget", json={}).status_code == 422
    assert writer.post(f"{STUDY}/resume", json={"trials": total + 2}).json()["phase"] != "paused"


def test_an_empty_point_is_not_enqueued(writer: httpx.Client) -> None:
    """It would take a place of the budget and say nothing."""
    before = writer.get(STUDY).json()["trials"]
    answer = writer.post(f"{STUDY}/trials", json={"params": {}})

    assert answer.status_code == 422
    assert "params" in error_of(answer)["message"]
    assert writer.get(STUDY).json()["trials"] == before
