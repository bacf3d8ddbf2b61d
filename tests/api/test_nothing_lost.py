"""Nothing is dropped without a word: trials that are compared, bytes of a file, places that errors name."""

import re
from pathlib import Path

import httpx
import optuna
import pytest

from api.routes.trials import byte_range
from tests.api.test_contract import STUDY, V1, error_of

PAGE = {"Accept": "text/html"}
NUMBERS = re.compile(r'<th scope="col" class="num"><span class="swatch[^>]*></span><a class="trial" href="[^"]*/(\d+)"')


def test_every_trial_that_was_named_is_compared(reader: httpx.Client) -> None:
    """Twenty are three pages, and each says so."""
    asked = ",".join(map(str, range(20)))
    found: list[str] = []
    for offset, words in ((0, "Trials 1–8 of 20"), (8, "Trials 9–16 of 20"), (16, "Trials 17–20 of 20")):
        text = reader.get(f"/studies/organs/compare?trials={asked}&offset={offset}", headers=PAGE).text
        assert words in text
        found += NUMBERS.findall(text)
        assert f"trials={asked.replace(',', '%2C')}&amp;offset={(offset + 8) % 24 or 8}" in text
    assert found == [str(number) for number in range(20)]


def test_every_loss_is_compared(reader: httpx.Client) -> None:
    """Fourteen compete in the demo."""
    first = reader.get("/studies/organs/compare?by=loss", headers=PAGE).text
    second = reader.get("/studies/organs/compare?by=loss&offset=8", headers=PAGE).text

    assert "Trials 1–8 of 14" in first
    assert "by=loss&amp;offset=8" in first
    assert len(NUMBERS.findall(first)) + len(NUMBERS.findall(second)) == 14


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, (0, 99, 200)), ("bytes=0-9", (0, 9, 206)), ("bytes=90-", (90, 99, 206)), ("bytes=-10", (90, 99, 206)),
        ("bytes=95-500", (95, 99, 206)), ("bytes=-500", (0, 99, 206)), ("bytes=100-", (0, -1, 416)),
        ("bytes=9-3", (0, 99, 200)), ("bytes=0-1,5-6", (0, 99, 200)), ("lines=0-1", (0, 99, 200)),
        ("bytes=-", (0, 99, 200)), ("bytes=-0", (0, -1, 416)), ("bytes=" + "9" * 99 + "-", (0, 99, 200)),
    ],
)  # fmt: skip
def test_ranges(asked: str | None, expected: tuple[int, int, int]) -> None:
    """RFC 9110, 14.1.2, for a file of 100 bytes."""
    assert byte_range(asked, 100) == expected


def test_files_have_a_length_and_ranges(reader: httpx.Client) -> None:
    """A download shows how far it is, and goes on where it was cut off."""
    number = reader.get(STUDY).json()["best"]["number"]
    url = f"{STUDY}/trials/{number}/artifacts/cases.jsonl"
    whole = reader.get(url)
    part = reader.get(url, headers={"Range": "bytes=10-29"})

    assert int(whole.headers["Content-Length"]) == len(whole.content)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert part.status_code == 206
    assert part.content == whole.content[10:30]
    assert part.headers["Content-Range"] == f"bytes 10-29/{len(whole.content)}"
    beyond = reader.get(url, headers={"Range": f"bytes={len(whole.content)}-"})
    assert beyond.status_code == 416
    assert str(len(whole.content)) in error_of(beyond)["message"]


def test_errors_do_not_say_where_the_storage_lies(reader: httpx.Client) -> None:
    """The server's paths are nobody's business who reads its pages."""
    for path in (f"{V1}/studies/nope", "/studies/nope", "/studies/nope/trials/3", f"{STUDY}/trials/99999"):
        for accept in ("text/html", "application/json"):
            text = reader.get(path, headers={"Accept": accept}).text
            assert "tuner.db" not in text
            assert "sqlite" not in text


def test_a_body_that_is_no_json_is_said_so(writer: httpx.Client) -> None:
    """Names keep their letters."""
    answer = writer.post(f"{V1}/studies", content=b"{", headers={"Content-Type": "application/json"})

    assert "not valid JSON" in error_of(answer)["message"]


def test_a_foreign_study_whose_name_is_no_address_is_no_link(writer: httpx.Client, folder: Path) -> None:
    """`a/b` cannot be asked for: it is listed, and leads nowhere."""
    for name in ("a/b", "plain"):
        optuna.create_study(study_name=name, storage=f"sqlite:///{folder / 'tuner.db'}")
    text = writer.get("/", headers=PAGE).text

    assert "a/b" in text
    assert 'href="/studies/a%2Fb"' not in text
    assert 'href="/studies/plain"' in text


def test_only_a_loss_with_a_value_leads(writer: httpx.Client) -> None:
    """The first row of a leaderboard without a complete trial is no leader."""
    writer.post(f"{V1}/studies", json={"name": "new", "dataset": "phantom", "budget": {"trials": 3}})
    text = writer.get("/studies/new/leaderboard", headers=PAGE).text

    assert 'class="lead"><td class="num quiet">' not in text
    assert 'class="lead"><td class="num quiet">' in writer.get("/studies/organs/leaderboard", headers=PAGE).text
