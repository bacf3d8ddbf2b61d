"""Studies as people see them: the documents of `status`, `studies` and `best`, by aggregate SQL. Never Optuna."""

from copy import deepcopy
from typing import Any

from sqlalchemy import Connection, case, func, select

from tuner.storage import optuna_schema, schema
from tuner.storage.base import own, same_name
from tuner.storage.clock import iso
from tuner.storage.counting import in_words
from tuner.storage.fronts import front_of
from tuner.storage.rows import AnyRow
from tuner.storage.states import Facts, State, Wanted, phase
from tuner.storage.summaries import Summaries, Summary
from tuner.storage.trials import timed_out
from tuner.storage.workers import live_and_aside, live_by_study, live_workers

_attempts, _epochs, _studies, _trials = schema.attempts, schema.epochs, schema.studies, optuna_schema.trials


class Reading(Summaries):
    """The part of the store that describes studies."""

    def status(self, name: str) -> dict[str, Any]:
        """Return the contract's `status` document of one study."""

        def read(connection: Connection) -> dict[str, Any]:
            row = self._find(connection, name)
            live, aside = live_and_aside(connection, self._lost_after_s, row.study_id)
            return self._document(connection, row, live) | {"put_aside": aside}

        return self._database.read(read)

    def studies(self) -> list[dict[str, Any]]:
        """Return a `status` document for every study, oldest first; foreign Optuna studies carry `foreign: true`."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            theirs = optuna_schema.studies
            live = live_by_study(connection, self._lost_after_s)
            rows = connection.execute(
                select(_studies, theirs.c.study_id.label("id"), theirs.c.study_name.label("their_name"))
                .select_from(theirs.outerjoin(_studies, own & same_name))
                .order_by(theirs.c.study_id)
            ).all()
            return [
                _foreign(connection, row.id, row.their_name)
                if row.identity is None
                else self._document(connection, row, live.get(row.id, []))
                for row in rows
            ]

        return self._database.read(read)

    def study_phase(self, name: str) -> tuple[str, str | None]:
        """Return phase and reason only: queued, running, paused, stopped, stalled or done."""

        def read(connection: Connection) -> tuple[str, str | None]:
            row = self._find(connection, name)
            workers = live_workers(connection, self._lost_after_s, row.study_id)
            return _phase(row, self._summary(connection, row), len(workers))

        return self._database.read(read)

    def studies_with_work(self) -> list[str]:
        """Return the studies of ours that have a trial to claim, oldest first: what `worker --any` looks for."""

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
            query = (
                select(_studies.c.name)
                .join(optuna_schema.studies, own & same_name)
                .where(_studies.c.wanted == Wanted.RUN.value, ~timed_out(), waiting)
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
                document["front"] = front_of(connection, row)
            return document

        return self._database.read(read)

    def revision(self, name: str) -> str:
        """Return what changes with every write but a life sign: identity, revision, newest epoch. For ETags."""

        def read(connection: Connection) -> str:
            row = self._find(connection, name)
            newest = connection.scalar(select(func.max(_epochs.c.id)).where(_epochs.c.study_id == row.study_id))
            return f"{row.identity}-{row.revision}-{newest or 0}"

        return self._database.read(read)

    def _document(self, connection: Connection, row: AnyRow, workers: list[dict[str, Any]]) -> dict[str, Any]:
        summary = self._summary(connection, row)
        named, reason = _phase(row, summary, len(workers))
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
            "created": iso(row.created_at),
            "foreign": False,
        }


def _phase(row: AnyRow, summary: Summary, live: int) -> tuple[str, str | None]:
    return phase(
        Facts(
            wanted=Wanted(row.wanted),
            wanted_reason=row.wanted_reason,
            timed_out=row.timeout_s is not None and row.spent_s >= row.timeout_s,
            left=summary.counts["waiting"] + summary.counts["running"],
            started=summary.started,
            live_workers=live,
        )
    )


def _named(spec: dict[str, Any], section: str) -> str | None:
    part = spec.get(section)
    name = part.get("name") if isinstance(part, dict) else part
    return name if isinstance(name, str) else None


def _foreign(connection: Connection, study_id: int, name: str) -> dict[str, Any]:
    found = connection.execute(
        select(_trials.c.state, func.count()).where(_trials.c.study_id == study_id).group_by(_trials.c.state)
    )
    counts = in_words((row[0], row[1]) for row in found)
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
        "foreign": True,
    }
