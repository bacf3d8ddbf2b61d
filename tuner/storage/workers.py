"""Workers: registration, heartbeat, quarantine of devices, and trials of lost workers put back into the queue.

Silence is measured by the database's clock; on one host a vanished process is noticed at once.
"""

import math
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, func, insert, or_, select, update

from tuner.storage import optuna_schema, schema
from tuner.storage.base import AnyRow, StorageBase, bump_revision
from tuner.storage.devices import neighbours, place
from tuner.storage.engine import iso, seconds_now, utc_now
from tuner.storage.loss_time import limit_s
from tuner.storage.records import Claim, LostTrial, Orders, Outcome
from tuner.storage.states import DesiredState, Reason, State, constraints
from tuner.storage.trials import fill_up, requeue, sync_to_optuna, timed_out

_attempts = schema.attempts
_trials = optuna_schema.trials
_workers = schema.workers

MAX_QUARANTINED = 64
"""Rows that are told at once."""


@dataclass(frozen=True, slots=True)
class FinishedAttempt:
    """An attempt that has ended, and where."""

    number: int
    host: str
    device: str
    state: str
    reason: str | None
    message: str | None
    claimed_at: float
    finished_at: float
    gpu: str | None = None
    """UUID of the GPU."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another worker on the same device."""

    trial_id: int | None
    """Of the trial that it holds, of whichever study."""
    alone: bool
    """Whether that one must have the device for itself."""


def quarantined_by_study(connection: Connection, study_id: int | None) -> list[dict[str, Any]]:
    """Return what `Workers.quarantined` returns; one statement."""
    query = select(_workers).where(is_quarantined())
    if study_id is not None:
        query = query.where(_workers.c.aside_study_id == study_id)
    return quarantined_devices(
        connection.execute(query.order_by(_workers.c.left_at.desc()).limit(MAX_QUARANTINED)), study_id
    )


def is_quarantined() -> ColumnElement[bool]:
    """Condition on `tuner_workers`: it has quarantined its device, and nobody has started one there since."""
    later = _workers.alias()
    again = select(later.c.worker_id).where(
        place(later) == place(_workers),
        later.c.started_at > _workers.c.left_at,
    )
    return _workers.c.left_at.is_not(None) & _workers.c.aside_why.is_not(None) & ~again.exists()


def quarantined_devices(rows: Iterable[AnyRow], study_id: int | None) -> list[dict[str, Any]]:
    """Return the documents of devices that were quarantined, over one study or any; each device once."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if study_id in (None, row.aside_study_id):
            place = {"host": row.host, "device": row.device, "study": row.aside_study}
            found.setdefault(tuple(place.values()), place | {"why": row.aside_why, "since": iso(row.left_at)})
    return list(found.values())


def process_identity(pid: int) -> str:
    """Identify a process of this machine: boot, pid namespace, start time. Empty when that cannot be known."""
    start = _start_time(pid)
    return "" if start is None else f"{_pid_namespace()}/{start}"


def is_gone(pid: int, known: str) -> bool:
    """Tell whether the process with that fingerprint certainly no longer exists on this machine.

    A process of another boot or container cannot be seen from here, so it is never said to be gone.
    """
    if sys.platform != "linux":
        return not known and not _answers(pid)
    realm, _, start = known.rpartition("/")
    return bool(realm) and realm == _pid_namespace() and _start_time(pid) != start


def _pid_namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time in clock ticks since boot; None for a process that is dead or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] in ("Z", "X") else fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


_studies = schema.studies
MAX_REAPED_AT_ONCE = 20
"""Lost trials that one look requeues at most: after the death of a cluster every worker would do the same thousand."""
_OUTCOME = Outcome(State.FAIL, Reason.WORKER_LOST, "heartbeat lost: its worker was not heard from in time")


def _held(heartbeat_timeout_s: float) -> Any:
    """Select the claimed trials with what is known of their workers, and whether these were silent too long."""
    now = seconds_now()
    heard = func.coalesce(_workers.c.seen_at, _attempts.c.claimed_at)
    quiet = or_(_workers.c.left_at.is_not(None), heard < now - heartbeat_timeout_s)
    settled = or_(_workers.c.left_at.is_not(None), _studies.c.alive_since < now - heartbeat_timeout_s)
    return (
        select(
            _attempts.c.trial_id,
            _workers.c.worker_id,
            _workers.c.host,
            _workers.c.pid,
            _workers.c.process,
            (quiet & settled).label("silent"),
        )
        .join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
        .join(_studies, _studies.c.study_id == _attempts.c.study_id)
        .outerjoin(_workers, _workers.c.worker_id == _attempts.c.worker_id)
        .where(_attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None))
    )


def _gone(row: AnyRow, here: str) -> bool:
    return row.pid is not None and row.host == here and is_gone(row.pid, row.process)


def _fail(connection: Connection, trial_id: int) -> LostTrial:
    connection.execute(
        update(_trials)
        .where(_trials.c.trial_id == trial_id)
        .values(state=State.FAIL.value, datetime_complete=utc_now())
    )
    study_id = select(_attempts.c.study_id).where(_attempts.c.trial_id == trial_id).scalar_subquery()
    study = connection.execute(select(_studies).where(_studies.c.study_id == study_id)).one()
    revision = bump_revision(connection, study.study_id)
    row = connection.execute(
        update(_attempts)
        .where(_attempts.c.trial_id == trial_id)
        .values(
            finished_at=seconds_now(),
            finished_revision=revision,
            reason=Reason.WORKER_LOST.value,
            message=_OUTCOME.message,
            feasible=constraints(State.FAIL, Reason.WORKER_LOST),
        )
        .returning(_attempts)
    ).one()
    sync_to_optuna(connection, row, _OUTCOME, objectives=len(study.objectives))
    again = requeue(connection, row, alone=False, lost=row.lost + 1) if row.lost < study.retries else None
    if limit_s(study) is not None:
        fill_up(connection, study.study_id)
    return LostTrial(row.number, row.worker_id, again)


_FORGET_S = 7 * 86_400.0


class Workers(StorageBase):
    """The part of the store that keeps heartbeats, looks after lost workers, and knows which devices fail."""

    _adopted_at = -math.inf

    def register(
        self,
        *,
        pid: int,
        device: str,
        study: str | None,
        version: str,
        host: str | None = None,
        gpu: str | None = None,
    ) -> str:
        """Enter a worker and return its id. `study` None: it serves whichever study has work.

        `host` defaults to this machine's name; `pid` must be a process of this machine; `gpu` is the UUID of its GPU.
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
                    process=process_identity(pid),
                    device=device,
                    version=version,
                    gpu=gpu,
                    started_at=now,
                    seen_at=now,
                )
            )
            _forget_old(connection)
            self._account_active_time(connection, worker_id)

        self._database.write(enter)
        return worker_id

    def heartbeat(self, worker_id: str, *, progress: Mapping[str, Any] | None = None) -> bool:
        """Say that a worker is alive; False when it is not known (any more). `progress` is shown by `workers`."""
        values: dict[str, Any] = {"seen_at": seconds_now(), "left_at": None}
        if progress is not None:
            values["progress"] = dict(progress)

        def sign(connection: Connection) -> bool:
            changed = connection.execute(update(_workers).where(_workers.c.worker_id == worker_id).values(**values))
            self._account_active_time(connection, worker_id)
            return changed.rowcount == 1

        return self._database.single(sign)

    def orders(self, claim: Claim) -> Orders | None:
        """Return what the worker of a claimed trial is to do about it; None when it no longer holds it."""
        query = (
            select(
                _attempts.c.prune_requested,
                _attempts.c.end_now,
                ((_studies.c.wanted == DesiredState.STOP.value) | timed_out()).label("stop"),
            )
            .join(_studies, _studies.c.study_id == _attempts.c.study_id)
            .where(
                _attempts.c.trial_id == claim.trial_id,
                _attempts.c.worker_id == claim.worker_id,
                _attempts.c.finished_at.is_(None),
            )
        )
        row = self._database.single(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        wanted = bool(row.stop or row.prune_requested)
        return Orders(stop=bool(row.stop), prune=bool(row.prune_requested), now=wanted and bool(row.end_now))

    def unregister(self, worker_id: str) -> None:
        """Say that a worker has ended by itself."""

        def go(connection: Connection) -> None:
            self._account_active_time(connection, worker_id)
            connection.execute(update(_workers).where(_workers.c.worker_id == worker_id).values(left_at=seconds_now()))

        self._database.single(go)

    def live(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the live workers, of one study or of all, in the contract's form."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            study_id = None if name is None else self._find(connection, name).study_id
            return live_workers(connection, self._context.heartbeat_timeout_s, study_id)

        return self._database.read(read)

    def neighbours(self, worker_id: str) -> list[Neighbour]:
        """Return the other live workers on a worker's device: of the same GPU by its UUID, in whatever container."""
        rows = neighbours(worker_id).subquery()
        alive = rows.c.seen_at > seconds_now() - self._context.heartbeat_timeout_s
        query = select(rows.c.trial_id, rows.c.alone).where(alive)
        found = self._database.read(lambda connection: connection.execute(query).all())
        return [Neighbour(row.trial_id, bool(row.alone)) for row in found]

    def recent_attempts(self, name: str, limit: int) -> list[FinishedAttempt]:
        """Return the attempts of a study that ended last, newest first, with the devices that they ran on."""
        newest = _attempts.c.finished_revision

        def read(connection: Connection) -> list[FinishedAttempt]:
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
                    _workers.c.gpu,
                )
                .join(_workers, _workers.c.worker_id == last.c.worker_id)
                .join(_trials, _trials.c.trial_id == last.c.trial_id)
                .order_by(last.c.finished_revision.desc())
            )
            return [FinishedAttempt(*row) for row in rows]

        return self._database.read(read)

    def quarantine_device(self, worker_id: str, name: str, why: str) -> None:
        """Write down that a worker ends itself because its device fails the trials of a study."""

        def note(connection: Connection) -> None:
            study_id = self._find(connection, name).study_id
            changed = update(_workers).where(_workers.c.worker_id == worker_id)
            connection.execute(
                changed.values(aside_study_id=study_id, aside_study=name, aside_why=why, left_at=seconds_now())
            )
            bump_revision(connection, study_id)

        self._database.write(note)

    def quarantined(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the devices that were quarantined, over one study or any: `{host, device, study, why, since}`.

        One that somebody has started a worker on since is not among them.
        """

        def read(connection: Connection) -> list[dict[str, Any]]:
            return quarantined_by_study(connection, None if name is None else self._find(connection, name).study_id)

        return self._database.read(read)

    def requeue_lost(self, study_id: int | None = None) -> list[LostTrial]:
        """Fail every running trial that no live worker holds, and requeue it while it has retries left.

        Of one study, or of all.

        A worker is lost when it was silent too long by the database's clock, counted from when heartbeats came
        without a gap (so that an outage of the database is nobody's fault), or at once when it was a process of this
        machine that no longer exists. One statement when there is nothing to do. Of very many, some at each look.
        """
        self._start_grace_period()
        suspects = self._database.single(lambda connection: self._suspects(connection, study_id))
        if len(suspects) > MAX_REAPED_AT_ONCE:
            suspects = random.sample(suspects, MAX_REAPED_AT_ONCE)
        return [lost for row in suspects if (lost := self._reap(row)) is not None]

    def _start_grace_period(self) -> None:
        """Start the grace time of trials that another program of Optuna's took from our queue; once in a while."""
        if time.monotonic() < self._adopted_at + self._context.heartbeat_timeout_s:
            return
        self._adopted_at = time.monotonic()
        taken = select(_trials.c.trial_id).where(_trials.c.state == State.RUNNING.value)
        self._database.single(
            lambda connection: connection.execute(
                update(_attempts)
                .where(_attempts.c.claimed_at.is_(None), _attempts.c.trial_id.in_(taken))
                .values(claimed_at=seconds_now())
            )
        )

    def _suspects(self, connection: Connection, study_id: int | None) -> list[AnyRow]:
        query = _held(self._context.heartbeat_timeout_s)
        rows = connection.execute(query if study_id is None else query.where(_attempts.c.study_id == study_id))
        here = socket.gethostname()
        return [row for row in rows if row.silent or _gone(row, here)]

    def _reap(self, suspect: AnyRow) -> LostTrial | None:
        def end(connection: Connection) -> LostTrial | None:
            # who is just finishing it holds its row: then it is not lost
            row = connection.execute(
                _held(self._context.heartbeat_timeout_s)
                .where(_attempts.c.trial_id == suspect.trial_id, _trials.c.state == State.RUNNING.value)
                .with_for_update(of=_trials, skip_locked=True)
            ).one_or_none()
            if row is None:
                return None
            has_gone = _gone(row, socket.gethostname())
            if has_gone:  # nobody is to be counted as alive for the rest of the minute
                left = update(_workers).where(_workers.c.worker_id == row.worker_id)
                connection.execute(left.values(left_at=seconds_now()))
            return _fail(connection, suspect.trial_id) if row.silent or has_gone else None

        return self._database.write(end)

    def _account_active_time(self, connection: Connection, worker_id: str) -> None:
        """Add the time since the last heartbeat to the study's account, and note gaps: nobody was alive in them.

        Only the first of several workers in an interval adds anything.
        """
        now = seconds_now()
        held = select(_attempts.c.study_id).where(
            _attempts.c.worker_id == worker_id, _attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None)
        )
        bound = select(_workers.c.study_id).where(
            _workers.c.worker_id == worker_id, _workers.c.study_id.is_not(None), ~held.exists()
        )
        gap = now - _studies.c.spent_at
        together = gap <= self._context.heartbeat_timeout_s / 2
        connection.execute(
            update(_studies)
            .where(_studies.c.study_id.in_(held.union(bound)), gap >= self._context.heartbeat_interval_s)
            .values(
                spent_s=_studies.c.spent_s + case((together, gap), else_=0.0),
                alive_since=case((together, _studies.c.alive_since), else_=now),
                spent_at=now,
            )
        )


def live_workers(
    connection: Connection, heartbeat_timeout_s: float, study_id: int | None = None
) -> list[dict[str, Any]]:
    """Return the workers that were heard of lately, with the trial that each holds; one statement.

    Of a study: those that are bound to it, and those that hold a trial of it.
    """
    return [_document(row) for row in _live_rows(connection, heartbeat_timeout_s, study_id)]


def any_stands_ready(connection: Connection, heartbeat_timeout_s: float) -> bool:
    """Tell whether a live worker that serves whichever study has work holds no trial."""
    held = select(_attempts.c.worker_id).where(_attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None))
    query = select(_workers.c.worker_id).where(
        _workers.c.study_id.is_(None),
        _workers.c.left_at.is_(None),
        _workers.c.seen_at > seconds_now() - heartbeat_timeout_s,
        _workers.c.worker_id.not_in(held),
    )
    return connection.execute(query.limit(1)).one_or_none() is not None


def live_and_quarantined(
    connection: Connection, heartbeat_timeout_s: float, study_id: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `live_workers` returns of a study, and the devices that were quarantined over it; one statement."""
    rows = _live_rows(connection, heartbeat_timeout_s, study_id, or_quarantined=True)
    gone = [row for row in rows if row.left_at is not None]
    return [_document(row) for row in rows if row.left_at is None], quarantined_devices(reversed(gone), study_id)


def live_by_study(connection: Connection, heartbeat_timeout_s: float) -> dict[int, list[dict[str, Any]]]:
    """Return what `live_workers` returns of each study that has any, by its id; one statement."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in _live_rows(connection, heartbeat_timeout_s, None):
        for study_id in {row.study_id, row.serves, row.searched} - {None}:
            found.setdefault(study_id, []).append(_document(row))
    return found


def _live_rows(
    connection: Connection, heartbeat_timeout_s: float, study_id: int | None, *, or_quarantined: bool = False
) -> list[AnyRow]:
    live = _workers.c.left_at.is_(None) & (_workers.c.seen_at > seconds_now() - heartbeat_timeout_s)
    searched = _studies.alias()  # the study whose confirmation is served
    if study_id is not None:
        confirmation = _studies.alias()
        confirmed = (
            select(searched.c.study_id)
            .join(confirmation, confirmation.c.parent == searched.c.identity)
            .where(confirmation.c.study_id == study_id)
            .correlate(None)
        )
        live &= (
            (_workers.c.study_id == study_id)
            | _workers.c.study_id.in_(confirmed)
            | (_attempts.c.study_id == study_id)
            | (searched.c.study_id == study_id)
        )
    query = (
        select(
            _workers,
            _attempts.c.number.label("trial"),
            _attempts.c.study_id.label("serves"),
            func.coalesce(searched.c.name, _studies.c.name).label("study"),
            searched.c.study_id.label("searched"),
        )
        .outerjoin(
            _attempts,
            (_attempts.c.worker_id == _workers.c.worker_id)
            & _attempts.c.claimed_at.is_not(None)
            & _attempts.c.finished_at.is_(None),
        )
        .outerjoin(_studies, _studies.c.study_id == _attempts.c.study_id)
        .outerjoin(searched, searched.c.identity == _studies.c.parent)
        .where(live | is_quarantined() if or_quarantined else live)
        .order_by(_workers.c.started_at, _workers.c.worker_id)
    )
    return list(connection.execute(query))


def _document(row: AnyRow) -> dict[str, Any]:
    return {
        "id": row.worker_id,
        "host": row.host,
        "pid": row.pid,
        "device": row.device,
        "trial": row.trial if row.searched is None else None,
        "run": None if row.searched is None else row.trial,
        "last_seen": iso(row.seen_at),
        "study": row.study,
        "version": row.version,
        "progress": row.progress,
        "study_id": next((i for i in (row.searched, row.serves, row.study_id) if i is not None), None),
    }


def _forget_old(connection: Connection) -> None:
    holds = select(_attempts.c.worker_id).where(_attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None))
    old = _workers.c.seen_at < seconds_now() - _FORGET_S
    connection.execute(delete(_workers).where(old, _workers.c.worker_id.not_in(holds)))
