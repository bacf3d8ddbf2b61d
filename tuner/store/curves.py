"""Curves: one row for each validated epoch, and the counts from which pruning is decided. Two statements an epoch."""

from typing import Any

from sqlalchemy import Connection, Select, Subquery, case, func, literal, select

from tuner.search.pruners import Peers
from tuner.store import optuna_tables, tables
from tuner.store.arrows import timed_out
from tuner.store.clock import seconds_now
from tuner.store.records import Claim, EpochRow, ReportAnswer, finite
from tuner.store.room import Room, insert_new
from tuner.store.states import State, Verdict, Wanted

_attempts, _epochs, _studies, _trials = tables.attempts, tables.epochs, tables.studies, optuna_tables.trials


class Curves(Room):
    """The part of the store that writes epochs."""

    def report(self, claim: Claim, row: EpochRow, *, peers: bool = False, bracket: int = 0) -> ReportAnswer:
        """Store an epoch of a running trial, once, and say what its worker is to do.

        With `peers`, also count how the trial stands at this epoch among the trials of its `bracket`.
        """

        def tell(connection: Connection) -> ReportAnswer:
            names, source = _guarded(claim, row, bracket)
            connection.execute(insert_new(connection, _epochs).from_select(names, source))
            found = connection.execute(_answer(claim, row.epoch, bracket if peers else None)).one_or_none()
            return _read(found, claim, counted=peers)

        return self._database.single(tell)


def _running(claim: Claim) -> tuple[Any, ...]:
    return (
        _trials.c.trial_id == claim.trial_id,
        _trials.c.state == State.RUNNING.value,
        _attempts.c.worker_id == claim.worker_id,
        _attempts.c.finished_at.is_(None),
    )


def _columns(claim: Claim, row: EpochRow) -> dict[str, Any]:
    return {
        "trial_id": claim.trial_id,
        "study_id": claim.study_id,
        "epoch": row.epoch,
        "value": finite(row.value),
        "metrics": {name: finite(value) for name, value in row.metrics.items()},
        "per_class": {
            metric: {name: finite(value) for name, value in classes.items()}
            for metric, classes in row.per_class.items()
        },
        "train_loss": finite(row.train_loss),
        "lr": finite(row.lr),
        "seconds": finite(row.seconds),
    }


def _guarded(claim: Claim, row: EpochRow, bracket: int) -> tuple[list[str], Select[Any]]:
    """Return the columns and the SELECT of an epoch's row, empty unless this worker still holds the running trial."""
    columns = _columns(claim, row)
    maximize = claim.directions[0] == "maximize"
    extreme = func.max if maximize else func.min
    before = select(extreme(_epochs.c.value)).where(_epochs.c.trial_id == claim.trial_id).scalar_subquery()
    value = columns["value"]
    best: Any = before
    if value is not None:
        new = literal(value, _epochs.c.value.type)
        behind = before > value if maximize else before < value
        best = case((behind, before), else_=new)
    chosen: dict[str, Any] = {name: literal(item, _epochs.c[name].type) for name, item in columns.items()}
    chosen |= {"best": best, "branch": _attempts.c.branch, "at": seconds_now()}
    chosen["bracket"] = literal(bracket, _epochs.c.bracket.type)
    source = (
        select(*chosen.values())
        .select_from(_trials.join(_attempts, _attempts.c.trial_id == _trials.c.trial_id))
        .where(*_running(claim))
        # shared with other reporters, but not with a reaper: a trial that was taken away gets no further epoch
        .with_for_update(read=True, of=_trials)
    )
    return list(chosen), source


def _answer(claim: Claim, epoch: int, bracket: int | None) -> Select[Any]:
    """Return the one query that answers a report; with a bracket it counts the peers."""
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
    if bracket is None:
        return select(*columns).select_from(joined).where(_attempts.c.trial_id == claim.trial_id)
    counted = _count(claim, epoch, bracket)
    return (
        select(*columns, *counted.c)
        .select_from(joined.join(counted, literal(1) == 1))
        .where(_attempts.c.trial_id == claim.trial_id)
    )


def _count(claim: Claim, epoch: int, bracket: int) -> Subquery:
    own = select(_epochs).where(_epochs.c.trial_id == claim.trial_id, _epochs.c.epoch == epoch).subquery("own")
    mine = select(own.c.best).scalar_subquery()
    branch = select(own.c.branch).scalar_subquery()
    peer = _epochs.alias("peer")
    better = peer.c.best > mine if claim.directions[0] == "maximize" else peer.c.best < mine
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
            peer.c.study_id == claim.study_id,
            peer.c.epoch == epoch,
            peer.c.bracket == bracket,
            peer.c.trial_id != claim.trial_id,
            peer.c.best.is_not(None),
        )
        .subquery("counted")
    )


def _read(found: Any, claim: Claim, *, counted: bool) -> ReportAnswer:
    if found is None or found.state != State.RUNNING or found.worker_id != claim.worker_id:
        return ReportAnswer(Verdict.LOST)
    if found.prune_requested:
        return ReportAnswer(Verdict.PRUNE_BY_HAND)
    if found.wanted == Wanted.STOP:
        return ReportAnswer(Verdict.STOP, found.wanted_reason)
    if found.timed_out:
        return ReportAnswer(Verdict.STOP, "timeout")
    if not counted:
        return ReportAnswer(Verdict.GO_ON)
    return ReportAnswer(
        Verdict.GO_ON,
        peers=Peers(found.finished, found.same, found.same_better, found.every, found.every_better),
    )
