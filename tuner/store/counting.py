"""Counting attempts by state, over one index and without their wide rows: pages do it for all of a study."""

from sqlalchemy import ColumnElement, String, and_, case, cast, select

from tuner.store import optuna_tables, tables
from tuner.store.states import Reason, State

_attempts, _trials = tables.attempts, optuna_tables.trials


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
