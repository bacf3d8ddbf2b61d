"""Base of the storage's parts: shared context, a cache by revision, lookups and inserts that several parts need."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cachetools import LRUCache
from sqlalchemy import Connection, Insert, Row, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tuner.errors import ConflictError, NotFoundError, closest
from tuner.storage import optuna_schema, schema
from tuner.storage.engine import Database
from tuner.storage.records import StudyRecord, read_space
from tuner.storage.states import DesiredState

T = TypeVar("T")


class RevisionCache(Generic[T]):
    """What was computed for the newest revision of each study; of few studies, the least recently used forgotten.

    What may be newer than its revision does no harm: a later revision asks again.
    """

    MOST = 32

    def __init__(self, most: int = MOST) -> None:
        self._kept: LRUCache[str, tuple[int, T]] = LRUCache(most)
        self._lock = threading.Lock()

    def get(self, identity: str, revision: int, make: Callable[[], T]) -> T:
        """Return what was made for this revision of a study, or make it."""
        with self._lock:
            found = self._kept.get(identity)
        if found is not None and found[0] == revision:
            return found[1]
        made = make()
        with self._lock:
            self._kept[identity] = (revision, made)
        return made


if TYPE_CHECKING:
    AnyRow = Row[*tuple[Any, ...]]
else:
    AnyRow = Row


CONFIRMATION = "/confirmation"
"""What follows a study's name in the name of its first confirmation, and in the path of its files.

`-2` and so on follow in those that have replaced it.
"""

own = schema.studies.c.study_id == optuna_schema.studies.c.study_id
same_name = schema.studies.c.name == optuna_schema.studies.c.study_name


@dataclass(slots=True)
class StorageContext:
    """What the parts of a storage share."""

    database: Database
    summaries: "RevisionCache[Any]"
    """Summaries of studies (`tuner.storage.status`), each true for one revision."""
    rankings: "RevisionCache[Any]"
    """Columns of complete trials (`tuner.storage.ranking`), each true for one revision and selection."""
    heartbeat_timeout_s: float
    """A worker that was silent that long is lost."""
    heartbeat_interval_s: float


class StorageBase:
    """Base of the storage's parts."""

    def __init__(self, context: StorageContext) -> None:
        self._context = context
        self._database = context.database

    def _find(self, connection: Connection, name: str) -> AnyRow:
        """Return the row of a study of ours; NotFoundError, or ConflictError for an Optuna study of somebody else."""
        known = self._database.known(connection)
        row: AnyRow | None = known.get(name)
        if row is None:
            row = connection.execute(
                select(schema.studies).join(optuna_schema.studies, own & same_name).where(schema.studies.c.name == name)
            ).one_or_none()
        if row is not None:
            known[name] = row
            return row
        names = list(connection.scalars(select(optuna_schema.studies.c.study_name)))
        known_names = [known_name for known_name in names if CONFIRMATION not in known_name]
        if name in names:
            raise ConflictError(
                f"study {name!r} was made with Optuna by another program: it is shown, and left alone.",
                where=self._database.display_url,
            )
        near = closest(name, known_names)
        raise NotFoundError(
            f"there is no study {name!r}.",
            hint=f"Did you mean {near!r}?" if near else "`tuner studies` lists them.",
            where=self._database.display_url,
        )


def to_record(row: AnyRow) -> StudyRecord:
    """Make the record of a row of `tuner_studies`."""
    return StudyRecord(
        study_id=row.study_id,
        name=row.name,
        identity=row.identity,
        parent=row.parent,
        marks_folder=row.marks_folder,
        spec=row.spec,
        space=read_space(row.space),
        objectives=tuple(row.objectives),
        seed=row.seed,
        total=row.total,
        retries=row.retries,
        timeout_s=row.timeout_s,
        spent_s=row.spent_s,
        resources=row.resources,
        wanted=DesiredState(row.wanted),
        wanted_reason=row.wanted_reason,
        message=row.message,
        version=row.version,
        revision=row.revision,
        archived=row.archived,
    )


def bump_revision(connection: Connection, study_id: int, **changes: Any) -> int:
    """Change a study's row and number the change.

    The row stays locked until the transaction ends, so numbers become visible in their order: a reader that has seen
    one has seen all before it. Lock order everywhere: a trial's row, the study's row, rows of `tuner_attempts`.
    Returns 0 when the study is gone.
    """
    studies = schema.studies
    revision: int | None = connection.scalars(
        update(studies)
        .where(studies.c.study_id == study_id)
        .values(revision=studies.c.revision + 1, **changes)
        .returning(studies.c.revision)
    ).one_or_none()
    return revision or 0


def insert_or_ignore(dialect: str, table: Table) -> Any:
    """Return an INSERT that passes over rows that are there already."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def insert_rows(connection: Connection, statement: Insert | Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows as one statement; nothing when there are none."""
    if rows:
        connection.execute(statement.insert() if isinstance(statement, Table) else statement, list(rows))
