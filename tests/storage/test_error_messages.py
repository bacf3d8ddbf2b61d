"""What a database's error means: repeat, say that the disk is full, or say what a person must do."""

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tuner.errors import DiskFullError, StorageError
from tuner.storage.engine import is_transient, to_storage_error


def sqlite_error(code: int) -> DBAPIError:
    original = sqlite3.OperationalError("some words")
    original.sqlite_errorcode = code
    return OperationalError("SELECT 1", {}, original)


def postgres_error(state: str) -> DBAPIError:
    return OperationalError("SELECT 1", {}, psycopg.errors.lookup(state)("some words"))


@pytest.mark.parametrize(
    ("error", "transient", "words"),
    [
        pytest.param(sqlite_error(sqlite3.SQLITE_BUSY), True, "stayed locked", id="busy"),
        pytest.param(sqlite_error(sqlite3.SQLITE_BUSY | (2 << 8)), True, "stayed locked", id="busy-snapshot"),
        pytest.param(sqlite_error(sqlite3.SQLITE_FULL), False, "no space left", id="full"),
        pytest.param(sqlite_error(sqlite3.SQLITE_READONLY), False, "may not be written", id="read-only"),
        pytest.param(sqlite_error(sqlite3.SQLITE_IOERR), False, "failed", id="disk"),
        pytest.param(sqlite_error(sqlite3.SQLITE_CORRUPT), False, "refused: some words", id="corrupt"),
        pytest.param(postgres_error("40001"), True, "does not answer", id="serialization"),
        pytest.param(postgres_error("40P01"), True, "does not answer", id="deadlock"),
        pytest.param(postgres_error("57P01"), True, "does not answer", id="shutdown"),
        pytest.param(postgres_error("53300"), True, "does not answer", id="too-many-clients"),
        pytest.param(postgres_error("53100"), False, "no space left", id="disk-full"),
        pytest.param(postgres_error("28P01"), False, "refused: some words", id="password"),
        pytest.param(postgres_error("3D000"), False, "refused: some words", id="no-such-database"),
        pytest.param(
            OperationalError("SELECT 1", {}, psycopg.OperationalError("connection refused")),
            True,
            "does not answer",
            id="no-connection",
        ),
        pytest.param(PoolTimeoutError("busy"), True, "every connection", id="pool"),
        pytest.param(OSError("some words"), False, "refused: some words", id="something-else"),
    ],
)
def test_each_error_is_told_apart(error: Exception, transient: bool, words: str) -> None:
    """Repeating what cannot succeed hangs a worker; giving up what could loses a trial."""
    told = to_storage_error(error, "sqlite:///x.db")

    assert is_transient(error) is transient
    assert isinstance(told, DiskFullError if "no space" in words else StorageError)
    assert words in str(told)
    assert "sqlite:///x.db" in str(told)
