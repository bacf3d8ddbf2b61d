"""Queries of the dashboard's pages and figures, thinned by the database to what a screen can show.

Symbols in the docstrings: N trials of a study, K the most rows that are asked for.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, or_, select

from tuner.errors import shortened
from tuner.storage import optuna_schema, schema
from tuner.storage.base import AnyRow, own, same_name
from tuner.storage.engine import iso, seconds_now
from tuner.storage.ranking import RankedTrial, Ranking
from tuner.storage.records import StudyRecord
from tuner.storage.states import State
from tuner.storage.status import StateCount, Summaries, confirmation_revision
from tuner.storage.storage import Storage
from tuner.storage.trial_selection import ALL, Measure, Selection, is_newest

_attempts = schema.attempts
_epochs = schema.epochs
_trials = optuna_schema.trials
_workers = schema.workers


class PageQueries(Summaries):
    """Reading queries beside those of the store, on the same connections."""

    def __init__(self, store: Storage) -> None:
        super().__init__(store.context)

    def failures(self, study: StudyRecord) -> list[dict[str, Any]]:
        """Count attempts that did not complete, by reason, the newest message of each beside.

        `{"state", "reason", "count", "trials" (with no later attempt), "number" (the newest), "message"}`.
        """

        def read(connection: Connection) -> list[dict[str, Any]]:
            found: dict[tuple[str, str], dict[str, Any]] = {}
            for t in self._summary(connection, self._find(connection, study.name)).tallies:
                if t.reason is None:
                    continue
                start = {"state": t.state, "reason": t.reason, "count": 0, "trials": 0, "number": t.number}
                row = found.setdefault((t.state, t.reason), start)
                row["count"] += t.many
                row["trials"] += t.many if t.newest else 0
                row["number"] = max(row["number"], t.number)
            said = _messages(connection, study, [row["number"] for row in found.values()])
            rows = [row | {"message": said.get(row["number"])} for row in found.values()]
            return sorted(rows, key=lambda row: -row["count"])

        return self._database.read(read)

    def running(self, study: StudyRecord) -> list[dict[str, Any]]:
        """Return the trials that run now, with where and since when; at most 200."""
        query = (
            select(
                _attempts.c.trial_id,
                _attempts.c.number,
                _attempts.c.branch,
                _attempts.c.params,
                _attempts.c.claimed_at,
                _attempts.c.attempt,
                _attempts.c.worker_id,
                (seconds_now() - _attempts.c.claimed_at).label("seconds"),
                _workers.c.host,
                _workers.c.device,
                _workers.c.progress,
            )
            .select_from(_attempts.outerjoin(_workers, _workers.c.worker_id == _attempts.c.worker_id))
            .where(
                _attempts.c.study_id == study.study_id,
                _attempts.c.claimed_at.is_not(None),
                _attempts.c.finished_at.is_(None),
            )
            .order_by(_attempts.c.number)
            .limit(200)
        )
        return [dict(row._mapping) | {"started": iso(row.claimed_at)} for row in self._rows(query)]

    def newest_ended(self, study: StudyRecord, *, most: int) -> list[dict[str, Any]]:
        """Return the K attempts that ended last, the newest first.

        `{"number", "branch", "state", "reason", "value", "finished"}`.
        """
        query = (
            select(
                _attempts.c.number,
                _attempts.c.branch,
                _trials.c.state,
                _attempts.c.reason,
                _attempts.c.value,
                _attempts.c.finished_at,
            )
            .select_from(_attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id))
            .where(_attempts.c.study_id == study.study_id, _attempts.c.finished_revision.is_not(None))
            .order_by(_attempts.c.finished_revision.desc())
            .limit(most)
        )
        return [dict(row._mapping) | {"finished": iso(row.finished_at)} for row in self._rows(query)]

    def mean_seconds(self, study_id: int) -> float | None:
        """Return the mean time of the 200 newest trials that ended complete or pruned; None before the first."""
        newest = (
            select((_attempts.c.finished_at - _attempts.c.claimed_at).label("seconds"))
            .where(
                _attempts.c.study_id == study_id,
                _attempts.c.finished_at.is_not(None),
                or_(_attempts.c.value.is_not(None), _attempts.c.reason == "pruned"),
            )
            .order_by(_attempts.c.finished_revision.desc())
            .limit(200)
            .subquery()
        )
        rows = self._rows(select(func.avg(newest.c.seconds).label("mean")))
        return None if rows[0].mean is None else float(rows[0].mean)

    def seconds_per_epoch(self, dataset: str, model: str, *, most: int = 50) -> tuple[float, str] | None:
        """Return the mean time of the last epochs of the newest study of this data set and model, and its name.

        Only the K newest studies are looked at; None where none of them has an epoch.
        """
        studies = schema.studies
        columns = (studies.c.study_id, studies.c.name, studies.c.spec)
        for row in self._rows(select(*columns).order_by(studies.c.study_id.desc()).limit(most)):
            if (_section_name(row.spec, "dataset"), _section_name(row.spec, "model")) != (dataset, model):
                continue
            newest = select(_epochs.c.seconds).where(_epochs.c.study_id == row.study_id).order_by(_epochs.c.id.desc())
            mean = self._rows(select(func.avg(newest.limit(200).subquery().c.seconds).label("mean")))[0].mean
            if mean is not None:
                return float(mean), row.name
        return None

    def attempts_at(self, study: StudyRecord, slot: int) -> list[dict[str, Any]]:
        """Return every attempt at a place of the budget, oldest first, with where it ran."""
        query = (
            select(
                _attempts.c.number,
                _attempts.c.attempt,
                _trials.c.state,
                _attempts.c.reason,
                _attempts.c.message,
                _attempts.c.worker_id,
                _workers.c.host,
                _workers.c.device,
                _attempts.c.claimed_at,
                _attempts.c.finished_at,
            )
            .select_from(
                _attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id).outerjoin(
                    _workers, _workers.c.worker_id == _attempts.c.worker_id
                )
            )
            .where(_attempts.c.study_id == study.study_id, _attempts.c.slot == slot)
            .order_by(_attempts.c.attempt)
        )
        return [
            dict(row._mapping)
            | {
                "message": row.message and shortened(row.message),
                "started": iso(row.claimed_at),
                "finished": iso(row.finished_at),
            }
            for row in self._rows(query)
        ]

    def studies_with_loss(self) -> dict[str, list[str]]:
        """Return, for each loss that a trial has finished with, the studies that tried it."""
        query = (
            select(schema.studies.c.name, _attempts.c.branch)
            .join(schema.studies, schema.studies.c.study_id == _attempts.c.study_id)
            .where(_attempts.c.branch.is_not(None), _attempts.c.successor.is_(None))
            .where(_attempts.c.finished_at.is_not(None), _attempts.c.reason.is_(None))  # complete, as `state_of` says
            .where(schema.studies.c.parent.is_(None))
            .group_by(schema.studies.c.study_id, schema.studies.c.name, _attempts.c.branch)
            .order_by(schema.studies.c.study_id.desc())
        )
        found: dict[str, list[str]] = {}
        for row in self._rows(query):
            found.setdefault(row.branch, []).append(row.name)
        return found

    def studies_with_dataset(self) -> dict[str, list[str]]:
        """Return, for each data set, the studies that use it, newest first."""
        found: dict[str, list[str]] = {}
        for row in self._rows(
            select(schema.studies.c.name, schema.studies.c.spec["dataset"].label("dataset"))
            .where(schema.studies.c.parent.is_(None))
            .order_by(schema.studies.c.study_id.desc())
        ):
            dataset = row.dataset.get("name") if isinstance(row.dataset, dict) else row.dataset
            found.setdefault(str(dataset), []).append(row.name)
        return found

    def overview_revision(self) -> str:
        """Return what changes with every write to any study but a heartbeat."""
        revisions = select(
            schema.studies.c.identity, schema.studies.c.revision, _newest_epoch(schema.studies.c.study_id)
        ).order_by(schema.studies.c.study_id)
        others = select(func.count()).select_from(optuna_schema.studies)

        def read(connection: Connection) -> str:
            parts = ["-".join(map(str, row)) for row in connection.execute(revisions)]
            digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
            return f"{digest}-{connection.scalar(others)}"

        return self._database.read(read)

    def pulse(self, name: str) -> str:
        """Return what changes with every write to a study, and when a worker comes or falls silent; one statement.

        Raises as `Store.revision`.
        """
        studies = schema.studies
        live = select(func.count()).where(
            _workers.c.left_at.is_(None),
            _workers.c.seen_at > seconds_now() - self._context.heartbeat_timeout_s,
            (_workers.c.study_id == studies.c.study_id) | _workers.c.worker_id.in_(_holders(studies.c.study_id)),
        )
        query = (
            select(
                studies.c.identity,
                studies.c.revision,
                _newest_epoch(studies.c.study_id).label("epoch"),
                live.correlate(studies).scalar_subquery().label("live"),
                confirmation_revision().label("runs"),
            )
            .join(optuna_schema.studies, own & same_name)
            .where(studies.c.name == name)
        )

        def read(connection: Connection) -> str:
            row = connection.execute(query).one_or_none()
            if row is None:
                self._find(connection, name)
                return ""
            return f"{row.identity}-{row.revision}-{row.epoch}-{row.live}{row.runs}"

        return self._database.read(read)

    def live_count(self, study_id: int | None = None) -> int:
        """Count the workers that were heard of lately: the one thing in a study's document that no write changes."""
        query = select(func.count().label("many")).where(
            _workers.c.left_at.is_(None), _workers.c.seen_at > seconds_now() - self._context.heartbeat_timeout_s
        )
        if study_id is not None:
            query = query.where((_workers.c.study_id == study_id) | _workers.c.worker_id.in_(_holders(study_id)))
        return int(self._rows(query)[0].many)

    def _rows(self, query: Any) -> list[AnyRow]:
        return self._database.read(lambda connection: list(connection.execute(query)))


def _section_name(spec: Mapping[str, Any], section: str) -> Any:
    part = spec.get(section)
    return part.get("name") if isinstance(part, dict) else part


def _messages(connection: Connection, study: StudyRecord, numbers: list[int]) -> dict[int, str | None]:
    if not numbers:
        return {}
    query = select(_attempts.c.number, _attempts.c.message).where(
        _attempts.c.study_id == study.study_id, _attempts.c.number.in_(numbers)
    )
    return {row.number: row.message and shortened(row.message) for row in connection.execute(query)}


def _holders(study_id: Any) -> Any:
    return select(_attempts.c.worker_id).where(
        _attempts.c.study_id == study_id, _attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None)
    )


def _newest_epoch(study_id: Any) -> Any:
    return select(func.coalesce(func.max(_epochs.c.id), 0)).where(_epochs.c.study_id == study_id).scalar_subquery()


_ENDED = (State.COMPLETE.value, State.PRUNED.value, State.FAIL.value)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows, and how many there are."""

    rows: Sequence[Any]
    total: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A complete trial in the order of the trials."""

    number: int
    value: float
    branch: str | None
    finished_at: float | None
    record: bool
    """It was the best so far."""


@dataclass(frozen=True, slots=True)
class PointRow:
    """A complete trial with its parameters."""

    number: int
    value: float
    objective_values: Sequence[float] | None
    branch: str | None
    params: Mapping[str, Any]


class FigureQueries(PageQueries):
    """What figures read."""

    def ranking(self, study: StudyRecord, selection: Selection = ALL) -> Ranking:
        """Return the complete trials of a selection with what ranks them; read once for each revision."""

        def read(connection: Connection) -> Sequence[Any]:
            # the driver's own rows: wrapping so many of them takes as long as reading them
            return connection.execute(selection.scored(study.study_id)).cursor.fetchall()

        def make() -> Ranking:
            return Ranking.read(self._database.read(read), maximizes=_maximizes(study, selection))

        found: Ranking = self._context.rankings.get(f"{study.identity} {selection!r}", study.revision, make)
        return found

    def history(self, study: StudyRecord, *, most: int, selection: Selection = ALL) -> Sample:
        """Return the complete trials in the order of their numbers: every new best, and about K others."""
        ranking = self.ranking(study, selection)
        found, records = ranking.history(most)
        ended = self._by_number(study, [t.number for t in found], _attempts.c.finished_at)
        rows = [
            HistoryRow(t.number, t.value, t.branch, ended[t.number].finished_at, record)
            for t, record in zip(found, records, strict=True)
            if t.number in ended
        ]
        return Sample(rows, len(ranking))

    def values_by_loss(self, study: StudyRecord, *, most: int, selection: Selection = ALL) -> list[RankedTrial]:
        """Return about K values of each loss, evenly spread from best to worst.

        The first of each loss is its best trial, the oldest one of several that are equal.
        """
        return self.ranking(study, selection).spread_by_branch(most)

    def states_by_loss(self, study: StudyRecord) -> list[StateCount]:
        """Count the newest attempts by loss, state and reason."""

        def read(connection: Connection) -> list[StateCount]:
            summary = self._summary(connection, self._find(connection, study.name))
            return [tally for tally in summary.tallies if tally.newest]

        return self._database.read(read)

    def points(self, study: StudyRecord, *, most: int, loss: str | None = None, selection: Selection = ALL) -> Sample:
        """Return about K complete trials with their parameters, from the best to the worst, the best always first."""
        found, total = self.ranking(study, selection).spread(most, branch=loss)
        columns = (_attempts.c.objective_values, _attempts.c.params)
        own = self._by_number(study, [t.number for t in found], *columns)
        rows = [
            PointRow(t.number, t.value, own[t.number].objective_values, t.branch, own[t.number].params)
            for t in found
            if t.number in own
        ]
        return Sample(rows, total)

    def curve_trials(
        self, study: StudyRecord, *, most: int, loss: str | None = None, selection: Selection = ALL
    ) -> Sample:
        """Choose about K trials whose curves show the study: half the best, the running ones, and the newest others.

        Rows: trial_id, number, branch, state, value, last_epoch. The first one is the best, where one is complete.
        """
        columns = (
            _attempts.c.trial_id,
            _attempts.c.number,
            _attempts.c.branch,
            _trials.c.state,
            _attempts.c.value,
        )
        joined = _attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
        of_study = and_(
            _attempts.c.study_id == study.study_id,
            *([] if loss is None else [_attempts.c.branch == loss]),
            *selection.conditions(),
        )
        best = select(*columns).select_from(joined)
        if selection == ALL:  # an index has them in order
            value = _attempts.c.value
            first = value.desc() if _maximizes(study) else value.asc()
            best = best.where(of_study, value.is_not(None)).order_by(first, _attempts.c.number).limit(most // 2)
        else:
            leaders = [t.number for t in self.ranking(study, selection).best(most // 2, branch=loss)]
            place = case({number: place for place, number in enumerate(leaders)}, value=_attempts.c.number)
            of_leaders = (_attempts.c.study_id == study.study_id) & _attempts.c.number.in_(leaders)
            best = best.where(of_leaders).order_by(place) if leaders else best.where(false())
        running = (
            select(*columns)
            .select_from(joined)
            .where(of_study, _attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None))
            .limit(most // 4)
        )
        ended = (
            select(*columns)
            .select_from(joined)
            .where(of_study, _attempts.c.finished_at.is_not(None), _trials.c.state.in_(_ENDED[:2]))
            .order_by(_attempts.c.number.desc())
            .limit(most // 2)
        )

        def read(connection: Connection) -> Sample:
            found: dict[int, AnyRow] = {}
            for query in (best, running, ended):
                for row in connection.execute(query):
                    found.setdefault(row.trial_id, row)
            total = connection.scalar(
                select(func.count()).where(of_study, _attempts.c.claimed_at.is_not(None), is_newest(selection.filters))
            )
            return Sample(list(found.values())[:most], total or 0)

        return self._database.read(read)

    def curves(self, trial_ids: Sequence[int], *, most: int, measure: Measure | None = None) -> list[AnyRow]:
        """Return about K validated epochs of each trial, in order. Rows: trial_id, epoch, value, elapsed (seconds)."""
        if not trial_ids:
            return []
        longest = select(func.max(_epochs.c.epoch)).where(_epochs.c.trial_id.in_(trial_ids)).scalar_subquery()
        stride = (longest + most - 1) // most
        value = _epochs.c.value if measure is None else measure.column.label("value")
        spent = func.sum(_epochs.c.seconds).over(partition_by=_epochs.c.trial_id, order_by=_epochs.c.epoch)
        inner = (
            select(_epochs.c.trial_id, _epochs.c.epoch, value, spent.label("elapsed"))
            .where(_epochs.c.trial_id.in_(trial_ids))
            .subquery()
        )
        query = (
            select(inner)
            .where(inner.c.value.is_not(None), or_(inner.c.epoch == 1, inner.c.epoch % stride == 0))
            .order_by(inner.c.trial_id, inner.c.epoch)
        )
        return self._rows(query)

    def measures(self, study: StudyRecord) -> tuple[list[str], list[str]]:
        """Return the metrics and the classes that the best trial has numbers of at its best epoch; empty before it."""

        def read(connection: Connection) -> tuple[list[str], list[str]]:
            best = self._summary(connection, self._find(connection, study.name)).best
            if best is None:
                return [], []
            query = select(_epochs.c.metrics, _epochs.c.per_class)
            row = connection.execute(
                query.where(_epochs.c.trial_id == best["trial_id"], _epochs.c.epoch == best["epoch"])
            ).one_or_none()
            if row is None:
                return [], []
            return list(row.metrics), list(dict.fromkeys(own for of in row.per_class.values() for own in of or ()))

        return self._database.read(read)

    def curves_of(self, study: StudyRecord, numbers: Sequence[int], *, most: int) -> dict[int, list[AnyRow]]:
        """Return about K epochs of each of these trials, by number; rows: trial_id, epoch, value."""
        if not numbers:
            return {}
        query = select(_attempts.c.trial_id, _attempts.c.number).where(
            _attempts.c.study_id == study.study_id, _attempts.c.number.in_(numbers)
        )
        number_of = {row.trial_id: row.number for row in self._rows(query)}
        found: dict[int, list[AnyRow]] = {number: [] for number in number_of.values()}
        for row in self.curves(list(number_of), most=most):
            found[number_of[row.trial_id]].append(row)
        return found

    def params_of(self, study: StudyRecord, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the parameters of these trials, by number."""
        if not numbers:
            return {}
        query = select(_attempts.c.number, _attempts.c.params).where(
            _attempts.c.study_id == study.study_id, _attempts.c.number.in_(numbers)
        )
        return {row.number: row.params for row in self._rows(query)}

    def metrics_of(self, study: StudyRecord, numbers: Sequence[int] | None) -> dict[int, dict[str, Any]]:
        """Return the metrics of these trials, of all where None, at their best epochs, by number."""
        if numbers is not None and not numbers:
            return {}
        best = and_(_epochs.c.trial_id == _attempts.c.trial_id, _epochs.c.epoch == _attempts.c.best_epoch)
        query = (
            select(_attempts.c.number, _epochs.c.metrics)
            .select_from(_attempts.join(_epochs, best))
            .where(_attempts.c.study_id == study.study_id)
        )
        if numbers is not None:
            query = query.where(_attempts.c.number.in_(numbers))
        return {row.number: row.metrics for row in self._rows(query)}

    def occupation(self, study: StudyRecord, *, most: int) -> Sample:
        """Return the K newest attempts that a worker held, oldest first.

        Rows: number, branch, state, reason, worker_id, host, device, claimed_at, until (seconds since 1970).
        """
        query = (
            select(
                _attempts.c.number,
                _attempts.c.branch,
                _trials.c.state,
                _attempts.c.reason,
                _attempts.c.worker_id,
                _workers.c.host,
                _workers.c.device,
                _attempts.c.claimed_at,
                func.coalesce(_attempts.c.finished_at, seconds_now()).label("until"),
            )
            .select_from(
                _attempts.join(_trials, _trials.c.trial_id == _attempts.c.trial_id).outerjoin(
                    _workers, _workers.c.worker_id == _attempts.c.worker_id
                )
            )
            .where(_attempts.c.study_id == study.study_id, _attempts.c.claimed_at.is_not(None))
            .order_by(_attempts.c.number.desc())
            .limit(most)
        )
        total = select(func.count()).where(_attempts.c.study_id == study.study_id, _attempts.c.claimed_at.is_not(None))

        def read(connection: Connection) -> Sample:
            rows = list(connection.execute(query))
            return Sample(sorted(rows, key=lambda row: row.claimed_at), connection.scalar(total) or 0)

        return self._database.read(read)

    def _by_number(self, study: StudyRecord, numbers: Sequence[int], *columns: ColumnElement[Any]) -> dict[int, AnyRow]:
        """Return more columns of some trials, by number."""
        query = select(_attempts.c.number, *columns).where(
            _attempts.c.study_id == study.study_id, _attempts.c.number.in_(numbers)
        )
        return {row.number: row for row in self._rows(query)} if numbers else {}


def _maximizes(study: StudyRecord, selection: Selection = ALL) -> bool:
    return selection.direction(study.directions[0]) == "maximize"
