"""Trials whose worker is gone are failed and put back into the queue, in one transaction."""

import math
import random
import socket
import time
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from tuner.storage import optuna_schema, schema
from tuner.storage.base import Room, raise_revision
from tuner.storage.clock import seconds_now, utc_now
from tuner.storage.processes import is_gone
from tuner.storage.queue import requeue
from tuner.storage.records import LostTrial, Outcome
from tuner.storage.rows import AnyRow
from tuner.storage.states import Reason, State, constraints
from tuner.storage.trials import tell_optuna

_attempts, _studies, _workers, _trials = schema.attempts, schema.studies, schema.workers, optuna_schema.trials
AT_ONCE = 20
"""Lost trials that one look requeues at most: after the death of a cluster every worker would do the same thousand."""
_OUTCOME = Outcome(State.FAIL, Reason.WORKER_LOST, "its worker was not heard of any more")


class Reaper(Room):
    """The part of the store that looks after lost workers."""

    _adopted_at = -math.inf

    def requeue_lost_trials(self, study_id: int | None = None) -> list[LostTrial]:
        """Fail every running trial that no live worker holds, and requeue it while it has retries left.

        Of one study, or of all.

        A worker is lost when it was silent too long by the database's clock, counted from when life signs came
        without a gap (so that an outage of the database is nobody's fault), or at once when it was a process of this
        machine that no longer exists. One statement when there is nothing to do. Of very many, some at each look.
        """
        self._adopt()
        suspects = self._database.single(lambda connection: self._suspects(connection, study_id))
        if len(suspects) > AT_ONCE:
            suspects = random.sample(suspects, AT_ONCE)
        return [lost for row in suspects if (lost := self._reap(row)) is not None]

    def _adopt(self) -> None:
        """Start the grace time of trials that another program of Optuna's took from our queue; once in a while."""
        if time.monotonic() < self._adopted_at + self._lost_after_s:
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
        query = _held(self._lost_after_s)
        rows = connection.execute(query if study_id is None else query.where(_attempts.c.study_id == study_id))
        here = socket.gethostname()
        return [row for row in rows if row.silent or _gone(row, here)]

    def _reap(self, suspect: AnyRow) -> LostTrial | None:
        def end(connection: Connection) -> LostTrial | None:
            # who is just finishing it holds its row: then it is not lost
            row = connection.execute(
                _held(self._lost_after_s)
                .where(_attempts.c.trial_id == suspect.trial_id, _trials.c.state == State.RUNNING.value)
                .with_for_update(of=_trials, skip_locked=True)
            ).one_or_none()
            if row is None or not (row.silent or _gone(row, socket.gethostname())):
                return None
            return _fail(connection, suspect.trial_id)

        return self._database.write(end)


def _held(lost_after_s: float) -> Any:
    """Select the claimed trials with what is known of their workers, and whether these were silent too long."""
    now = seconds_now()
    heard = func.coalesce(_workers.c.seen_at, _attempts.c.claimed_at)
    quiet = or_(_workers.c.left_at.is_not(None), heard < now - lost_after_s)
    settled = or_(_workers.c.left_at.is_not(None), _studies.c.alive_since < now - lost_after_s)
    return (
        select(
            _attempts.c.trial_id,
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
    revision = raise_revision(connection, study.study_id)
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
    tell_optuna(connection, row, _OUTCOME, objectives=len(study.objectives))
    again = requeue(connection, row, alone=False, lost=True) if row.lost < study.retries else None
    return LostTrial(row.number, row.worker_id, again)
