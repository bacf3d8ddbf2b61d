"""Connections and transactions: one that writes, one that reads, each repeated as a whole after a transient error."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tuner.errors import StorageError
from tuner.storage.faults import explain, is_transient
from tuner.storage.url import check_file, read_url, shown

_log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a transaction is repeated while the database is away, once it has answered for the first time."""
ANSWER_S = 14.0
"""How long a storage may take to answer when it is opened."""
CONNECTIONS = 10
"""The most connections of a process with a PostgreSQL server, unless it says otherwise."""
OF_A_WORKER = 2
"""Those of a worker: one for the training, one for signs of life; while it is idle it needs only one of them."""
_BUSY_S = 30.0
_CONNECT_S = 6  # for each address of the host: localhost has two
_POSTGRES_OPTIONS = (
    "-c statement_timeout=60000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=120000"
    " -c jit=off"  # compiling a count over a large study takes longer than the count
)


class Database:
    """One storage. Every statement of the store goes through `write`, `single` or `read`."""

    def __init__(
        self, url: URL, *, read_only: bool = False, patience_s: float = PATIENCE_S, connections: int = CONNECTIONS
    ) -> None:
        self.url = url
        self.place = shown(url)
        self.dialect = url.get_backend_name()
        self.patience_s = patience_s
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
        patience_s: float = PATIENCE_S,
        connections: int = CONNECTIONS,
    ) -> "Database":
        """Open the storage and wait until it has answered once, at most 15 s. Raises StorageError, RequestError.

        `connections`: the most that this process has with a PostgreSQL server; one of them stays open.
        """
        parsed = read_url(url)
        if parsed.get_backend_name() == "sqlite":
            check_file(parsed, create=create)
        database = cls(parsed, read_only=read_only, patience_s=patience_s, connections=connections)
        try:
            database._wait_for_answer()
        except BaseException:
            database.close()
            raise
        return database

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one writing transaction. It may run again from its start, so it must be a compare-and-set."""

        def once() -> T:
            with self.writer.begin() as connection:
                return work(connection)

        return self._repeat(once)

    def single(self, work: Callable[[Connection], T]) -> T:
        """Run statements that stand alone, each its own transaction: no BEGIN, no COMMIT."""

        def once() -> T:
            with self.writer.connect() as connection:
                return work(connection.execution_options(**self._alone))

        return self._repeat(once)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent snapshot that writers do not hold up; inside `at_once`, on its one."""
        held: Connection | None = getattr(self._held, "connection", None)
        if held is not None:
            return work(held)

        def once() -> T:
            with self.reader.connect() as connection:
                return work(connection.execution_options(**self._snapshot))

        return self._repeat(once)

    def at_once(self, work: Callable[[], T]) -> T:
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

    def _repeat(self, once: Callable[[], T]) -> T:
        deadline, pause_s = None, 0.02
        while True:
            try:
                return once()
            except IntegrityError:
                raise
            except (DBAPIError, PoolTimeoutError) as error:
                deadline = deadline or time.monotonic() + self.patience_s
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not is_transient(error):
                    raise explain(error, self.place) from error
                if pause_s > 1:
                    _log.warning("%s; trying again for %.0f s", explain(error, self.place).message, left_s)
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
        asking.join(ANSWER_S)
        if not answers:
            raise StorageError(
                f"the storage did not answer within {ANSWER_S:.0f} s.",
                hint="Check the address, and that the server runs and can be reached from here.",
                where=self.place,
            )
        if answers[0] is not None:
            raise explain(answers[0], self.place) from answers[0]


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
        from tuner.storage.answers import BoundedConnection

        return BoundedConnection.connect(*arguments, **options)

    return engine
