"""Storages to test on: a SQLite file, and a database of a real PostgreSQL server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.postgres import Server
from tuner.storage.storage import Storage, upgrade


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tuner.db'}"


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    return postgres.new_database()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    """One of the two kinds of storage."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, request: pytest.FixtureRequest) -> str:
    """A storage in which nothing was ever created, once of each kind."""
    return str(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema, to be copied: making it takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "tuner.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_made(postgres: Server) -> str:
    """A database with the schema, which the tests use one after the other: making one takes longer than most tests."""
    url = postgres.new_database()
    upgrade(url)
    return url


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """A storage with the schema and without studies, once of each kind."""
    if kind == "postgres":
        made = str(request.getfixturevalue("postgres_made"))
        with psycopg.connect(made) as connection:
            connection.execute("TRUNCATE studies, trials, tuner_workers RESTART IDENTITY CASCADE")
        return made
    url = str(request.getfixturevalue("sqlite_url"))
    shutil.copy(request.getfixturevalue("sqlite_template"), url.removeprefix("sqlite:///"))
    return url


@pytest.fixture
def store(url: str) -> Iterator[Storage]:
    """An empty store, once on each kind of storage."""
    with Storage.open(url) as opened:
        yield opened
