"""Counting attempts by loss and state, over one index and without their wide rows: pages do it for all of a study."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, String, and_, case, cast, func, select

from tuner.storage import optuna_schema, schema
from tuner.storage.states import Reason, State

_attempts, _trials = schema.attempts, optuna_schema.trials
_COUNTED = {"waiting": "WAITING", "running": "RUNNING", "complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many attempts of a study are alike."""

    branch: str | None
    state: str
    reason: str | None
    newest: bool
    """These stand for their places in the budget; the others were tried again."""
    many: int
    claimed: int
    number: int
    """The largest one."""
    seconds: float
    """Spent on them, those that run left out."""


def tallies(connection: Connection, study_id: int) -> list[Tally]:
    """Count all attempts of a study: one statement, from which everything that is counted follows."""
    state = state_of().label("state")
    newest = case((_attempts.c.successor.is_(None), 1), else_=0).label("newest")
    query = (
        select(
            _attempts.c.branch,
            state,
            _attempts.c.reason,
            newest,
            func.count().label("many"),
            func.count(_attempts.c.claimed_at).label("claimed"),
            func.max(_attempts.c.number).label("number"),
            func.sum(_attempts.c.finished_at - _attempts.c.claimed_at).label("seconds"),
        )
        .where(_attempts.c.study_id == study_id)
        .group_by(_attempts.c.branch, state, _attempts.c.reason, newest)
    )
    return [
        Tally(
            row.branch, row.state, row.reason, bool(row.newest), row.many, row.claimed, row.number, row.seconds or 0.0
        )
        for row in connection.execute(query)
    ]


def counts_of(found: Iterable[Tally]) -> dict[str, int]:
    """Count the newest attempts by state, in the words of the contract: each place of the budget once."""
    return in_words((tally.state, tally.many) for tally in found if tally.newest)


def in_words(states: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up counts by Optuna's words for states, in the words of the contract."""
    sums = dict.fromkeys(_COUNTED.values(), 0)
    for state, many in states:
        sums[state] += many
    return {word: sums[state] for word, state in _COUNTED.items()}


def state_of() -> ColumnElement[str]:
    """Return the state of an attempt as SQL.

    An attempt that ended without a reason is complete, and one that ended as `pruned` is pruned. Optuna's row decides
    about all others, which are few.
    """
    ended = _attempts.c.finished_at.is_not(None)
    told = select(cast(_trials.c.state, String)).where(_trials.c.trial_id == _attempts.c.trial_id).scalar_subquery()
    found: ColumnElement[str] = case(
        (and_(ended, _attempts.c.reason.is_(None)), State.COMPLETE.value),
        (and_(ended, _attempts.c.reason == Reason.PRUNED.value), State.PRUNED.value),
        else_=told,
    )
    return found
