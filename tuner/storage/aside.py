"""Devices that were put aside: what ended there lately and elsewhere, and which worker ended itself over it.

It stands in the worker's own row (`progress`), which is kept for a week. A worker that is started on the same device
later is somebody's word that it is mended.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, select, update

from tuner.storage import optuna_schema, schema
from tuner.storage.base import Room, raise_revision
from tuner.storage.clock import iso, seconds_now
from tuner.storage.rows import AnyRow

_attempts, _trials, _workers = schema.attempts, optuna_schema.trials, schema.workers

MARK = "put_aside"
MOST = 64
"""Rows that are told at once."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended, and where."""

    number: int
    host: str
    device: str
    state: str
    reason: str | None
    message: str | None
    claimed_at: float
    finished_at: float


class Aside(Room):
    """The part of the store that knows which devices fail."""

    def recent_ends(self, name: str, limit: int) -> list[Ended]:
        """Return the attempts of a study that ended last, newest first, with the devices that they ran on."""
        newest = _attempts.c.finished_revision

        def read(connection: Connection) -> list[Ended]:
            study_id = self._find(connection, name).study_id
            last = (
                select(_attempts)
                .where(_attempts.c.study_id == study_id, newest.is_not(None), _attempts.c.claimed_at.is_not(None))
                .order_by(newest.desc())
                .limit(limit)
                .subquery()
            )
            rows = connection.execute(
                select(
                    last.c.number,
                    _workers.c.host,
                    _workers.c.device,
                    _trials.c.state,
                    last.c.reason,
                    last.c.message,
                    last.c.claimed_at,
                    last.c.finished_at,
                )
                .join(_workers, _workers.c.worker_id == last.c.worker_id)
                .join(_trials, _trials.c.trial_id == last.c.trial_id)
                .order_by(last.c.finished_revision.desc())
            )
            return [Ended(*row) for row in rows]

        return self._database.read(read)

    def put_aside(self, worker_id: str, name: str, why: str) -> None:
        """Write down that a worker ends itself because its device fails the trials of a study."""

        def note(connection: Connection) -> None:
            study_id = self._find(connection, name).study_id
            said = {MARK: {"study": name, "study_id": study_id, "why": why}}
            changed = update(_workers).where(_workers.c.worker_id == worker_id)
            connection.execute(changed.values(progress=said, left_at=seconds_now()))
            raise_revision(connection, study_id)

        self._database.write(note)

    def aside(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the devices that were put aside, over one study or any: `{"host", "device", "study", "why", "since"}`.

        One that somebody has started a worker on since is not among them.
        """

        def read(connection: Connection) -> list[dict[str, Any]]:
            return devices_aside(connection, None if name is None else self._find(connection, name).study_id)

        return self._database.read(read)


def devices_aside(connection: Connection, study_id: int | None) -> list[dict[str, Any]]:
    """Return what `Aside.aside` returns; one statement."""
    newest = _workers.c.left_at.desc()
    return told(connection.execute(select(_workers).where(is_aside()).order_by(newest).limit(MOST)), study_id)


def is_aside() -> ColumnElement[bool]:
    """Condition on `tuner_workers`: it has put its device aside, and nobody has started one there since."""
    later = _workers.alias()
    again = select(later.c.worker_id).where(
        later.c.host == _workers.c.host,
        later.c.device == _workers.c.device,
        later.c.started_at > _workers.c.left_at,
    )
    marked = cast(_workers.c.progress, Text).contains(f'"{MARK}"', autoescape=True)
    return _workers.c.left_at.is_not(None) & marked & ~again.exists()


def told(rows: Iterable[AnyRow], study_id: int | None) -> list[dict[str, Any]]:
    """Return the documents of devices that were put aside, over one study or any; each device once."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        said = row.progress[MARK]
        if study_id in (None, said["study_id"]):
            place = {"host": row.host, "device": row.device, "study": said["study"]}
            found.setdefault(tuple(place.values()), place | {"why": said["why"], "since": iso(row.left_at)})
    return list(found.values())
