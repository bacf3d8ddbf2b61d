"""The queue: what waits, in Optuna's table and in ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from tuner.registry import Scalar
from tuner.search.space import SearchSpace
from tuner.storage import optuna_schema, schema
from tuner.storage.base import insert_rows
from tuner.storage.optuna_schema import attribute_rows, param_rows
from tuner.storage.rows import AnyRow
from tuner.storage.states import State

RETRIED, ASKED_FOR, PLANNED = 0, 1, 2
"""Urgency: attempts that were interrupted come first, then what the user asked for, then the rest, each by place."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the budget that is to be filled."""

    slot: int
    params: Mapping[str, Scalar]
    filled: bool
    urgency: int = PLANNED
    enqueue_token: str | None = None


def is_filled(space: SearchSpace, params: Mapping[str, Scalar]) -> bool:
    """Tell whether parameters are a whole point of the space."""
    return all(d.name in params for d in space.active(params)) and len(space.active(params)) == len(params)


@dataclass(frozen=True, slots=True)
class Ground:
    """The study whose queue it is."""

    study_id: int
    space: SearchSpace
    loss: str | None
    """Its loss, when that is not searched."""


def append(connection: Connection, ground: Ground, places: Sequence[Place]) -> list[int]:
    """Add a waiting trial for each place; return their numbers. The study's row must be locked by the caller."""
    if not places:
        return []
    study_id = ground.study_id
    first = _next_number(connection, study_id)
    numbers = range(first, first + len(places))
    waiting = {"study_id": study_id, "state": State.WAITING.value}
    insert_rows(connection, optuna_schema.trials, [{"number": n} | waiting for n in numbers])
    trials = optuna_schema.trials.c
    found = select(trials.number, trials.trial_id).where(trials.study_id == study_id, trials.number >= first)
    ids = {row.number: row.trial_id for row in connection.execute(found)}
    pairs = list(zip(numbers, places, strict=True))
    insert_rows(connection, schema.attempts, [_fresh(ground, ids[number], number, place) for number, place in pairs])
    tell_fixed(connection, ground.space, [(ids[number], place) for number, place in pairs])
    return list(numbers)


def tell_fixed(connection: Connection, space: SearchSpace, places: Sequence[tuple[int, Place]]) -> None:
    """Show Optuna's tools what is fixed in waiting trials: as an attribute, and as parameters of whole points."""
    fixed = [row for trial_id, place in places for row in _fixed_rows(trial_id, place.params)]
    insert_rows(connection, optuna_schema.trial_system_attributes, fixed)
    whole = [row for trial_id, place in places if place.filled for row in param_rows(trial_id, space, place.params)]
    insert_rows(connection, optuna_schema.trial_params, whole)


def requeue(connection: Connection, attempt: AnyRow, *, alone: bool, lost: bool) -> int:
    """Put a failed attempt's place back into the queue, with its parameters; return the new trial's number.

    `attempt` is its row of `tuner_attempts`. The study's row must be locked by the caller.
    """
    number = _next_number(connection, attempt.study_id)
    trials = optuna_schema.trials
    trial_id = connection.scalars(
        insert(trials)
        .values(number=number, study_id=attempt.study_id, state=State.WAITING.value)
        .returning(trials.c.trial_id)
    ).one()
    place = Place(attempt.slot, attempt.params, attempt.filled, RETRIED)
    row = _fresh(Ground(attempt.study_id, SearchSpace(()), attempt.branch), trial_id, number, place) | {
        "attempt": attempt.attempt + 1,
        "retry_of": attempt.number,
        "lost": attempt.lost + int(lost),
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


def _fresh(ground: Ground, trial_id: int, number: int, place: Place) -> dict[str, Any]:
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
        "branch": place.params.get("loss", ground.loss),
        "params": dict(place.params),
        "empty": not place.params,
        "filled": place.filled,
        "enqueue_token": place.enqueue_token,
        "prune_requested": False,
    }


def _next_number(connection: Connection, study_id: int) -> int:
    """Return the next free number; Optuna's own lock keeps its tools from taking the same one."""
    studies, trials = optuna_schema.studies.c, optuna_schema.trials.c
    connection.execute(select(studies.study_id).where(studies.study_id == study_id).with_for_update())
    newest = connection.scalar(select(func.max(trials.number)).where(trials.study_id == study_id))
    return 0 if newest is None else newest + 1
