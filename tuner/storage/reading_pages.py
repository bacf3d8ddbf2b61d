"""What pages read beside the documents of the store: what runs now, why trials failed, who tried which loss."""

import hashlib
from typing import Any

from sqlalchemy import Connection, func, or_, select

from tuner.storage import optuna_schema, schema
from tuner.storage.base import own, same_name
from tuner.storage.clock import iso, seconds_now
from tuner.storage.records import StudyRecord
from tuner.storage.rows import AnyRow
from tuner.storage.storage import Store
from tuner.storage.summaries import Summaries

_attempts, _epochs, _trials, _workers = schema.attempts, schema.epochs, optuna_schema.trials, schema.workers


class PageReading(Summaries):
    """Reading queries beside those of the store, on the same connections."""

    def __init__(self, store: Store) -> None:
        self._database = store._database
        self._lost_after_s = store._lost_after_s
        self._beat_s = store._beat_s
        self._summaries = store._summaries

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
            dict(row._mapping) | {"started": iso(row.claimed_at), "finished": iso(row.finished_at)}
            for row in self._rows(query)
        ]

    def studies_with_loss(self) -> dict[str, list[str]]:
        """Return, for each loss that a trial has finished with, the studies that tried it."""
        query = (
            select(schema.studies.c.name, _attempts.c.branch)
            .join(schema.studies, schema.studies.c.study_id == _attempts.c.study_id)
            .where(_attempts.c.branch.is_not(None), _attempts.c.value.is_not(None))
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
            select(schema.studies.c.name, schema.studies.c.spec["dataset"].label("dataset")).order_by(
                schema.studies.c.study_id.desc()
            )
        ):
            dataset = row.dataset.get("name") if isinstance(row.dataset, dict) else row.dataset
            found.setdefault(str(dataset), []).append(row.name)
        return found

    def overview_revision(self) -> str:
        """Return what changes with every write to any study but a life sign."""
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
            _workers.c.seen_at > seconds_now() - self._lost_after_s,
            (_workers.c.study_id == studies.c.study_id) | _workers.c.worker_id.in_(_holders(studies.c.study_id)),
        )
        query = (
            select(
                studies.c.identity,
                studies.c.revision,
                _newest_epoch(studies.c.study_id).label("epoch"),
                live.correlate(studies).scalar_subquery().label("live"),
            )
            .join(optuna_schema.studies, own & same_name)
            .where(studies.c.name == name)
        )

        def read(connection: Connection) -> str:
            row = connection.execute(query).one_or_none()
            if row is None:
                self._find(connection, name)
                return ""
            return f"{row.identity}-{row.revision}-{row.epoch}-{row.live}"

        return self._database.read(read)

    def live_count(self, study_id: int | None = None) -> int:
        """Count the workers that were heard of lately: the one thing in a study's document that no write changes."""
        query = select(func.count().label("many")).where(
            _workers.c.left_at.is_(None), _workers.c.seen_at > seconds_now() - self._lost_after_s
        )
        if study_id is not None:
            query = query.where((_workers.c.study_id == study_id) | _workers.c.worker_id.in_(_holders(study_id)))
        return int(self._rows(query)[0].many)

    def _rows(self, query: Any) -> list[AnyRow]:
        return self._database.read(lambda connection: list(connection.execute(query)))


def _messages(connection: Connection, study: StudyRecord, numbers: list[int]) -> dict[int, str | None]:
    if not numbers:
        return {}
    query = select(_attempts.c.number, _attempts.c.message).where(
        _attempts.c.study_id == study.study_id, _attempts.c.number.in_(numbers)
    )
    return {row.number: row.message for row in connection.execute(query)}


def _holders(study_id: Any) -> Any:
    return select(_attempts.c.worker_id).where(
        _attempts.c.study_id == study_id, _attempts.c.claimed_at.is_not(None), _attempts.c.finished_at.is_(None)
    )


def _newest_epoch(study_id: Any) -> Any:
    return select(func.coalesce(func.max(_epochs.c.id), 0)).where(_epochs.c.study_id == study_id).scalar_subquery()
