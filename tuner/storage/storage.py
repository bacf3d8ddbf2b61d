"""The store: a URL in, everything about the database hidden. See `states.py` for what may follow what."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from tuner.storage import migrate
from tuner.storage.base import Newest
from tuner.storage.engine import CONNECTIONS, PATIENCE_S, Database
from tuner.storage.epochs import Curves, Histories
from tuner.storage.notifications import Notices
from tuner.storage.status import Reading
from tuner.storage.studies import Studies
from tuner.storage.trial_queries import Listing
from tuner.storage.trials import Arrows
from tuner.storage.workers import Aside, Reaper, Workers

T = TypeVar("T")

LOST_AFTER_S = 60.0
"""A worker that was silent that long is lost."""
BEAT_S = 5.0
"""Workers give a life sign that often."""
MOST_SUMMARIES = 2000
"""So many studies are listed without counting their trials again."""


class Store(Studies, Arrows, Curves, Histories, Workers, Reaper, Reading, Notices, Listing, Aside):
    """All that is stored. May be shared by the threads of a process, never by processes: each opens its own."""

    def __init__(self, database: Database, *, lost_after_s: float = LOST_AFTER_S, beat_s: float = BEAT_S) -> None:
        self._database = database
        self._lost_after_s = lost_after_s
        self._beat_s = beat_s
        self._summaries = Newest(MOST_SUMMARIES)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = False,
        read_only: bool = False,
        patience_s: float = PATIENCE_S,
        lost_after_s: float = LOST_AFTER_S,
        beat_s: float = BEAT_S,
        connections: int = CONNECTIONS,
    ) -> Self:
        """Open a storage. With `create`, make what is missing and migrate what is old; else only check versions.

        Raises StorageError within 15 s when it does not answer, RequestError for a URL that names no storage.
        `patience_s`: how long a transaction is repeated when the database goes away later.
        `read_only`: every write is refused; nothing is created or migrated.
        `connections`: the most that this process has with a PostgreSQL server.
        """
        database = Database.open(
            url,
            create=create and not read_only,
            read_only=read_only,
            patience_s=patience_s,
            connections=connections,
        )
        try:
            if create and not read_only:
                migrate.prepare(database)
            else:
                migrate.check(database)
        except BaseException:
            database.close()
            raise
        return cls(database, lost_after_s=lost_after_s, beat_s=beat_s)

    def at_once(self, work: Callable[[], T]) -> T:
        """Let all that `work` reads in this thread come from one snapshot over one connection; it may run again."""
        return self._database.at_once(work)

    @property
    def place(self) -> str:
        """The storage's URL without its password."""
        return self._database.place

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def upgrade(url: str) -> dict[str, Any]:
    """Create or migrate the schema of a storage: `tuner db upgrade`. Returns `{"storage", "from", "to"}`."""
    database = Database.open(url, create=True)
    try:
        before, after = migrate.prepare(database)
        return {"storage": database.place, "from": before, "to": after}
    finally:
        database.close()


def check(url: str) -> dict[str, Any]:
    """Say which schema a storage has and which is needed: `tuner db check`."""
    database = Database.open(url)
    try:
        return migrate.report(database)
    finally:
        database.close()
