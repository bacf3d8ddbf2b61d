"""Status queries: the documents of `status`, `studies` and `best`, counts by state, the Pareto front. Never Optuna."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, and_, case, cast, func, literal, or_, select, true

from tuner.search.pareto import pareto_front
from tuner.storage import optuna_schema, schema
from tuner.storage.annotations import NO_ANNOTATION, OF_STUDY, Annotation, annotations_of
from tuner.storage.base import AnyRow, StorageBase, own, same_name
from tuner.storage.confirmations import confirmation_of
from tuner.storage.engine import iso
from tuner.storage.loss_time import hours_per_loss, limit_s, loss_times
from tuner.storage.states import DesiredState, Reason, State, StudyFacts, phase
from tuner.storage.trials import timed_out
from tuner.storage.workers import any_stands_ready, live_and_quarantined, live_by_study, live_workers

_attempts = schema.attempts
_trials = optuna_schema.trials
_COUNTED = {"waiting": "WAITING", "running": "RUNNING", "complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


@dataclass(frozen=True, slots=True)
class StateCount:
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


def count_by_state(connection: Connection, study_id: int) -> list[StateCount]:
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
        StateCount(
            row.branch, row.state, row.reason, bool(row.newest), row.many, row.claimed, row.number, row.seconds or 0.0
        )
        for row in connection.execute(query)
    ]


def counts_of(found: Iterable[StateCount]) -> dict[str, int]:
    """Count the newest attempts by state, in the words of the contract: each place of the budget once."""
    return counts_by_name((tally.state, tally.many) for tally in found if tally.newest)


def counts_by_name(states: Iterable[tuple[str, int]]) -> dict[str, int]:
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


def best_trials(connection: Connection, study: AnyRow) -> list[dict[str, Any]]:
    """Return the complete trials that no other one beats in every objective, best in the first objective first."""
    rows = connection.execute(
        select(_attempts.c.number, _attempts.c.objective_values, _attempts.c.branch, _attempts.c.params)
        .where(_attempts.c.study_id == study.study_id, _attempts.c.value.is_not(None))
        .order_by(_attempts.c.number)
    ).all()
    signs = [-1.0 if o["direction"] == "maximize" else 1.0 for o in study.objectives]
    points = [tuple(s * v for s, v in zip(signs, row.objective_values, strict=True)) for row in rows]
    return [
        {
            "number": rows[i].number,
            "value": rows[i].objective_values[0],
            "values": rows[i].objective_values,
            "loss": rows[i].branch,
            "params": rows[i].params,
        }
        for i in pareto_front(points)
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """A study in short; nobody may change what it holds."""

    tallies: list[StateCount]
    counts: dict[str, int]
    """The newest attempts by state, in the words of the contract."""
    started: bool
    best: dict[str, Any] | None
    """The best complete trial: `{"number", "value", "values", "loss", "params", "epoch", "trial_id"}`."""
    annotation: Annotation


class Summaries(StorageBase):
    """The part of the store that remembers summaries, for as long as a study's revision stays what it is."""

    def _summary(self, connection: Connection, study: AnyRow) -> Summary:
        """Return the summary of a row of `tuner_studies`, which must come from the same snapshot."""
        found: Summary = self._context.summaries.get(
            study.identity, study.revision, lambda: _summarise(connection, study)
        )
        return found


def _summarise(connection: Connection, study: AnyRow) -> Summary:
    found = count_by_state(connection, study.study_id)
    written = annotations_of(connection, study.study_id, [OF_STUDY]).get(OF_STUDY, NO_ANNOTATION)
    return Summary(found, counts_of(found), any(tally.claimed for tally in found), _best(connection, study), written)


def _best(connection: Connection, study: AnyRow) -> dict[str, Any] | None:
    chosen: ColumnElement[bool]
    if len(study.objectives) > 1:
        points = best_trials(connection, study)
        if not points:
            return None
        chosen = _attempts.c.number == points[0]["number"]
    else:
        chosen = true()
    value = _attempts.c.value
    first = value.desc() if study.objectives[0]["direction"] == "maximize" else value.asc()
    row = connection.execute(
        select(_attempts)
        .where(_attempts.c.study_id == study.study_id, value.is_not(None), chosen)
        .order_by(first, _attempts.c.number)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return {
        "number": row.number,
        "value": row.value,
        "values": row.objective_values,
        "loss": row.branch,
        "params": row.params,
        "epoch": row.best_epoch,
        "trial_id": row.trial_id,
    }


_epochs = schema.epochs
_studies = schema.studies


class StatusQueries(Summaries):
    """The part of the store that describes studies."""

    def status(self, name: str) -> dict[str, Any]:
        """Return the contract's `status` document of one study."""

        def read(connection: Connection) -> dict[str, Any]:
            row = self._find(connection, name)
            live, aside = live_and_quarantined(connection, self._context.heartbeat_timeout_s, row.study_id)
            return self._document(connection, row, live, confirmation_of(connection, row.identity)) | {
                "put_aside": aside
            }

        return self._database.read(read)

    def studies(self) -> list[dict[str, Any]]:
        """Return a `status` document for every study, oldest first; foreign Optuna studies carry `foreign: true`."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            theirs = optuna_schema.studies
            live = live_by_study(connection, self._context.heartbeat_timeout_s)
            rows = connection.execute(
                select(_studies, theirs.c.study_id.label("id"), theirs.c.study_name.label("their_name"))
                .select_from(theirs.outerjoin(_studies, own & same_name))
                .order_by(theirs.c.study_id)
            ).all()
            confirmations = {row.parent: row for row in rows if row.parent is not None}
            return [
                _foreign(connection, row.id, row.their_name)
                if row.identity is None
                else self._document(connection, row, live.get(row.id, []), confirmations.get(row.identity))
                for row in rows
                if row.parent is None
            ]

        return self._database.read(read)

    def phase(self, name: str) -> tuple[str, str | None]:
        """Return phase and reason only: queued, running, paused, stopped, stalled or done."""

        def read(connection: Connection) -> tuple[str, str | None]:
            row = self._find(connection, name)
            workers = live_workers(connection, self._context.heartbeat_timeout_s, row.study_id)
            return self._phase(connection, row, self._summary(connection, row), len(workers))

        return self._database.read(read)

    def studies_with_work(self) -> list[str]:
        """Return the studies of ours that have a trial to claim, oldest first: what `worker --any` looks for.

        Also those that may get one: of a training time for each loss, while something runs.
        """

        def read(connection: Connection) -> list[str]:
            waiting = (
                select(_attempts.c.trial_id)
                .join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
                .where(
                    _attempts.c.study_id == _studies.c.study_id,
                    _attempts.c.claimed_at.is_(None),
                    _trials.c.state == State.WAITING.value,
                )
                .exists()
            )
            growing = and_(_studies.c.parent.is_(None), hours_per_loss().is_not(None), _runs())
            query = (
                select(_studies.c.name)
                .join(optuna_schema.studies, own & same_name)
                .where(_studies.c.wanted == DesiredState.RUN.value, ~timed_out(), or_(waiting, growing))
                .order_by(_studies.c.study_id)
            )
            return list(connection.scalars(query))

        return self._database.read(read)

    def budget_spent(self, study_id: int) -> bool:
        """Tell whether no trial of a study waits or runs."""

        def read(connection: Connection) -> bool:
            left = (
                select(_attempts.c.trial_id)
                .join(_trials, _trials.c.trial_id == _attempts.c.trial_id)
                .where(
                    _attempts.c.study_id == study_id,
                    _attempts.c.finished_at.is_(None),
                    _trials.c.state.in_([State.WAITING.value, State.RUNNING.value]),
                )
                .limit(1)
            )
            return connection.execute(left).one_or_none() is None

        return self._database.read(read)

    def best(self, name: str) -> dict[str, Any] | None:
        """Return the best complete trial; None when there is none yet.

        `{"number", "value", "values", "loss", "params", "metrics", "per_class", "epoch"}`. With several objectives it
        is the Pareto point that is best in the first, and `front` holds all Pareto points.
        """

        def read(connection: Connection) -> dict[str, Any] | None:
            row = self._find(connection, name)
            found = self._summary(connection, row).best
            if found is None:
                return None
            document = deepcopy(found)
            epoch = connection.execute(
                select(_epochs.c.metrics, _epochs.c.per_class).where(
                    _epochs.c.trial_id == document.pop("trial_id"), _epochs.c.epoch == document["epoch"]
                )
            ).one_or_none()
            document["metrics"] = epoch.metrics if epoch else {}
            document["per_class"] = epoch.per_class if epoch else {}
            if len(row.objectives) > 1:
                document["front"] = best_trials(connection, row)
            return document

        return self._database.read(read)

    def revision(self, name: str) -> str:
        """Return what changes with every write but a heartbeat: identity, revision, newest epoch. For ETags."""

        def read(connection: Connection) -> str:
            row = self._find(connection, name)
            newest = connection.scalar(select(func.max(_epochs.c.id)).where(_epochs.c.study_id == row.study_id))
            of_runs = connection.scalar(select(confirmation_revision()).where(_studies.c.study_id == row.study_id))
            return f"{row.identity}-{row.revision}-{newest or 0}{of_runs}"

        return self._database.read(read)

    def _document(
        self, connection: Connection, row: AnyRow, workers: list[dict[str, Any]], confirmation: AnyRow | None
    ) -> dict[str, Any]:
        summary = self._summary(connection, row)
        named, reason = self._phase(connection, row, summary, len(workers))
        best = deepcopy(summary.best)
        return {
            "name": row.name,
            "phase": named,
            "phase_reason": reason,
            "message": row.message,
            "dataset": _named(row.spec, "dataset"),
            "model": _named(row.spec, "model"),
            "objectives": row.objectives,
            "trials": {"total": row.total} | summary.counts,
            "best": None if best is None else {key: best[key] for key in ("number", "value", "params", "loss")},
            "workers": [{k: v for k, v in w.items() if k not in ("study", "study_id")} for w in workers],
            "timeout_s": row.timeout_s,
            "spent_s": row.spent_s,
            "loss_time": _loss_time(connection, row),
            "created": iso(row.created_at),
            "confirmation": None
            if confirmation is None
            else self._confirmation(connection, confirmation, len(workers)),
            "foreign": False,
            "archived": row.archived,
        } | summary.annotation.as_dict()

    def _confirmation(self, connection: Connection, row: AnyRow, live: int) -> dict[str, Any]:
        """Return how the confirmation of a study stands; `live` workers serve the study."""
        summary = self._summary(connection, row)
        named, reason = self._phase(connection, row, summary, live)
        return {
            "phase": named,
            "phase_reason": reason,
            "message": row.message,
            "runs": {"total": row.total} | summary.counts,
        }

    def _phase(self, connection: Connection, row: AnyRow, summary: Summary, live: int) -> tuple[str, str | None]:
        return phase(
            StudyFacts(
                wanted=DesiredState(row.wanted),
                wanted_reason=row.wanted_reason,
                timed_out=row.timeout_s is not None and row.spent_s >= row.timeout_s,
                left=summary.counts["waiting"] + summary.counts["running"],
                started=summary.started,
                live_workers=live,
                ready=lambda: any_stands_ready(connection, self._context.heartbeat_timeout_s),
            )
        )


def _runs() -> ColumnElement[bool]:
    """Return, as SQL beside a row of `tuner_studies`, whether a worker holds a trial of it."""
    held = _attempts.c.study_id == _studies.c.study_id, _attempts.c.claimed_at.is_not(None)
    return select(_attempts.c.trial_id).where(*held, _attempts.c.finished_at.is_(None)).correlate(_studies).exists()


def _loss_time(connection: Connection, row: AnyRow) -> dict[str, Any] | None:
    """Return how much of its training time each loss has had; None where trials are counted."""
    limit = limit_s(row)
    if limit is None:
        return None
    return {
        "hours_per_loss": limit / 3600,
        "hours": {str(time.loss or "loss"): time.seconds / 3600 for time in loss_times(connection, row)},
    }


def confirmation_revision() -> ColumnElement[str]:
    """Return, as SQL beside a row of `tuner_studies`, what changes with every write to its confirmation.

    Empty where it has none.
    """
    child = _studies.alias()
    newest = select(func.max(_epochs.c.id)).where(_epochs.c.study_id == child.c.study_id).scalar_subquery()
    told = literal("-") + cast(child.c.revision, String) + "-" + cast(func.coalesce(newest, 0), String)
    newest_one = select(told).where(child.c.parent == _studies.c.identity).order_by(child.c.study_id.desc()).limit(1)
    return func.coalesce(newest_one.correlate(_studies).scalar_subquery(), "")


def _named(spec: dict[str, Any], section: str) -> str | None:
    part = spec.get(section)
    name = part.get("name") if isinstance(part, dict) else part
    return name if isinstance(name, str) else None


def _foreign(connection: Connection, study_id: int, name: str) -> dict[str, Any]:
    found = connection.execute(
        select(_trials.c.state, func.count()).where(_trials.c.study_id == study_id).group_by(_trials.c.state)
    )
    counts = counts_by_name((row[0], row[1]) for row in found)
    directions = optuna_schema.study_directions.c
    objectives = connection.scalars(
        select(case((directions.direction == "MAXIMIZE", "maximize"), else_="minimize"))
        .where(directions.study_id == study_id)
        .order_by(directions.objective)
    )
    return {
        "name": name,
        "phase": "running" if counts["running"] else "queued" if counts["waiting"] else "done",
        "phase_reason": None,
        "message": None,
        "dataset": None,
        "model": None,
        "objectives": [{"metric": f"value {i}", "direction": d} for i, d in enumerate(objectives)],
        "trials": {"total": sum(counts.values())} | counts,
        "best": None,
        "workers": [],
        "loss_time": None,
        "confirmation": None,
        "foreign": True,
        "archived": False,
    } | NO_ANNOTATION.as_dict()
