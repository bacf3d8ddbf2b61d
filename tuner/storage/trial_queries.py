"""Trials as rows: filtered, sorted and paged by SQL; the curve of one of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from tuner.errors import NotFoundError, UnknownNameError, shortened
from tuner.metrics.catalog import METRICS
from tuner.storage import optuna_schema, schema
from tuner.storage.annotations import NO_ANNOTATION, annotations_of
from tuner.storage.base import AnyRow, StorageBase
from tuner.storage.engine import iso, seconds_now
from tuner.storage.states import State
from tuner.storage.trial_selection import TrialFilter, is_newest

_attempts, _epochs, _trials = schema.attempts, schema.epochs, optuna_schema.trials

Order = Literal["asc", "desc"]

_WITH_STATE = _attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id)

_AT_ONCE = 10_000  # trials that a statement names: databases limit them

_DURATION = func.coalesce(_attempts.c.finished_at, seconds_now()) - _attempts.c.claimed_at
_SORTS: dict[str, ColumnElement[Any]] = {
    "number": _attempts.c.number,
    "state": _trials.c.state,
    "value": _attempts.c.value,
    "loss": _attempts.c.branch,
    "reason": _attempts.c.reason,
    "duration_s": _DURATION,
    "started": _attempts.c.claimed_at,
    "finished": _attempts.c.finished_at,
    "worker": _attempts.c.worker_id,
}
SORTS = tuple(_SORTS)
"""What trials can be sorted by."""


class TrialQueries(StorageBase):
    """The part of the store that lists trials."""

    def trials(self, name: str, **query: Any) -> list[dict[str, Any]]:
        """Return trials in the contract's form; the arguments are those of `page`, all rows unless limited."""
        items: list[dict[str, Any]] = self.page(name, **query)["items"]
        return items

    def page(
        self,
        name: str,
        *,
        all_attempts: bool = False,
        state: str | None = None,
        loss: str | None = None,
        sort: str = "number",
        order: Order | None = None,
        limit: int | None = None,
        offset: int = 0,
        by: str | None = None,
        numbers: Sequence[int] | None = None,
        filters: Sequence[TrialFilter] = (),
    ) -> dict[str, Any]:
        """Return `{"items", "total"}`: one row per place of the budget (its newest attempt), or every attempt.

        `by` ranks by another metric at each trial's best epoch of the first objective, and adds it to the rows under
        its name. Rows without what is sorted by come last. Long messages and notes are shortened, unless
        `numbers` asks for certain trials; `filters` are about parameters, and what people have written beside trials.
        Raises UnknownNameError for an unknown state, sort, order or metric.
        """
        _check(state, sort, order)
        where: list[ColumnElement[bool]] = [] if all_attempts or numbers is not None else [is_newest(filters)]
        if state is not None:
            where.append(_trials.c.state == state)
        if loss is not None:
            where.append(_attempts.c.branch == loss)
        if numbers is not None:
            where.append(_attempts.c.number.in_(numbers))
        where += [found.condition for found in filters]

        def read(connection: Connection) -> dict[str, Any]:
            study = self._find(connection, name)
            study_id = study.study_id
            wanted = _direction(by, study.objectives)
            chosen = [_attempts.c.study_id == study_id, *where]
            query = _rows(by).where(*chosen)
            total = _total(connection, chosen, joined=state is not None)
            direction: Order = order or wanted
            if sort == "value" and by is None and limit is not None:
                rows = _by_value(connection, query, chosen, direction, limit, offset, joined=state is not None)
            else:
                key: ColumnElement[Any] = _measure(by) if by else _SORTS[sort]
                ranked = query.order_by(*ranked_first(key, "maximize" if direction == "desc" else "minimize"))
                rows = list(connection.execute(ranked.order_by(_attempts.c.number).limit(limit).offset(offset)))
            curves = _curves(connection, [row.trial_id for row in rows])
            written = annotations_of(connection, study_id, [row.slot for row in rows])
            items = [_item(row, curves, by) | written.get(row.slot, NO_ANNOTATION).as_dict() for row in rows]
            for item in items if numbers is None else ():
                item["message"] = item["message"] and shortened(item["message"])
                item["notes"] = shortened(item["notes"])
            return {"items": items, "total": total}

        return self._database.read(read)

    def best_epochs(self, name: str) -> dict[int, dict[str, Any]]:
        """Return the metrics of every complete trial at its best epoch: `{number: {"metrics", "per_class"}}`."""

        def read(connection: Connection) -> dict[int, dict[str, Any]]:
            study_id = self._find(connection, name).study_id
            same = and_(_epochs.c.trial_id == _attempts.c.trial_id, _epochs.c.epoch == _attempts.c.best_epoch)
            query = (
                select(_attempts.c.number, _epochs.c.metrics, _epochs.c.per_class)
                .select_from(_attempts.join(_epochs, same))
                .where(
                    _attempts.c.study_id == study_id, _attempts.c.successor.is_(None), _attempts.c.value.is_not(None)
                )
            )
            rows = connection.execute(query)
            return {row.number: {"metrics": row.metrics, "per_class": row.per_class} for row in rows}

        return self._database.read(read)

    def trial(self, name: str, number: int) -> dict[str, Any]:
        """Return one attempt by its number. Raises NotFoundError."""
        found = self.trials(name, numbers=[number])
        if not found:
            raise NotFoundError(
                f"study {name!r} has no trial {number}.", hint=f"`tuner trials {name} --all` lists them."
            )
        return found[0]

    def epochs(self, name: str, number: int) -> list[dict[str, Any]]:
        """Return the finished epochs of one attempt, in order. Raises NotFoundError."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            study_id = self._find(connection, name).study_id
            trial_id = connection.scalar(
                select(_attempts.c.trial_id).where(_attempts.c.study_id == study_id, _attempts.c.number == number)
            )
            if trial_id is None:
                raise NotFoundError(
                    f"study {name!r} has no trial {number}.", hint=f"`tuner trials {name} --all` lists them."
                )
            rows = connection.execute(select(_epochs).where(_epochs.c.trial_id == trial_id).order_by(_epochs.c.epoch))
            return [_epoch(row) for row in rows]

        return self._database.read(read)


def ranked_first(key: ColumnElement[Any], direction: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Order by a key, better first, rows that have none last."""
    return key.is_(None), key.desc() if direction == "maximize" else key.asc()


def _total(connection: Connection, chosen: Sequence[ColumnElement[bool]], *, joined: bool) -> int:
    """Count the rows that are chosen; `joined`: a condition names Optuna's table."""
    query = select(func.count()).select_from(_WITH_STATE if joined else _attempts)
    return connection.scalar(query.where(*chosen)) or 0


def _by_value(connection: Connection, query: Select[Any], chosen: Sequence[ColumnElement[bool]], direction: Order,
              limit: int, offset: int, *, joined: bool) -> list[AnyRow]:  # fmt: skip
    """Return a page by value, those without one last: an index has the first part in order, so nothing is sorted."""
    value = _attempts.c.value
    first = value.desc() if direction == "desc" else value.asc()
    valued = query.where(value.is_not(None)).order_by(first, _attempts.c.number)
    rows = list(connection.execute(valued.limit(limit).offset(offset)))
    if len(rows) < limit:
        with_value = _total(connection, [*chosen, value.is_not(None)], joined=joined)
        rest = query.where(value.is_(None)).order_by(_attempts.c.number)
        rows += connection.execute(rest.limit(limit - len(rows)).offset(max(0, offset - with_value)))
    return rows


def _check(state: str | None, sort: str, order: str | None) -> None:
    if state is not None and state not in list(State):
        raise UnknownNameError(kind="state", name=state, known=list(State))
    if sort not in _SORTS:
        raise UnknownNameError(kind="sort", name=sort, known=_SORTS)
    if order not in (None, "asc", "desc"):
        raise UnknownNameError(kind="order", name=str(order), known=("asc", "desc"))


def _direction(by: str | None, objectives: Sequence[Mapping[str, str]]) -> Order:
    """Return how a metric is ranked. Raises UnknownNameError for one that is none of ours, nor of the study's."""
    if by is None:
        return "asc"
    own = {objective["metric"]: objective["direction"] for objective in objectives}
    direction = own[by] if by in own else METRICS.find(by).direction
    return "desc" if direction == "maximize" else "asc"


def _measure(by: str) -> ColumnElement[Any]:
    measured: ColumnElement[Any] = _epochs.c.metrics[by].as_float()
    return measured


def _rows(by: str | None) -> Select[Any]:
    joined: Any = _WITH_STATE
    columns: list[Any] = [_attempts, _trials.c.state, _DURATION.label("duration_s")]
    if by:
        joined = joined.outerjoin(
            _epochs, and_(_epochs.c.trial_id == _attempts.c.trial_id, _epochs.c.epoch == _attempts.c.best_epoch)
        )
        columns.append(_measure(by).label("measured"))
    return select(*columns).select_from(joined)


def _curves(connection: Connection, trial_ids: Sequence[int]) -> dict[int, AnyRow]:
    """Return the last epoch of each trial, with the best value up to it."""
    found: dict[int, AnyRow] = {}
    for start in range(0, len(trial_ids), _AT_ONCE):
        newest = (
            select(_epochs.c.trial_id, func.max(_epochs.c.epoch).label("epoch"))
            .where(_epochs.c.trial_id.in_(trial_ids[start : start + _AT_ONCE]))
            .group_by(_epochs.c.trial_id)
            .subquery()
        )
        query = select(_epochs.c.trial_id, _epochs.c.epoch, _epochs.c.value, _epochs.c.best).join(
            newest, and_(newest.c.trial_id == _epochs.c.trial_id, newest.c.epoch == _epochs.c.epoch)
        )
        found |= {row.trial_id: row for row in connection.execute(query)}
    return found


def _item(row: AnyRow, curves: dict[int, AnyRow], by: str | None) -> dict[str, Any]:
    curve = curves.get(row.trial_id)
    item = {
        "number": row.number,
        "state": row.state,
        "value": row.value,
        "values": row.objective_values,
        "params": row.params,
        "loss": row.branch,
        "reason": row.reason,
        "message": row.message,
        "retry_of": row.retry_of,
        "attempts": row.attempt,
        "epochs": curve.epoch if curve else 0,
        "last_value": curve.value if curve else None,
        "best_value": curve.best if curve else None,
        "best_epoch": row.best_epoch,
        "duration_s": row.duration_s,
        "worker": row.worker_id,
        "slot": row.slot,
        "started": iso(row.claimed_at),
        "finished": iso(row.finished_at),
    }
    return item | {by: row.measured} if by else item


def _epoch(row: AnyRow) -> dict[str, Any]:
    return {
        "epoch": row.epoch,
        "value": row.value,
        "best": row.best,
        "train_loss": row.train_loss,
        "lr": row.lr,
        "seconds": row.seconds,
        "metrics": row.metrics,
        "per_class": row.per_class,
        "at": iso(row.at),
    }
