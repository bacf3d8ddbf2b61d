"""`tuner token`: made once, listed without secrets, revoked."""

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tuner.tokens import TokenFile


def test_a_token_is_printed_once_and_works_until_it_is_revoked(
    tuner: Shell, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stdout stands the token alone, for `$(…)`."""
    monkeypatch.setenv("TUNER_TOKENS", "tokens.json")
    made = tuner("token", "add", "anna", "--role", "run", "--expires", "90d")
    token = made.out.strip()

    assert made.code == 0
    assert TokenFile(here / "tokens.json").find(token)
    assert token not in made.err
    listed = tuner("token", "list", "--json")
    (row,) = json.loads(listed.out)
    assert (row["name"], row["role"], row["expired"]) == ("anna", "run", False)
    assert row["expires"] > row["created"]
    assert "hash" not in listed.out
    assert "anna" in tuner("token", "list").out
    assert tuner("token", "revoke", "anna").code == 0
    assert not TokenFile(here / "tokens.json").find(token)
    assert json.loads(tuner("token", "list", "--json").out) == []


@pytest.mark.parametrize("span", ["soon", "0d", "-1d", "99999999d"])
def test_a_lifetime_that_is_none_is_refused(tuner: Shell, here: Path, span: str) -> None:
    """Nothing is made of it."""
    result = tuner("token", "add", "anna", "--role", "run", "--expires", span, "--tokens", "t.json")

    assert result.code == 2
    assert span in result.err
    assert not list(here.iterdir())


def test_the_file_must_be_named(tuner: Shell) -> None:
    """A file somewhere would be one that no service reads."""
    result = tuner("token", "list")

    assert result.code == 2
    assert "TUNER_TOKENS" in result.err
