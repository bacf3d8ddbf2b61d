"""Trials: state transitions (claim, set_params, finish), each a compare-and-set that says whether it won; the queue."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from tuner.errors import Problem
from tuner.registry import Scalar
from tuner.search.points import point_key, point_keys
from tuner.search.space import SearchSpace
from tuner.storage import optuna_schema, schema
from tuner.storage.base import AnyRow, StorageBase, bump_revision, insert_or_ignore, insert_rows
from tuner.storage.devices import is_kept_free
from tuner.storage.engine import seconds_now, utc_now
from tuner.storage.loss_time import due, hours_per_loss
from tuner.storage.optuna_schema import attribute_rows, param_rows, report_row, value_rows
from tuner.storage.records import Claim, Outcome, StopRule, read_space
from tuner.storage.scores import store_scores
from tuner.storage.states import DesiredState, Reason, State, constraints, keep_intermediate_value

RETRIED, ENQUEUED, PLANNED = 0, 1, 2
"""Urgency: attempts that were interrupted come first, then what the user asked for, then the rest, each by place."""


@dataclass(frozen=True, slots=True)
class QueueSlot:
    """A place of the budget that is to be filled."""

    slot: int
    params: Mapping[str, Scalar]
    filled: bool
    urgency: int = PLANNED
    enqueue_token: str | None = None
    branch: str | None = None
    """What it is counted under, where that is not its loss."""


def is_filled(space: SearchSpace, params: Mapping[str, Scalar]) -> bool:
    """Tell whether parameters are a whole point of the space."""
    return all(d.name in params for d in space.active(params)) and len(space.active(params)) == len(params)


@dataclass(frozen=True, slots=True)
class StudyQueue:
    """The study whose queue it is."""

    study_id: int
    space: SearchSpace
    loss: str | None
    """Its loss, when that is not searched."""


def append(connection: Connection, ground: StudyQueue, places: Sequence[QueueSlot]) -> list[int]:
    """Add a waiting trial for each place; return their numbers. The study's row must be locked by the caller.

    Places at the end of which nothing is known yet are made by the database: of a large budget they are most.
    """
    if not places:
        return []
    first = _next_number(connection, ground.study_id)
    blank = _blank_at_the_end(places)
    _append_given(connection, ground, first, places[: len(places) - blank])
    if blank:
        _append_blank(connection, ground, first + len(places) - blank, places[-blank], blank)
    return list(range(first, first + len(places)))


def _blank_at_the_end(places: Sequence[QueueSlot]) -> int:
    """Count the last places that follow one another and hold nothing."""
    many = 0
    for place in reversed(places):
        held = place.params or place.filled or place.branch or place.enqueue_token or place.urgency != PLANNED
        if held or place.slot != places[-1].slot - many:
            break
        many += 1
    return many


def _append_given(connection: Connection, ground: StudyQueue, first: int, places: Sequence[QueueSlot]) -> None:
    study_id, numbers = ground.study_id, range(first, first + len(places))
    waiting = {"study_id": study_id, "state": State.WAITING.value}
    insert_rows(connection, optuna_schema.trials, [{"number": n} | waiting for n in numbers])
    trials = optuna_schema.trials.c
    found = select(trials.number, trials.trial_id).where(trials.study_id == study_id, trials.number >= first)
    ids = {row.number: row.trial_id for row in connection.execute(found)}
    pairs = list(zip(numbers, places, strict=True))
    insert_rows(
        connection, schema.attempts, [fresh_attempt(ground, ids[number], number, place) for number, place in pairs]
    )
    store_fixed_params(connection, ground.space, [(ids[number], place) for number, place in pairs])


def _append_blank(connection: Connection, ground: StudyQueue, first: int, place: QueueSlot, many: int) -> None:
    """Add so many places that are like the first of them."""
    trials, attempts = optuna_schema.trials, schema.attempts
    start = select(literal(first).label("number")).cte("numbers", recursive=True)
    numbers = start.union_all(select(start.c.number + 1).where(start.c.number < first + many - 1))
    waiting = literal(State.WAITING.value, trials.c.state.type)
    fresh = select(numbers.c.number, literal(ground.study_id), waiting)
    connection.execute(insert(trials).from_select(["number", "study_id", "state"], fresh))
    row: dict[str, Any] = {
        name: literal(value, attempts.c[name].type)
        for name, value in fresh_attempt(ground, 0, first, place).items()
        if value is not None
    }
    row |= {"trial_id": trials.c.trial_id, "number": trials.c.number, "slot": trials.c.number + (place.slot - first)}
    added = select(*row.values()).where(trials.c.study_id == ground.study_id, trials.c.number >= first)
    connection.execute(insert(attempts).from_select(list(row), added))


def store_fixed_params(connection: Connection, space: SearchSpace, places: Sequence[tuple[int, QueueSlot]]) -> None:
    """Show Optuna's tools what is fixed in waiting trials: as an attribute, and as parameters of whole points."""
    fixed = [row for trial_id, place in places for row in _fixed_rows(trial_id, place.params)]
    insert_rows(connection, optuna_schema.trial_system_attributes, fixed)
    whole = [row for trial_id, place in places if place.filled for row in param_rows(trial_id, space, place.params)]
    insert_rows(connection, optuna_schema.trial_params, whole)


def requeue(connection: Connection, attempt: AnyRow, *, alone: bool, lost: int) -> int:
    """Put a failed attempt's place back into the queue, with its parameters; return the new trial's number.

    `attempt` is its row of `tuner_attempts`; `lost`, how many attempts `budget.retries` has counted by now. The study's
    row must be locked by the caller.
    """
    number = _next_number(connection, attempt.study_id)
    trials = optuna_schema.trials
    trial_id = connection.scalars(
        insert(trials)
        .values(number=number, study_id=attempt.study_id, state=State.WAITING.value)
        .returning(trials.c.trial_id)
    ).one()
    place = QueueSlot(attempt.slot, attempt.params, attempt.filled, RETRIED)
    row = fresh_attempt(StudyQueue(attempt.study_id, SearchSpace(()), attempt.branch), trial_id, number, place) | {
        "attempt": attempt.attempt + 1,
        "retry_of": attempt.number,
        "lost": lost,
        "alone": alone or attempt.alone,
    }
    insert_rows(connection, schema.attempts, [row])
    insert_rows(connection, optuna_schema.trial_system_attributes, _fixed_rows(trial_id, attempt.params))
    _copy_params(connection, attempt.trial_id, trial_id)
    insert_rows(connection, optuna_schema.trial_user_attributes, attribute_rows(trial_id, {"retry_of": attempt.number}))
    connection.execute(
        update(schema.attempts).where(schema.attempts.c.trial_id == attempt.trial_id).values(successor=number)
    )
    # its curve leaves the comparison: the new attempt goes on with it, and must not compete against itself
    connection.execute(update(schema.epochs).where(schema.epochs.c.trial_id == attempt.trial_id).values(bracket=None))
    return number


def _fixed_rows(trial_id: int, params: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    return attribute_rows(trial_id, {"fixed_params": dict(params)}) if params else []


def _copy_params(connection: Connection, source: int, target: int) -> None:
    params = optuna_schema.trial_params
    names = ["trial_id", "param_name", "param_value", "distribution_json"]
    old = select(literal(target), *(params.c[name] for name in names[1:])).where(params.c.trial_id == source)
    connection.execute(insert(params).from_select(names, old))


def fresh_attempt(ground: StudyQueue, trial_id: int, number: int, place: QueueSlot) -> dict[str, Any]:
    """Return the row of `tuner_attempts` of a waiting trial, the first attempt at its place."""
    return {
        "trial_id": trial_id,
        "study_id": ground.study_id,
        "number": number,
        "slot": place.slot,
        "attempt": 1,
        "retry_of": None,
        "lost": 0,
        "urgency": place.urgency,
        "alone": False,
        "branch": place.branch or place.params.get("loss", ground.loss),
        "params": dict(place.params),
        "empty": not place.params,
        "filled": place.filled,
        "enqueue_token": place.enqueue_token,
        "prune_requested": False,
        "end_now": False,
    }


def next_slot(connection: Connection, study_id: int) -> int:
    """Return the next free place of a study's budget."""
    newest = connection.scalar(select(func.max(schema.attempts.c.slot)).where(schema.attempts.c.study_id == study_id))
    return 0 if newest is None else newest + 1


def fill_up(connection: Connection, study_id: int, *, spare: bool = False) -> bool:
    """Add the place that a training time for each loss asks for (`tuner.storage.loss_time`); tell whether one was.

    With `spare`, for a worker that has nothing to do. Only a study that has such a budget is touched.
    """
    query = select(_studies).where(
        _studies.c.study_id == study_id, _studies.c.parent.is_(None), hours_per_loss().is_not(None)
    )
    if spare:
        query = query.where(_studies.c.wanted == DesiredState.RUN.value, ~timed_out())
    study = connection.execute(query.with_for_update()).one_or_none()
    found = None if study is None else due(connection, study, spare=spare)
    if study is None or found is None:
        return False
    space = read_space(study.space)
    params: dict[str, Scalar] = {} if space.find("loss") is None or found.loss is None else {"loss": found.loss}
    place = QueueSlot(next_slot(connection, study_id), params, is_filled(space, params))
    append(connection, StudyQueue(study_id, space, study.loss), [place])
    bump_revision(connection, study_id, total=_studies.c.total + 1)
    return True


def _next_number(connection: Connection, study_id: int) -> int:
    """Return the next free number; Optuna's own lock keeps its tools from taking the same one."""
    studies, trials = optuna_schema.studies.c, optuna_schema.trials.c
    connection.execute(select(studies.study_id).where(studies.study_id == study_id).with_for_update())
    newest = connection.scalar(select(func.max(trials.number)).where(trials.study_id == study_id))
    return 0 if newest is None else newest + 1


_attempts = schema.attempts
_trials = optuna_schema.trials
_studies = schema.studies
_OF_STUDY = (_studies.c.name, _studies.c.identity, _studies.c.objectives, hours_per_loss().label("hours_per_loss"))


class PointTakenError(Exception):
    """Another trial of the study has the point that was to be stored."""


class Trials(StorageBase):
    """The part of the store that moves trials from state to state."""

    def claim(self, study_id: int, worker_id: str) -> Claim | None:
        """WAITING → RUNNING: retries first, then what the user asked for, then by place in the budget.

        None when nothing waits, when the study is paused, stopped or past its time, or while another worker on the
        same device holds a trial that must have it for itself.
        """
        token = uuid.uuid4().hex
        tries = count()

        def take(connection: Connection) -> Claim | None:
            if next(tries) and (mine := _claimed_before(connection, token)):
                return _claim(connection, mine, worker_id)  # that commit went through, only its answer was lost
            row = _first_waiting(connection, study_id, worker_id)
            if row is None and fill_up(connection, study_id, spare=True):
                row = _first_waiting(connection, study_id, worker_id)
            if row is None:
                return None
            connection.execute(
                update(_trials)
                .where(_trials.c.trial_id == row.trial_id)
                .values(state=State.RUNNING.value, datetime_start=utc_now())
            )
            bump_revision(connection, study_id)
            connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == row.trial_id)
                .values(worker_id=worker_id, claim_token=token, claimed_at=seconds_now())
            )
            return _claim(connection, row, worker_id)

        return self._database.write(take)

    def taken_points(self, claim: Claim) -> list[dict[str, Scalar]]:
        """Return the whole points of the study's other trials: those that ended, however, that run, and that wait."""
        return self._database.read(lambda connection: _taken_points(connection, claim))

    def set_params(
        self, claim: Claim, params: Mapping[str, Scalar], space: SearchSpace, *, unless_taken: bool = False
    ) -> bool:
        """Store the whole point of a claimed trial; False when the trial was taken away meanwhile.

        A claim that is complete has it already; storing it again does no harm.

        Raises:
            SpecError: It is not a point of the space.
            PointTakenError: Another trial has it, and `unless_taken` was asked for.
        """
        active = space.active(params)
        problems = space.problems(params)
        problems += [Problem(d.name, "is missing") for d in active if d.name not in params]
        problems.refuse(where=f"trial {claim.number}")
        rows = param_rows(claim.trial_id, space, params)

        def fill(connection: Connection) -> bool:
            if not _holds(connection, claim):
                return False
            bump_revision(connection, claim.study_id)  # locks the study's row: of several workers one is the first
            if unless_taken and point_key(space, params) in point_keys(space, _taken_points(connection, claim)):
                raise PointTakenError
            connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == claim.trial_id)
                .values(
                    params={d.name: params[d.name] for d in active},
                    filled=True,
                    branch=params.get("loss") or _fixed_loss(claim.study_id),
                )
            )
            insert_rows(connection, insert_or_ignore(connection.dialect.name, optuna_schema.trial_params), rows)
            return True

        return self._database.write(fill)

    def finish(self, claim: Claim, outcome: Outcome, stop: StopRule | None = None) -> bool:
        """RUNNING → COMPLETE, PRUNED or FAIL, and back into the queue when `outcome.retry` says so.

        The study ends with it where `stop` is met.
        False when the trial was given to somebody else meanwhile: then nothing of this result is kept.
        """

        def end(connection: Connection) -> bool:
            if not _end(connection, claim, outcome):
                return _ended_so(connection, claim, outcome)
            counts = outcome.state is not State.FAIL
            revision = bump_revision(connection, claim.study_id, finished=_studies.c.finished + int(counts))
            row = connection.execute(
                update(_attempts)
                .where(_attempts.c.trial_id == claim.trial_id)
                .values(finished_revision=revision, **_columns(claim, outcome))
                .returning(_attempts)
            ).one()
            sync_to_optuna(connection, row, outcome, objectives=len(claim.directions))
            if outcome.state is State.COMPLETE:
                store_scores(connection, claim.trial_id)
            if stop is not None and counts:
                _stop_when_enough(connection, claim, stop)
            once_more = outcome.retry and not (outcome.exclusive_device and row.alone)
            if outcome.state is State.FAIL and once_more:
                requeue(connection, row, alone=outcome.exclusive_device, lost=row.lost + int(outcome.counted))
            if claim.hours_per_loss is not None:
                fill_up(connection, claim.study_id)
            return True

        return self._database.write(end)


def _stop_when_enough(connection: Connection, claim: Claim, rule: StopRule) -> None:
    """End the study when its best value is good enough, or has not been beaten for long enough."""
    mine, value = _attempts.c.study_id == claim.study_id, _attempts.c.value
    maximize = claim.directions[0] == "maximize"
    best = connection.execute(
        select(value, _attempts.c.finished_revision)
        .where(mine, value.is_not(None))
        .order_by(value.desc() if maximize else value.asc(), _attempts.c.finished_revision)
        .limit(1)
    ).one_or_none()
    enough = best is not None and rule.target is not None
    if best is not None and enough and (best.value >= rule.target if maximize else best.value <= rule.target):
        reason, message = "target", f"the value {best.value:.6g} meets budget.stop.target ({rule.target:.6g})"
    elif rule.no_gain_in is not None:
        ended = [State.COMPLETE.value, State.PRUNED.value]
        since = connection.scalar(
            select(func.count())
            .select_from(_attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id))
            .where(mine, _attempts.c.finished_revision > (best.finished_revision if best else 0))
            .where(_trials.c.state.in_(ended))
        )
        if (since or 0) < rule.no_gain_in:
            return
        reason, message = "plateau", f"{since} trials running brought nothing better (budget.stop.no_gain_in)"
    else:
        return
    connection.execute(
        update(_studies)
        .where(_studies.c.study_id == claim.study_id, _studies.c.wanted != DesiredState.STOP.value)
        .values(wanted=DesiredState.STOP.value, wanted_reason=reason, message=message)
    )


def _taken_points(connection: Connection, claim: Claim) -> list[dict[str, Scalar]]:
    query = select(_attempts.c.params).where(
        _attempts.c.study_id == claim.study_id,
        _attempts.c.successor.is_(None),
        _attempts.c.filled,
        _attempts.c.slot != claim.slot,
    )
    return list(connection.scalars(query))


def sync_to_optuna(connection: Connection, row: AnyRow, outcome: Outcome, *, objectives: int) -> None:
    """Write what Optuna's samplers and tools see of a finished trial; `row` is its row of `tuner_attempts`."""
    state, reason = outcome.state, outcome.reason
    if state is State.COMPLETE and outcome.values is not None:
        insert_rows(connection, optuna_schema.trial_values, value_rows(row.trial_id, outcome.values))
    if outcome.last and objectives == 1 and keep_intermediate_value(state, reason):
        insert_rows(connection, optuna_schema.trial_intermediate_values, [report_row(row.trial_id, *outcome.last)])
    limits = {f"constraints:{name}": value for name, value in constraints(state, reason).items()}
    insert_rows(connection, optuna_schema.trial_system_attributes, attribute_rows(row.trial_id, limits))
    words = {"loss": row.branch, "reason": row.reason, "worker": row.worker_id, "message": row.message}
    told = {key: value for key, value in words.items() if value is not None}
    insert_rows(connection, optuna_schema.trial_user_attributes, attribute_rows(row.trial_id, told))


def timed_out() -> Any:
    """Condition on `tuner_studies`: its time with live workers is used up."""
    return _studies.c.timeout_s.is_not(None) & (_studies.c.spent_s >= _studies.c.timeout_s)


def _first_waiting(connection: Connection, study_id: int, worker_id: str) -> AnyRow | None:
    return connection.execute(
        select(_attempts, *_OF_STUDY)
        .join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
        .join(_studies, _studies.c.study_id == _attempts.c.study_id)
        .where(
            _attempts.c.study_id == study_id,
            _attempts.c.claimed_at.is_(None),
            _trials.c.state == State.WAITING.value,
            _studies.c.wanted == DesiredState.RUN.value,
            ~timed_out(),
            ~is_kept_free(worker_id),
        )
        .order_by(_attempts.c.urgency, _attempts.c.slot)
        .limit(1)
        .with_for_update(of=_trials, skip_locked=True)
    ).one_or_none()


def _claimed_before(connection: Connection, token: str) -> AnyRow | None:
    return connection.execute(
        select(_attempts, *_OF_STUDY)
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
        has_params=row.filled,
        previous=tuple(previous),
        exclusive_device=row.alone,
        lost=row.lost,
        worker_id=worker_id,
        directions=tuple(o["direction"] for o in row.objectives),
        hours_per_loss=row.hours_per_loss,
    )


def _held_by(claim: Claim) -> tuple[Any, ...]:
    return _attempts.c.worker_id == claim.worker_id, _attempts.c.finished_at.is_(None)


def _holds(connection: Connection, claim: Claim) -> bool:
    """Tell whether a worker still holds its running trial, and lock the trial's row if it does."""
    query = (
        select(_trials.c.trial_id)
        .join(_attempts, _attempts.c.trial_id == _trials.c.trial_id)
        .where(_trials.c.trial_id == claim.trial_id, _trials.c.state == State.RUNNING.value, *_held_by(claim))
        .with_for_update(of=_trials)
    )
    return connection.execute(query).one_or_none() is not None


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
