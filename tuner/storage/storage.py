"""Storage: the public facade of the database, opened by URL. States and transitions: `states.py`."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from tuner.storage import migrate
from tuner.storage.activity import Activity
from tuner.storage.annotations import Annotations
from tuner.storage.base import RevisionCache, StorageContext
from tuner.storage.confirmations import Confirmations
from tuner.storage.engine import MAX_CONNECTIONS, RETRY_TIMEOUT_S, Database
from tuner.storage.epochs import Epochs
from tuner.storage.foreign_trials import ForeignTrials
from tuner.storage.notifications import Notifications
from tuner.storage.status import StatusQueries
from tuner.storage.studies import Studies
from tuner.storage.trial_queries import TrialQueries
from tuner.storage.trials import Trials
from tuner.storage.workers import Workers

T = TypeVar("T")

HEARTBEAT_TIMEOUT_S = 60.0
"""A worker that was silent that long is lost."""
HEARTBEAT_INTERVAL_S = 5.0
"""Workers give a heartbeat that often."""
MAX_CACHED_SUMMARIES = 2000
"""So many studies are listed without counting their trials again."""
MAX_CACHED_RANKINGS = 32
"""So many selections of trials are drawn without reading them again: 20 bytes for each of their trials."""


class Queries(StatusQueries, TrialQueries):
    """What people and programs read: documents of studies, and rows of trials."""


class Storage:
    """All that is stored. May be shared by the threads of a process, never by processes: each opens its own.

    `studies` creates, changes and deletes studies; `trials` moves trials from state to state; `epochs` stores reports
    and gives samplers and pruners what they learn from; `workers` registers them, and gives back what lost ones held;
    `queries` reads; `confirmations` trains the finalists of a study again; `notifications` says who sends which event;
    `foreign` takes up what others add to our studies; `annotations` keeps notes, tags and stars; `activity` logs who
    changed what.
    """

    def __init__(
        self,
        database: Database,
        *,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        summaries, rankings = RevisionCache[Any](MAX_CACHED_SUMMARIES), RevisionCache[Any](MAX_CACHED_RANKINGS)
        self.context = StorageContext(database, summaries, rankings, heartbeat_timeout_s, heartbeat_interval_s)
        self.studies = Studies(self.context)
        self.trials = Trials(self.context)
        self.epochs = Epochs(self.context)
        self.workers = Workers(self.context)
        self.queries = Queries(self.context)
        self.confirmations = Confirmations(self.context)
        self.notifications = Notifications(self.context)
        self.foreign = ForeignTrials(self.context)
        self.annotations = Annotations(self.context)
        self.activity = Activity(self.context)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = False,
        read_only: bool = False,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
        connections: int = MAX_CONNECTIONS,
    ) -> Self:
        """Open a storage. With `create`, make what is missing and migrate what is old; else only check versions.

        Raises StorageError within 15 s when it does not answer, RequestError for a URL that names no storage.
        `retry_timeout_s`: how long a transaction is repeated when the database goes away later.
        `read_only`: every write is refused; nothing is created or migrated.
        `connections`: the most that this process has with a PostgreSQL server.
        """
        database = Database.open(
            url,
            create=create and not read_only,
            read_only=read_only,
            retry_timeout_s=retry_timeout_s,
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
        return cls(database, heartbeat_timeout_s=heartbeat_timeout_s, heartbeat_interval_s=heartbeat_interval_s)

    def read_snapshot(self, work: Callable[[], T]) -> T:
        """Let all that `work` reads in this thread come from one snapshot over one connection; it may run again."""
        return self.context.database.read_snapshot(work)

    @property
    def display_url(self) -> str:
        """The storage's URL without its password."""
        return self.context.database.display_url

    def close(self) -> None:
        """Close all connections."""
        self.context.database.close()

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
        return {"storage": database.display_url, "from": before, "to": after}
    finally:
        database.close()


def check(url: str) -> dict[str, Any]:
    """Say which schema a storage has and which is needed: `tuner db check`."""
    database = Database.open(url)
    try:
        return migrate.report(database)
    finally:
        database.close()
