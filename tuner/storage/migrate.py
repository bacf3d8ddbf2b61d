"""Schema migrations: create what is missing, migrate what is old, check versions."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, column, inspect, select, table, text

from tuner.errors import NoStorageError, StorageError
from tuner.storage.engine import Database, to_storage_error
from tuner.storage.optuna_schema import OPTUNA_SCHEMA, optuna_storage, version_info

VERSION_TABLE = "tuner_alembic_version"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every schema version there has been, oldest first; a test compares them with `migrations/versions`."""
HEAD = REVISIONS[-1]

_LOCK = 7_241_905_113  # the number under which PostgreSQL knows our advisory lock
_LOCK_S = 120.0


def prepare(database: Database, *, upto: str = HEAD) -> tuple[str | None, str]:
    """Create what is missing and migrate what is old; return the version that was found and the one that is there now.

    Any number of processes may call this at once on an empty database. `upto`: an older version, for copies of it.
    Raises StorageError when the schema is newer than this program, or Optuna's is not the one that it knows.
    """
    ours, optunas = versions(database)
    if ours != upto or optunas is None:
        with _lock(database):
            ours, optunas = versions(database)
            if ours is not None and ours not in REVISIONS:
                raise _newer(database, ours)
            if optunas is None:
                _create_optunas(database)
            if ours != upto:
                _migrate(database, upto)
    if upto == HEAD:
        check(database)
    return ours, upto


def check(database: Database) -> None:
    """Raise StorageError unless the storage has exactly the schema that this program was written for."""
    ours, optunas = versions(database)
    if optunas is not None and optunas != OPTUNA_SCHEMA:
        raise StorageError(
            f"Optuna's tables have schema version {optunas}; this program needs {OPTUNA_SCHEMA}.",
            hint="An older one is upgraded by `optuna storage upgrade --storage URL`; make a backup first.",
            where=database.display_url,
        )
    if ours is None or optunas is None:
        raise NoStorageError(
            "the database holds no studies of tuner yet.",
            hint="`tuner launch` creates what it needs, `tuner db upgrade` too.",
            where=database.display_url,
        )
    if ours not in REVISIONS:
        raise _newer(database, ours)
    if ours != HEAD:
        raise StorageError(
            f"the schema has version {ours}; this program needs {HEAD}.",
            hint="`tuner db upgrade` migrates it (stop the workers first, make a backup).",
            where=database.display_url,
        )


def versions(database: Database) -> tuple[str | None, int | None]:
    """Return the version of our tables and that of Optuna's, None for those that are not there."""

    def look(connection: Connection) -> tuple[str | None, int | None]:
        names = set(inspect(connection).get_table_names())
        ours = optunas = None
        if VERSION_TABLE in names:
            ours = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
        if "version_info" in names and "trial_heartbeats" in names:
            optunas = connection.scalar(select(version_info.c.schema_version))
        return ours, optunas

    return database.read(look)


def report(database: Database) -> dict[str, Any]:
    """Say which versions a storage has and which are needed: what `tuner db check` prints."""
    ours, optunas = versions(database)
    return {
        "storage": database.display_url,
        "schema": ours,
        "needed": HEAD,
        "optuna_schema": optunas,
        "optuna_needed": OPTUNA_SCHEMA,
        "ok": ours == HEAD and optunas == OPTUNA_SCHEMA,
    }


def _newer(database: Database, found: str) -> StorageError:
    return StorageError(
        f"the schema has version {found}, made by a newer tuner; this one knows up to {HEAD}.",
        hint="Update tuner here; `tuner db upgrade` only goes forward.",
        where=database.display_url,
    )


def _create_optunas(database: Database) -> None:
    from sqlalchemy.exc import DBAPIError

    if database.dialect == "sqlite":
        with database.writer.connect() as connection:
            connection.execution_options(tuner_begin=None).exec_driver_sql("PRAGMA journal_mode=WAL")
    try:
        storage = optuna_storage(database.url.render_as_string(hide_password=False))
    except DBAPIError as error:
        raise to_storage_error(error, database.display_url) from error
    except RuntimeError as error:
        raise StorageError(str(error), where=database.display_url) from error
    storage.remove_session()
    storage.engine.dispose()


def _migrate(database: Database, upto: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, upto)

    database.write(upgrade)


@contextmanager
def _lock(database: Database) -> Iterator[None]:
    if database.dialect == "postgresql":
        with database.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _wait(database, lambda: bool(connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})"))))
            try:
                yield
            finally:
                connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
        return
    # The folder is locked, not the file: closing a second handle of the file would drop SQLite's own locks on it.
    folder = os.open(Path(database.url.database or "").absolute().parent, os.O_RDONLY)
    try:
        _wait(database, lambda: _try_flock(folder))
        yield
    finally:
        os.close(folder)


def _try_flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(database: Database, take: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LOCK_S
    while not take():
        if time.monotonic() > deadline:
            raise StorageError(
                f"another process has been creating or migrating the schema for {_LOCK_S:.0f} s.",
                hint="Wait for it, or end it, and try again.",
                where=database.display_url,
            )
        time.sleep(0.05)
