"""The life of a trial: claim, set_params, report, finish. Each is a compare-and-set that says whether it won."""

import uuid
from collections.abc import Mapping
from itertools import count
from typing import Any

from sqlalchemy import Connection, select, update

from tuner.errors import SpecError
from tuner.registry import Scalar
from tuner.search.space import SearchSpace
from tuner.storage import optuna_schema, schema
from tuner.storage.base import Room, insert_new, insert_rows, raise_revision
from tuner.storage.clock import seconds_now, utc_now
from tuner.storage.optuna_schema import attribute_rows, param_rows, report_row, value_rows
from tuner.storage.queue import requeue
from tuner.storage.records import Claim, Outcome
from tuner.storage.rows import AnyRow
from tuner.storage.states import Reason, State, Wanted, constraints, shows_last_report

_attempts, _trials, _studies = schema.attempts, optuna_schema.trials, schema.studies


class Arrows(Room):
    """The part of the store that moves trials from state to state."""

    def claim(self, study_id: int, worker_id: str) -> Claim | None:
        """WAITING → RUNNING: retries first, then what the user asked for, then by place in the budget.

        None when nothing waits, or when the study is paused, stopped or past its time.
        """
        token = uuid.uuid4().hex
        tries = count()

        def take(connection: Connection) -> Claim | None:
            if next(tries) and (mine := _claimed_before(connection, token)):
                return _claim(connection, mine, worker_id)  # that commit went through, only its answer was lost
            row = _first_waiting(connection, study_id)
            if row is None:
                return None
            connection.execute(
                update(_trials)
                .where(_trials.c.trial_id == row.trial_id)
                .values(state=State.RUNNING.value, datetime_start=utc_now())
            )
            raise_revision(connection, study_id)
            connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == row.trial_id)
                .values(worker_id=worker_id, claim_token=token, claimed_at=seconds_now())
            )
            return _claim(connection, row, worker_id)

        return self._database.write(take)

    def set_params(self, claim: Claim, params: Mapping[str, Scalar], space: SearchSpace) -> bool:
        """Store the whole point of a claimed trial; False when the trial was taken away meanwhile.

        A claim that is complete has it already; storing it again does no harm.

        Raises SpecError when it is not a point of the space.
        """
        active = space.active(params)
        problems = space.problems(params) + [f"{d.name}: is missing" for d in active if d.name not in params]
        if problems:
            raise SpecError(problems, where=f"trial {claim.number}")
        rows = param_rows(claim.trial_id, space, params)

        def fill(connection: Connection) -> bool:
            raise_revision(connection, claim.study_id)
            changed = connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == claim.trial_id, *_held_by(claim))
                .values(
                    params={d.name: params[d.name] for d in active},
                    filled=True,
                    branch=params.get("loss") or _fixed_loss(claim.study_id),
                )
            ).rowcount
            if not changed:
                return False
            insert_rows(connection, insert_new(connection.dialect.name, optuna_schema.trial_params), rows)
            return True

        return self._database.write(fill)

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """RUNNING → COMPLETE, PRUNED or FAIL, and back into the queue when `outcome.retry` says so.

        False when the trial was given to somebody else meanwhile: then nothing of this result is kept.
        """

        def end(connection: Connection) -> bool:
            if not _end(connection, claim, outcome):
                return _ended_so(connection, claim, outcome)
            counts = outcome.state is not State.FAIL
            revision = raise_revision(connection, claim.study_id, finished=_studies.c.finished + int(counts))
            row = connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == claim.trial_id)
                .values(finished_revision=revision, **_columns(claim, outcome))
                .returning(_attempts)
            ).one()
            tell_optuna(connection, row, outcome, objectives=len(claim.directions))
            once_more = outcome.retry and not (outcome.alone and row.alone)
            if outcome.state is State.FAIL and once_more:
                requeue(connection, row, alone=outcome.alone, lost=False)
            return True

        return self._database.write(end)


def tell_optuna(connection: Connection, row: AnyRow, outcome: Outcome, *, objectives: int) -> None:
    """Write what Optuna's samplers and tools see of a finished trial; `row` is its row of `tuner_attempts`."""
    state, reason = outcome.state, outcome.reason
    if state is State.COMPLETE and outcome.values is not None:
        insert_rows(connection, optuna_schema.trial_values, value_rows(row.trial_id, outcome.values))
    if outcome.last and objectives == 1 and shows_last_report(state, reason):
        insert_rows(connection, optuna_schema.trial_intermediate_values, [report_row(row.trial_id, *outcome.last)])
    limits = {f"constraints:{name}": value for name, value in constraints(state, reason).items()}
    insert_rows(connection, optuna_schema.trial_system_attributes, attribute_rows(row.trial_id, limits))
    words = {"loss": row.branch, "reason": row.reason, "worker": row.worker_id, "message": row.message}
    told = {key: value for key, value in words.items() if value is not None}
    insert_rows(connection, optuna_schema.trial_user_attributes, attribute_rows(row.trial_id, told))


def timed_out() -> Any:
    """Condition on `tuner_studies`: its time with live workers is used up."""
    return _studies.c.timeout_s.is_not(None) & (_studies.c.spent_s >= _studies.c.timeout_s)


def _first_waiting(connection: Connection, study_id: int) -> AnyRow | None:
    return connection.execute(
        select(_attempts, _studies.c.name, _studies.c.identity, _studies.c.objectives)
        .join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
        .join(_studies, _studies.c.study_id == _attempts.c.study_id)
        .where(
            _attempts.c.study_id == study_id,
            _attempts.c.claimed_at.is_(None),
            _trials.c.state == State.WAITING.value,
            _studies.c.wanted == Wanted.RUN.value,
            ~timed_out(),
        )
        .order_by(_attempts.c.urgency, _attempts.c.slot)
        .limit(1)
        .with_for_update(of=_trials, skip_locked=True)
    ).one_or_none()


def _claimed_before(connection: Connection, token: str) -> AnyRow | None:
    return connection.execute(
        select(_attempts, _studies.c.name, _studies.c.identity, _studies.c.objectives)
        .join(_studies, _studies.c.study_id == _attempts.c.study_id)
        .where(_attempts.c.claim_token == token, _attempts.c.finished_at.is_(None))
    ).one_or_none()


def _claim(connection: Connection, row: AnyRow, worker_id: str) -> Claim:
    previous: list[int] = []
    if row.attempt > 1:
        earlier = select(_attempts.c.number).where(
            _attempts.c.study_id == row.study_id, _attempts.c.slot == row.slot, _attempts.c.attempt < row.attempt
        )
        previous = list(connection.scalars(earlier.order_by(_attempts.c.attempt)))
    return Claim(
        study_id=row.study_id,
        study_name=row.name,
        study_identity=row.identity,
        trial_id=row.trial_id,
        number=row.number,
        slot=row.slot,
        attempt=row.attempt,
        retry_of=row.retry_of,
        params=row.params,
        complete=row.filled,
        previous=tuple(previous),
        alone=row.alone,
        worker_id=worker_id,
        directions=tuple(o["direction"] for o in row.objectives),
    )


def _held_by(claim: Claim) -> tuple[Any, ...]:
    return _attempts.c.worker_id == claim.worker_id, _attempts.c.finished_at.is_(None)


def _fixed_loss(study_id: int) -> Any:
    return select(_studies.c.loss).where(_studies.c.study_id == study_id).scalar_subquery()


def _end(connection: Connection, claim: Claim, outcome: Outcome) -> bool:
    mine = select(_attempts.c.trial_id).where(_attempts.c.trial_id == claim.trial_id, *_held_by(claim)).exists()
    changed = connection.execute(
        update(_trials)
        .where(_trials.c.trial_id == claim.trial_id, _trials.c.state == State.RUNNING.value, mine)
        .values(state=outcome.state.value, datetime_complete=utc_now())
    )
    return changed.rowcount == 1


def _ended_so(connection: Connection, claim: Claim, outcome: Outcome) -> bool:
    """Tell whether the trial has ended exactly so before: that commit went through, only its answer was lost."""
    row = connection.execute(
        select(_trials.c.state, _attempts.c.worker_id, _attempts.c.reason)
        .join(_attempts, _attempts.c.trial_id == _trials.c.trial_id)
        .where(_trials.c.trial_id == claim.trial_id)
    ).one_or_none()
    reason = outcome.reason.value if outcome.reason else None
    return (
        row is not None
        and outcome.reason is not Reason.WORKER_LOST
        and (row.state, row.worker_id, row.reason) == (outcome.state.value, claim.worker_id, reason)
    )


def _storable(text: str) -> str:
    """Replace what no database takes as text: NUL, and bytes of file names that are not UTF-8."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _columns(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    epochs = schema.epochs.c
    first = epochs.value.desc() if claim.directions[0] == "maximize" else epochs.value.asc()
    best = (
        select(epochs.epoch)
        .where(epochs.trial_id == claim.trial_id, epochs.value.is_not(None))
        .order_by(first, epochs.epoch)
        .limit(1)
        .scalar_subquery()
    )
    complete = outcome.state is State.COMPLETE and outcome.values is not None
    last = outcome.last if len(claim.directions) == 1 else None
    return {
        "finished_at": seconds_now(),
        "reason": outcome.reason.value if outcome.reason else None,
        "message": None if outcome.message is None else _storable(outcome.message),
        "value": outcome.values[0] if complete and outcome.values else None,
        "objective_values": list(outcome.values) if complete and outcome.values else None,
        "feasible": constraints(outcome.state, outcome.reason),
        "last_epoch": last[0] if last else None,
        "last_value": last[1] if last else None,
        "best_epoch": best,
    }
