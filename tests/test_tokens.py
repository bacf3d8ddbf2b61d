"""The file of tokens: hashes only, nothing lost between two writers, and nothing opened by a file that is broken."""

import json
import logging
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import environment
from tuner.errors import ConfigError, ConflictError, NotFoundError, SpecError, TunerError
from tuner.tokens import OWNER, TokenFile, add_token, allows, read_tokens, revoke_token


def test_the_file_holds_no_token_and_nobody_else_reads_it(tmp_path: Path) -> None:
    """A copy of the file, in a backup for instance, signs nobody in."""
    path = tmp_path / "tokens.json"
    entry, token = add_token(path, "anna", "run", timedelta(days=90))
    add_token(path, "bob", "admin")

    assert token not in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(t.name, t.role) for t in read_tokens(path)] == [("anna", "run"), ("bob", "admin")]
    assert "hash" not in entry.as_document(datetime.now(UTC))
    assert TokenFile(path).find(token) == entry


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each reads, adds and replaces the file: without a lock the last one would win."""
    code = (
        "import sys, pathlib; from tuner.tokens import add_token;"
        "[add_token(pathlib.Path('t.json'), f'{sys.argv[1]}-{n}', 'read') for n in range(20)]"
    )
    commands = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=tmp_path, env=environment(tmp_path))
        for n in range(3)
    ]
    assert [command.wait(timeout=120) for command in commands] == [0, 0, 0]

    assert len(read_tokens(tmp_path / "t.json")) == 60
    assert not list(tmp_path.glob("*.part"))


def test_the_hint_fits_what_is_wrong(tmp_path: Path) -> None:
    """What is no file is not made by adding a token."""
    with pytest.raises(ConfigError) as missing:
        read_tokens(tmp_path / "tokens.json")
    with pytest.raises(ConfigError) as folder:
        read_tokens(tmp_path)

    assert "tuner token add" in (missing.value.hint or "")
    assert "tuner token add" not in (folder.value.hint or "")


def test_a_token_ends_by_revocation_and_by_its_time(tmp_path: Path) -> None:
    """A service that holds the file open in its memory sees both with the next request."""
    path, now = tmp_path / "tokens.json", [datetime.now(UTC)]
    _, lasting = add_token(path, "lasting", "read")
    _, short = add_token(path, "short", "read", timedelta(hours=1))
    tokens = TokenFile(path, lambda: now[0])

    assert tokens.find(lasting)
    assert tokens.find(short)
    now[0] += timedelta(hours=1, seconds=1)
    assert not tokens.find(short)
    revoke_token(path, "lasting")
    assert not tokens.find(lasting)
    assert not tokens.find("")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "tokens": []}',
        b'{"version": 1, "tokens": {}}',
        b'{"version": 1, "tokens": [{}]}',
        b"[" * 100_000,
        *(
            json.dumps({"version": 1, "tokens": [ENTRY | wrong]}).encode()
            for ENTRY in [{"name": "a", "role": "run", "hash": "0" * 64, "created": "2026-01-01T00:00:00+00:00",
                           "expires": None}]
            for wrong in ({"role": "root"}, {"role": []}, {"hash": ""}, {"expires": "soon"}, {"expires": 5},
                          {"name": OWNER}, {"created": "2026-01-01"}, {"more": 1})
        ),
    ],
)  # fmt: skip
def test_a_broken_file_changes_nothing_and_is_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """Neither does it open the door, nor lock out who is in; a service does not start with it."""
    path = tmp_path / "tokens.json"
    _, token = add_token(path, "anna", "run")
    tokens = TokenFile(path)
    with caplog.at_level(logging.ERROR, "tuner.tokens"):
        path.write_bytes(content)
        assert tokens.find(token)
        assert not tokens.find("anything")
    assert str(path) in caplog.text

    with pytest.raises(ConfigError, match="broken"):
        TokenFile(path)
    with pytest.raises(ConfigError, match="broken"):
        add_token(path, "bob", "run")
    assert path.read_bytes() == content
    path.unlink()
    assert tokens.find(token)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write it makes himself an administrator."""
    path = tmp_path / "tokens.json"
    add_token(path, "anna", "run")
    path.chmod(0o666)

    with pytest.raises(ConfigError, match="0666") as refused:
        read_tokens(path)
    assert "chmod 600" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("anna", "run"), ConflictError),
        (("bob", "root"), TunerError),
        (("", "run"), SpecError),
        (("a b", "run"), SpecError),
        (("../x", "run"), SpecError),
        ((OWNER, "run"), SpecError),
        (("x" * 101, "run"), SpecError),
    ],
)
def test_what_is_refused_leaves_the_file_as_it_was(tmp_path: Path, words: tuple[str, str], kind: Any) -> None:
    """Names are shown in pages, logs and headers."""
    path = tmp_path / "tokens.json"
    add_token(path, "anna", "run")
    before = path.read_bytes()

    with pytest.raises(kind):
        add_token(path, *words)
    with pytest.raises(NotFoundError):
        revoke_token(path, "nobody")
    assert path.read_bytes() == before


def test_roles_include_those_below() -> None:
    """Somebody who may delete may also read."""
    assert [[allows(role, needed) for needed in ("read", "run", "admin")] for role in ("read", "run", "admin")] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
