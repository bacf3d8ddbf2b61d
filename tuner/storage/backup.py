"""Copies of a whole storage: one file that is itself a storage (SQLite), and goes back into either kind of database.

Everything in a copy is of one moment, while workers write. A copy of an older schema is kept as it is, and upgraded
when it is brought back. What cannot be finished leaves nothing behind.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Integer, MetaData, Table, func, insert, select, text

from tuner.errors import ConflictError, DiskFullError, RequestError, StorageError
from tuner.storage import migrate, optuna_schema
from tuner.storage.engine import Database
from tuner.storage.url import check_file, read_url

ROWS = 2000
"""Rows that are read and written at a time."""
_VERSIONS = ("version_info", "alembic_version", migrate.VERSION_TABLE)
"""Tables that every storage has from its creation."""
_PART = ".part"


def backup(url: str, file: Path) -> dict[str, Any]:
    """Copy a storage into a new file. Returns `{"storage", "file", "bytes", "schema", "rows": {table: count}}`.

    Raises:
        RequestError: The file exists already, or its folder does not.
        StorageError: The storage cannot be read.
        DiskFullError: No space left.
    """
    file = file.expanduser().absolute()
    if file.exists():
        raise RequestError("there is such a file already.", hint="Name another one.", where=str(file))
    if not file.parent.is_dir():
        raise RequestError(f"the folder {file.parent} does not exist.", hint="Create it first.", where=str(file))
    database = Database.open(url, read_only=True)
    part = file.with_name(f".{file.name}.{os.getpid()}{_PART}")
    try:
        version, optunas = migrate.versions(database)
        if version is None or optunas is None:
            migrate.check(database)
        with _space(file):
            if database.dialect == "sqlite":
                _copy_file(Path(database.url.database or ""), part)
            else:
                _copy_server(database, part, str(version))
            rows = _seal(part)
            part.replace(file)
        return {
            "storage": database.display_url,
            "file": str(file),
            "bytes": file.stat().st_size,
            "schema": version,
            "rows": rows,
        }
    finally:
        database.close()
        for leftover in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)


def restore(file: Path, url: str) -> dict[str, Any]:
    """Bring a copy back into a storage that holds no studies: a new SQLite file, or an empty database of a server.

    The copy is not changed. Returns `{"storage", "file", "from", "schema", "rows"}`.

    Raises:
        RequestError: The file is no copy of a storage.
        ConflictError: The storage holds studies.
        StorageError: It cannot be written, or the copy was made by a newer tuner.
    """
    file = file.expanduser().absolute()
    version = _look(file)
    target = read_url(url)
    fresh = target.get_backend_name() == "sqlite" and not check_file(target, create=True).exists()
    try:
        with tempfile.TemporaryDirectory(prefix="tuner-restore-") as folder, _space(file):
            copy = Path(folder) / "tuner.db"
            shutil.copyfile(file, copy)
            source, into = Database.open(f"sqlite:///{copy}"), Database.open(url, create=True)
            try:
                migrate.prepare(source)
                migrate.prepare(into)
                rows = into.write(lambda connection: _fill(source, connection))
                return {
                    "storage": into.display_url,
                    "file": str(file),
                    "from": version,
                    "schema": migrate.HEAD,
                    "rows": rows,
                }
            finally:
                source.close()
                into.close()
    except BaseException:
        if fresh:
            for end in ("", "-wal", "-shm"):
                Path(f"{target.database}{end}").unlink(missing_ok=True)
        raise


def _copy_file(source: Path, part: Path) -> None:
    """Copy a database file with SQLite's own means: in one step, so that writers cannot make it begin again."""
    there = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=30)
    with closing(there), closing(sqlite3.connect(part)) as here:
        there.backup(here)


def _copy_server(database: Database, part: Path, version: str) -> None:
    """Copy all rows of a server's database, as they are at one moment, into a file of the same schema."""
    into = Database.open(f"sqlite:///{part}", create=True)
    try:
        migrate.prepare(into, upto=version)

        def copy(there: Connection) -> None:
            with into.writer.begin() as here:
                _copy_rows(there, here)

        database.read(copy)
    finally:
        into.close()


def _seal(part: Path) -> dict[str, int]:
    """Make a single file of a fresh copy, look whether it is whole, down to the disk; return its rows by table."""
    with closing(sqlite3.connect(part)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise StorageError(f"the copy is damaged, and so may be the storage: {found}", where=str(part))
        names = [row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        rows = {
            name: int(copy.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 (names of the schema)
            for name in names
            if not name.startswith("sqlite_")
        }
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    return rows


def _look(file: Path) -> str:
    """Return the schema version of a copy. Raises RequestError when it is none, StorageError when it is newer."""
    if not file.is_file():
        raise RequestError("there is no such file.", where=str(file))
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as copy:
            names = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {migrate.VERSION_TABLE, "version_info", "trials"} <= names:
                raise RequestError("it is a database, but not a storage of tuner.", where=str(file))
            found = str(copy.execute(f"SELECT version_num FROM {migrate.VERSION_TABLE}").fetchone()[0])  # noqa: S608
    except sqlite3.Error as error:
        raise RequestError(f"it is no copy made by `tuner db backup` ({error}).", where=str(file)) from error
    if found not in migrate.REVISIONS:
        raise StorageError(
            f"the copy has schema {found}, made by a newer tuner; this one knows up to {migrate.HEAD}.",
            hint="Update tuner here.",
            where=str(file),
        )
    return found


def _fill(source: Database, connection: Connection) -> dict[str, int]:
    """Copy all rows into an empty storage, in the caller's transaction. Raises ConflictError when it is not empty."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE studies IN EXCLUSIVE MODE"))
    studies = connection.scalar(select(func.count()).select_from(optuna_schema.studies))
    if studies:
        raise ConflictError(
            f"the storage holds {studies} {'study' if studies == 1 else 'studies'}; a copy is brought back into an "
            "empty one only.",
            hint="Name a new file, or create an empty database.",
            where=connection.engine.url.render_as_string(hide_password=True),
        )
    return source.read(lambda there: _copy_rows(there, connection))


def _copy_rows(there: Connection, here: Connection) -> dict[str, int]:
    """Copy the rows of every table that both have, owners before what belongs to them; return how many."""
    theirs, ours = _tables(there), _tables(here)
    counts = {}
    for name, target in ours.items():
        source = theirs.get(name)
        if source is None:
            continue
        counts[name] = 0
        for rows in _chunks(there, source):
            here.execute(insert(target), rows)
            counts[name] += len(rows)
        _continue_counting(here, target)
    return counts


def _tables(connection: Connection) -> dict[str, Table]:
    """Return Optuna's tables and ours as they are in a database, in the order in which rows may be inserted."""
    known = MetaData()
    known.reflect(connection, only=lambda name, _: name.startswith("tuner_") or name in _OPTUNAS)
    for table in known.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type.none_as_null = True
    return {table.name: table for table in known.sorted_tables if table.name not in _VERSIONS}


_OPTUNAS = frozenset(optuna_schema.optuna_metadata.tables)


def _chunks(connection: Connection, table: Table) -> Iterator[list[Mapping[str, Any]]]:
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=ROWS)
    with connection.execute(query) as result:
        for rows in result.partitions():
            yield [dict(row._mapping) for row in rows]


def _continue_counting(connection: Connection, table: Table) -> None:
    """Let a server give new rows the ids that follow those which were brought back."""
    columns = [column for column in table.primary_key.columns if isinstance(column.type, Integer)]
    if connection.dialect.name != "postgresql" or len(columns) != 1:
        return
    (column,) = columns
    sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
    newest = connection.scalar(select(func.max(column)))
    if sequence is not None and newest is not None:
        connection.execute(select(func.setval(sequence, newest)))


@contextmanager
def _space(place: Path) -> Iterator[None]:
    """Say a full disk in our words."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskFullError("no space left for the copy.", where=str(place)) from error
        raise StorageError(f"copying failed: {error}", where=str(place)) from error
    except OSError as error:
        import errno

        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError("no space left for the copy.", where=str(place)) from error
        raise
