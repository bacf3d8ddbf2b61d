"""Workers: who is there, since when, and when each was last heard of, by the database's clock."""

import socket
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, case, delete, insert, select, update

from tuner.storage import schema
from tuner.storage.aside import is_aside, told
from tuner.storage.base import Room
from tuner.storage.clock import iso, seconds_now
from tuner.storage.processes import fingerprint
from tuner.storage.rows import AnyRow

_attempts, _studies, _workers = schema.attempts, schema.studies, schema.workers
_FORGET_S = 7 * 86_400.0


class Workers(Room):
    """The part of the store that keeps life signs."""

    def register_worker(
        self, *, pid: int, device: str, study: str | None, version: str, host: str | None = None
    ) -> str:
        """Enter a worker and return its id. `study` None: it serves whichever study has work.

        `host` defaults to this machine's name; `pid` must be a process of this machine.
        """
        worker_id = uuid.uuid4().hex[:12]
        now = seconds_now()

        def enter(connection: Connection) -> None:
            study_id = None if study is None else self._find(connection, study).study_id
            known = select(_workers.c.worker_id).where(_workers.c.worker_id == worker_id)
            if connection.execute(known).one_or_none():
                return
            connection.execute(
                insert(_workers).values(
                    worker_id=worker_id,
                    study_id=study_id,
                    host=host or socket.gethostname(),
                    pid=pid,
                    process=fingerprint(pid),
                    device=device,
                    version=version,
                    started_at=now,
                    seen_at=now,
                )
            )
            _forget_old(connection)
            self._pulse(connection, worker_id)

        self._database.write(enter)
        return worker_id

    def beat(self, worker_id: str, *, progress: Mapping[str, Any] | None = None) -> bool:
        """Say that a worker is alive; False when it is not known (any more). `progress` is shown by `workers`."""
        values: dict[str, Any] = {"seen_at": seconds_now(), "left_at": None}
        if progress is not None:
            values["progress"] = dict(progress)

        def sign(connection: Connection) -> bool:
            changed = connection.execute(update(_workers).where(_workers.c.worker_id == worker_id).values(**values))
            self._pulse(connection, worker_id)
            return changed.rowcount == 1

        return self._database.single(sign)

    def leave(self, worker_id: str) -> None:
        """Say that a worker has ended by itself."""

        def go(connection: Connection) -> None:
            self._pulse(connection, worker_id)
            connection.execute(update(_workers).where(_workers.c.worker_id == worker_id).values(left_at=seconds_now()))

        self._database.single(go)

    def workers(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the live workers, of one study or of all, in the contract's form."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            study_id = None if name is None else self._find(connection, name).study_id
            return live_workers(connection, self._lost_after_s, study_id)

        return self._database.read(read)

    def _pulse(self, connection: Connection, worker_id: str) -> None:
        """Add the time since the last life sign to the study's account, and note gaps: nobody was alive in them.

        Only the first of several workers in an interval adds anything.
        """
        now = seconds_now()
        held = select(_attempts.c.study_id).where(
            _attempts.c.worker_id == worker_id, _attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None)
        )
        bound = select(_workers.c.study_id).where(_workers.c.worker_id == worker_id, _workers.c.study_id.is_not(None))
        gap = now - _studies.c.spent_at
        together = gap <= self._lost_after_s / 2
        connection.execute(
            update(_studies)
            .where(_studies.c.study_id.in_(held.union(bound)), gap >= self._beat_s)
            .values(
                spent_s=_studies.c.spent_s + case((together, gap), else_=0.0),
                alive_since=case((together, _studies.c.alive_since), else_=now),
                spent_at=now,
            )
        )


def live_workers(connection: Connection, lost_after_s: float, study_id: int | None = None) -> list[dict[str, Any]]:
    """Return the workers that were heard of lately, with the trial that each holds; one statement.

    Of a study: those that are bound to it, and those that hold a trial of it.
    """
    return [_document(row) for row in _live_rows(connection, lost_after_s, study_id)]


def live_and_aside(
    connection: Connection, lost_after_s: float, study_id: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `live_workers` returns of a study, and the devices that were put aside over it; one statement."""
    rows = _live_rows(connection, lost_after_s, study_id, or_aside=True)
    gone = [row for row in rows if row.left_at is not None]
    return [_document(row) for row in rows if row.left_at is None], told(reversed(gone), study_id)


def live_by_study(connection: Connection, lost_after_s: float) -> dict[int, list[dict[str, Any]]]:
    """Return what `live_workers` returns of each study that has any, by its id; one statement."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in _live_rows(connection, lost_after_s, None):
        for study_id in {row.study_id, row.serves} - {None}:
            found.setdefault(study_id, []).append(_document(row))
    return found


def _live_rows(
    connection: Connection, lost_after_s: float, study_id: int | None, *, or_aside: bool = False
) -> list[AnyRow]:
    live = _workers.c.left_at.is_(None) & (_workers.c.seen_at > seconds_now() - lost_after_s)
    if study_id is not None:
        live &= (_workers.c.study_id == study_id) | (_attempts.c.study_id == study_id)
    query = (
        select(
            _workers,
            _attempts.c.number.label("trial"),
            _attempts.c.study_id.label("serves"),
            _studies.c.name.label("study"),
        )
        .outerjoin(
            _attempts,
            (_attempts.c.worker_id == _workers.c.worker_id)
            & _attempts.c.claimed_at.is_not(None)
            & _attempts.c.finished_at.is_(None),
        )
        .outerjoin(_studies, _studies.c.study_id == _attempts.c.study_id)
        .where(live | is_aside() if or_aside else live)
        .order_by(_workers.c.started_at, _workers.c.worker_id)
    )
    return list(connection.execute(query))


def _document(row: AnyRow) -> dict[str, Any]:
    return {
        "id": row.worker_id,
        "host": row.host,
        "pid": row.pid,
        "device": row.device,
        "trial": row.trial,
        "last_seen": iso(row.seen_at),
        "study": row.study,
        "version": row.version,
        "progress": row.progress,
        "study_id": row.serves if row.serves is not None else row.study_id,
    }


def _forget_old(connection: Connection) -> None:
    holds = select(_attempts.c.worker_id).where(_attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None))
    old = _workers.c.seen_at < seconds_now() - _FORGET_S
    connection.execute(delete(_workers).where(old, _workers.c.worker_id.not_in(holds)))
