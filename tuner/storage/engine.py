"""Database engine: connections, transactions repeated after transient errors, the database's clock, time-outs.

The server bounds them on its side (`statement_timeout`), and TCP notices a host that is gone. Neither helps when what
is between the two, a balancer or a firewall, has forgotten the connection, or the server's process stands still.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, DateTime, Engine, Float, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from tuner.errors import DiskFullError, NoStorageError, StorageError, TunerError
from tuner.storage.url import check_file, read_url, redact_url

STATEMENT_TIMEOUT_S = 90.0
"""No answer for so long, more than the server's own limit: the connection is given up, and the work done on another."""


class TimeoutConnection(psycopg.Connection[Any]):
    """Raises OperationalError, and is closed, when a statement was not answered within SILENT_S."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Run one exchange with the server."""
        return super().wait(self._within(gen, time.monotonic() + STATEMENT_TIMEOUT_S), *args, **options)

    def _within(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        """Pass everything on; the waiting side looks in several times a second with nothing in its hands."""
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {STATEMENT_TIMEOUT_S:.0f} s")
                state = gen.send(ready)
        except StopIteration as end:
            return end.value


class seconds_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 (UTC) by the database's clock, at the moment of the statement."""

    type = Float(53)
    inherit_cache = True


class utc_now(FunctionElement[datetime]):  # noqa: N801
    """The same moment as naive UTC, which is how Optuna stores the times of trials."""

    type = DateTime()
    inherit_cache = True


@compiles(seconds_now, "postgresql")
def _seconds_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::double precision"


@compiles(seconds_now, "sqlite")
def _seconds_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    # julianday is exact to about 0.1 ms; unixepoch('subsec') would need SQLite 3.42
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(utc_now, "postgresql")
def _utc_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


@compiles(utc_now, "sqlite")
def _utc_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


def iso(seconds: float | None) -> str | None:
    """Write a stored moment for JSON: `2026-01-31T12:00:00.250Z`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY = 5, 6, 8
_SQLITE_IOERR, _SQLITE_FULL, _SQLITE_CANTOPEN, _SQLITE_PROTOCOL, _SQLITE_NOTADB = 10, 13, 14, 15, 26
_SQLITE_TRANSIENT = {_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_PROTOCOL}
_SQLITE_REASONS = {
    _SQLITE_READONLY: ("it may not be written", "Choose a folder that this user may write to."),
    _SQLITE_CANTOPEN: ("it cannot be opened", "The folder must exist, and this user must be allowed to write there."),
    _SQLITE_IOERR: ("reading or writing it failed", "Check the disk; put the file on a local one."),
    _SQLITE_NOTADB: ("the file is not a database", "Name another file, or move this one away."),
}

_POSTGRES_TRANSIENT_CLASSES = ("08", "40", "57P")
_POSTGRES_TRANSIENT = {"55P03", "53300", "57014", "25P03"}  # lock timeout, too many clients, statement timeout, idle
_POSTGRES_FULL = "53100"


def is_transient(error: BaseException) -> bool:
    """Tell whether the same transaction may well succeed a moment later."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_TRANSIENT
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_POSTGRES_TRANSIENT_CLASSES) or state in _POSTGRES_TRANSIENT
    # psycopg gives no SQLSTATE when the connection itself was refused, cut or timed out
    return error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")


def to_storage_error(error: BaseException, place: str) -> TunerError:
    """Say it as an error of ours; `place` is the storage's URL without its password."""
    if isinstance(error, PoolTimeoutError):
        return StorageError("every connection of this process is busy", where=place)
    original = getattr(error, "orig", None) or error
    words = (str(original).strip().splitlines() or [type(original).__name__])[0]
    code, state = _sqlite_code(error), _sqlstate(error)
    if code == _SQLITE_FULL or state == _POSTGRES_FULL:
        return DiskFullError(
            f"no space left on the disk of the storage ({words}).",
            hint="Free some space, then `tuner resume`: nothing that was reported is lost.",
            where=place,
        )
    if code in _SQLITE_TRANSIENT:
        return StorageError(
            f"the database stayed locked by another process ({words}).",
            hint="See which program holds it; many workers want PostgreSQL.",
            where=place,
        )
    if code in _SQLITE_REASONS:
        reason, hint = _SQLITE_REASONS[code]
        kind = NoStorageError if code == _SQLITE_NOTADB else StorageError
        return kind(f"{reason} ({words}).", hint=hint, where=place)
    if is_transient(error):
        return StorageError(
            f"the storage does not answer ({words}).",
            hint="Check the address, and that the server runs and can be reached from here.",
            where=place,
        )
    return StorageError(f"the storage refused: {words}", where=place)


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _sqlstate(error: BaseException) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


_log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_TIMEOUT_S = 300.0
"""How long a transaction is repeated while the database is away, once it has answered for the first time."""
OPEN_TIMEOUT_S = 14.0
"""How long a storage may take to answer when it is opened."""
MAX_CONNECTIONS = 10
"""The most connections of a process with a PostgreSQL server, unless it says otherwise."""
WORKER_CONNECTIONS = 2
"""Those of a worker: one for the training, one for heartbeats; while it is idle it needs only one of them."""
_BUSY_S = 30.0
_CONNECT_S = 6  # for each address of the host: localhost has two
_POSTGRES_OPTIONS = (
    "-c statement_timeout=60000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=120000"
    " -c jit=off"  # compiling a count over a large study takes longer than the count
)


class Database:
    """One storage. Every statement of the store goes through `write`, `single` or `read`."""

    def __init__(
        self,
        url: URL,
        *,
        read_only: bool = False,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.url = url
        self.display_url = redact_url(url)
        self.dialect = url.get_backend_name()
        self.retry_timeout_s = retry_timeout_s
        self._held = threading.local()
        if self.dialect == "sqlite":
            self.reader = _sqlite(url, query_only=True)
            self.writer = self.reader if read_only else _sqlite(url, query_only=False)
        else:
            self.reader = self.writer = _postgresql(url, read_only=read_only, connections=connections)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = False,
        read_only: bool = False,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        connections: int = MAX_CONNECTIONS,
    ) -> "Database":
        """Open the storage and wait until it has answered once, at most 15 s. Raises StorageError, RequestError.

        `connections`: the most that this process has with a PostgreSQL server; one of them stays open.
        """
        parsed = read_url(url)
        if parsed.get_backend_name() == "sqlite":
            check_file(parsed, create=create)
        database = cls(parsed, read_only=read_only, retry_timeout_s=retry_timeout_s, connections=connections)
        try:
            database._wait_for_answer()
        except BaseException:
            database.close()
            raise
        return database

    def write(self, work: Callable[[Connection], T], *, retry_timeout_s: float | None = None) -> T:
        """Run `work` in one writing transaction. It may run again from its start, so it must be a compare-and-set.

        `retry_timeout_s`: how long it is repeated, where that is shorter than for all that is written.
        """

        def once() -> T:
            with self.writer.begin() as connection:
                return work(connection)

        return self._repeat(once, retry_timeout_s)

    def single(self, work: Callable[[Connection], T]) -> T:
        """Run statements that stand alone, each its own transaction: no BEGIN, no COMMIT."""

        def once() -> T:
            with self.writer.connect() as connection:
                return work(connection.execution_options(**self._alone))

        return self._repeat(once)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent snapshot that writers do not hold up; inside `read_snapshot`, on its one."""
        held: Connection | None = getattr(self._held, "connection", None)
        if held is not None:
            return work(held)

        def once() -> T:
            with self.reader.connect() as connection:
                return work(connection.execution_options(**self._snapshot))

        return self._repeat(once)

    def read_snapshot(self, work: Callable[[], T]) -> T:
        """Let all that `work` reads, in this thread, come from one snapshot over one connection.

        It may run again from its start, and must not rely on reading what it has written.
        """
        if getattr(self._held, "connection", None) is not None:
            return work()

        def on(connection: Connection) -> T:
            self._held.connection, self._held.known = connection, {}
            try:
                return work()
            finally:
                self._held.connection = self._held.known = None

        return self.read(on)

    def known(self, connection: Connection) -> dict[str, Any]:
        """Return what may be kept as long as a snapshot lasts; forgotten at once where there is none."""
        held: dict[str, Any] | None = getattr(self._held, "known", None)
        return held if held is not None and connection is self._held.connection else {}

    def close(self) -> None:
        """Close all connections."""
        self.writer.dispose()
        self.reader.dispose()

    @property
    def _alone(self) -> dict[str, Any]:
        return {"tuner_begin": None} if self.dialect == "sqlite" else {"isolation_level": "AUTOCOMMIT"}

    @property
    def _snapshot(self) -> dict[str, Any]:
        if self.dialect == "sqlite":
            return {}
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def _repeat(self, once: Callable[[], T], retry_timeout_s: float | None = None) -> T:
        deadline, pause_s = None, 0.02
        limit_s = self.retry_timeout_s if retry_timeout_s is None else min(retry_timeout_s, self.retry_timeout_s)
        while True:
            try:
                return once()
            except IntegrityError:
                raise
            except (DBAPIError, PoolTimeoutError) as error:
                deadline = deadline or time.monotonic() + limit_s
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not is_transient(error):
                    raise to_storage_error(error, self.display_url) from error
                if pause_s > 1:
                    _log.warning(
                        "%s; trying again for %.0f s", to_storage_error(error, self.display_url).message, left_s
                    )
                time.sleep(min(left_s, pause_s * random.uniform(0.5, 1.0)))
                pause_s = min(2 * pause_s, 5.0)

    def _wait_for_answer(self) -> None:
        answers: list[BaseException | None] = []

        def ask() -> None:
            try:
                with self.reader.connect() as connection:
                    connection.execute(text("SELECT 1"))
                answers.append(None)
            except (DBAPIError, OSError) as error:
                answers.append(error)

        # the resolver of host names knows no time limit, so the asking thread may have to be left behind
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(OPEN_TIMEOUT_S)
        if not answers:
            raise StorageError(
                f"the storage did not answer within {OPEN_TIMEOUT_S:.0f} s.",
                hint="Check the address, and that the server runs and can be reached from here.",
                where=self.display_url,
            )
        if answers[0] is not None:
            raise to_storage_error(answers[0], self.display_url) from answers[0]


def _sqlite(url: URL, *, query_only: bool) -> Engine:
    """SQLite ignores row locks: taking the write lock at BEGIN is what makes a compare-and-set true."""
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
        pool_size=2,
        max_overflow=30,
        execution_options={"tuner_begin": "BEGIN" if query_only else "BEGIN IMMEDIATE"},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver must not open transactions by itself
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", *(["query_only=ON"] if query_only else [])):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        how = connection.get_execution_options().get("tuner_begin")
        if how:
            connection.exec_driver_sql(how)

    return engine


def _postgresql(url: URL, *, read_only: bool, connections: int) -> Engine:
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=1,
        max_overflow=connections - 1,
        pool_recycle=1800,
        execution_options={"postgresql_readonly": True} if read_only else {},
        connect_args={
            "connect_timeout": _CONNECT_S,
            "options": _POSTGRES_OPTIONS + (" -c default_transaction_read_only=on" if read_only else ""),
            "application_name": "tuner",
            "keepalives_idle": 20,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:

        return TimeoutConnection.connect(*arguments, **options)

    return engine
