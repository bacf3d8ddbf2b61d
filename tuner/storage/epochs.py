"""Epochs: intermediate values with the counts that decide pruning, and the history that samplers read."""

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Insert,
    Select,
    Subquery,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    true,
)

from tuner.search.finished_trial import FinishedTrial
from tuner.search.pruners import Peers
from tuner.storage import optuna_schema, schema
from tuner.storage.base import AnyRow, StorageBase, insert_or_ignore
from tuner.storage.engine import seconds_now
from tuner.storage.records import Claim, EpochRow, History, ReportAnswer, finite
from tuner.storage.states import DesiredState, State, Verdict
from tuner.storage.trials import timed_out

_attempts = schema.attempts
_epochs = schema.epochs
_studies = schema.studies
_trials = optuna_schema.trials


class Epochs(StorageBase):
    """The part of the store that writes epochs."""

    def report(self, claim: Claim, row: EpochRow, *, peers: bool = False, bracket: int = 0) -> ReportAnswer:
        """Store an epoch of a running trial, once, and say what its worker is to do.

        With `peers`, also count how the trial stands at this epoch among the trials of its `bracket`.
        """
        values = _values(claim, row, bracket)
        place = {key: values[key] for key in ("p_trial", "p_study", "p_epoch", "p_bracket")}
        maximize = claim.directions[0] == "maximize"

        def tell(connection: Connection) -> ReportAnswer:
            connection.execute(_insert_epoch(connection.dialect.name, maximize), values)
            answer = _answer(maximize, peers)
            found = connection.execute(answer, place if peers else {"p_trial": claim.trial_id}).one_or_none()
            return _read(found, claim, counted=peers)

        return self._database.single(tell)

    def history(self, study_id: int, cursor: int = 0) -> History:
        """Return trials that finished since `cursor` (COMPLETE and PRUNED), those that run, and the next cursor.

        Finished trials come in the order in which they finished; none is ever missed or seen twice.
        """

        def read(connection: Connection) -> History:
            joined = select(*_COLUMNS).join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
            running = connection.execute(
                joined.where(
                    _attempts.c.study_id == study_id,
                    _attempts.c.claimed_at.is_not(None),
                    _attempts.c.finished_at.is_(None),
                    _attempts.c.filled,
                    _trials.c.state == State.RUNNING.value,
                ).order_by(_attempts.c.number)
            ).all()
            finished = connection.execute(
                joined.where(
                    _attempts.c.study_id == study_id,
                    _attempts.c.finished_revision > cursor,
                    _trials.c.state.in_([State.COMPLETE.value, State.PRUNED.value]),
                ).order_by(_attempts.c.finished_revision)
            ).all()
            ended = {row.number for row in finished}
            return History(
                finished=[_observation(row) for row in finished],
                running=[_observation(row) for row in running if row.number not in ended],
                cursor=finished[-1].finished_revision if finished else cursor,
            )

        return self._database.single(read)


def _values(claim: Claim, row: EpochRow, bracket: int) -> dict[str, Any]:
    return {
        "p_trial": claim.trial_id,
        "p_study": claim.study_id,
        "p_worker": claim.worker_id,
        "p_epoch": row.epoch,
        "p_bracket": bracket,
        "p_value": finite(row.value),
        "p_metrics": {name: finite(value) for name, value in row.metrics.items()},
        "p_per_class": {
            metric: {name: finite(value) for name, value in classes.items()}
            for metric, classes in row.per_class.items()
        },
        "p_train_loss": finite(row.train_loss),
        "p_lr": finite(row.lr),
        "p_seconds": finite(row.seconds),
    }


def _given(name: str, column: str) -> ColumnElement[Any]:
    kind = _epochs.c[column].type
    value = bindparam(name, type_=kind)
    # PostgreSQL cannot tell the type of a number that is null, and psycopg does not say it
    return cast(value, kind) if isinstance(kind, Float) else value


# Building a statement costs more than running it, and these two run once an epoch: each is built once.


@cache
def _insert_epoch(dialect: str, maximize: bool) -> Insert:
    """Insert an epoch unless it is there already, or this worker no longer holds the running trial."""
    trial, value = _given("p_trial", "trial_id"), _given("p_value", "value")
    extreme = func.max if maximize else func.min
    before = select(extreme(_epochs.c.value)).where(_epochs.c.trial_id == trial).scalar_subquery()
    stays = or_(value.is_(None), before > value if maximize else before < value)
    chosen: dict[str, Any] = {
        "trial_id": trial,
        "study_id": _given("p_study", "study_id"),
        "epoch": _given("p_epoch", "epoch"),
        "branch": _attempts.c.branch,
        "bracket": _given("p_bracket", "bracket"),
        "value": value,
        "best": case((stays, before), else_=value),
        "metrics": _given("p_metrics", "metrics"),
        "per_class": _given("p_per_class", "per_class"),
        "train_loss": _given("p_train_loss", "train_loss"),
        "lr": _given("p_lr", "lr"),
        "seconds": _given("p_seconds", "seconds"),
        "at": seconds_now(),
    }
    source = (
        select(*chosen.values())
        .select_from(_trials.join(_attempts, _attempts.c.trial_id == _trials.c.trial_id))
        .where(
            _trials.c.trial_id == trial,
            _trials.c.state == State.RUNNING.value,
            _attempts.c.worker_id == bindparam("p_worker", type_=_attempts.c.worker_id.type),
            _attempts.c.finished_at.is_(None),
        )
        # shared with other reporters, but not with a reaper: a trial that was taken away gets no further epoch
        .with_for_update(read=True, of=_trials)
    )
    statement: Insert = insert_or_ignore(dialect, _epochs).from_select(list(chosen), source)
    return statement


@cache
def _answer(maximize: bool, counted: bool) -> Select[Any]:
    """The one query that answers a report, and counts the peers where that is asked for."""
    columns: list[Any] = [
        _trials.c.state,
        _attempts.c.worker_id,
        _attempts.c.prune_requested,
        _studies.c.wanted,
        _studies.c.wanted_reason,
        _studies.c.finished,
        case((timed_out(), 1), else_=0).label("timed_out"),
    ]
    joined = _attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id).join(
        _studies, _studies.c.study_id == _attempts.c.study_id
    )
    mine = _attempts.c.trial_id == bindparam("p_trial", type_=_attempts.c.trial_id.type)
    if not counted:
        return select(*columns).select_from(joined).where(mine)
    peers = _count(maximize)
    return select(*columns, *peers.c).select_from(joined.join(peers, true())).where(mine)


def _count(maximize: bool) -> Subquery:
    trial, epoch = _given("p_trial", "trial_id"), _given("p_epoch", "epoch")
    own = select(_epochs).where(_epochs.c.trial_id == trial, _epochs.c.epoch == epoch).subquery("own")
    mine = select(own.c.best).scalar_subquery()
    branch = select(own.c.branch).scalar_subquery()
    peer = _epochs.alias("peer")
    better = peer.c.best > mine if maximize else peer.c.best < mine
    same = peer.c.branch == branch

    def number(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    return (
        select(
            func.count().label("every"),
            number(better).label("every_better"),
            number(same).label("same"),
            number(same & better).label("same_better"),
        )
        .where(
            peer.c.study_id == _given("p_study", "study_id"),
            peer.c.epoch == epoch,
            peer.c.bracket == _given("p_bracket", "bracket"),
            peer.c.trial_id != trial,
            peer.c.best.is_not(None),
        )
        .subquery("counted")
    )


def _read(found: Any, claim: Claim, *, counted: bool) -> ReportAnswer:
    if found is None or found.state != State.RUNNING or found.worker_id != claim.worker_id:
        return ReportAnswer(Verdict.LOST)
    if found.prune_requested:
        return ReportAnswer(Verdict.PRUNE_BY_HAND)
    if found.wanted == DesiredState.STOP:
        return ReportAnswer(Verdict.STOP, found.wanted_reason)
    if found.timed_out:
        return ReportAnswer(Verdict.STOP, "timeout")
    if not counted:
        return ReportAnswer(Verdict.CONTINUE)
    return ReportAnswer(
        Verdict.CONTINUE,
        peers=Peers(found.finished, found.same, found.same_better, found.every, found.every_better),
    )


_COLUMNS = (
    _attempts.c.number,
    _attempts.c.params,
    _attempts.c.objective_values,
    _attempts.c.last_epoch,
    _attempts.c.last_value,
    _attempts.c.feasible,
    _attempts.c.finished_revision,
    _trials.c.state,
)


def _observation(row: AnyRow) -> FinishedTrial:
    feasible: dict[str, float] = row.feasible or {"memory": -1.0, "finite": -1.0}
    last = None
    blamed = any(value > 0 for value in feasible.values())
    if row.state == State.PRUNED and row.last_epoch is not None and not blamed:
        last = (row.last_epoch, row.last_value)
    values = row.objective_values if row.state == State.COMPLETE else None
    return FinishedTrial(
        number=row.number,
        state=row.state,
        params=row.params,
        values=None if values is None else tuple(values),
        last=last,
        feasible=feasible,
    )
