"""Earlier trials for `storage.py`: the same points and curves for both sides, in bulk, as each side stores them."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text, update

from tuner.registry import Scalar
from tuner.search.sampler import SeededSampler
from tuner.search.space import SearchSpace
from tuner.storage import optuna_schema, schema
from tuner.storage.optuna_schema import attribute_rows, param_rows, report_row, value_rows

CHUNK = 500
FEASIBLE = {"memory": -1.0, "finite": -1.0}


@dataclass(frozen=True)
class Earlier:
    """One earlier trial: its point, and a curve that rises towards its quality with some noise."""

    params: dict[str, Scalar]
    curve: tuple[float, ...]


def simulated_curve(chance: random.Random, epochs: int) -> tuple[float, ...]:
    """Return validation scores that rise towards a random quality."""
    quality = chance.betavariate(4, 2)
    return tuple(max(0.0, quality * (1 - 0.7**e) + chance.gauss(0, 0.02)) for e in range(1, epochs + 1))


def earlier_trials(space: SearchSpace, number: int, epochs: int) -> list[Earlier]:
    """Draw points at random and a curve for each; always the same ones."""
    searcher = SeededSampler(space, ("maximize",), sampler="random", options={}, seed=1)
    chance = random.Random(1)
    return [Earlier(searcher.suggest(slot, fixed={}), simulated_curve(chance, epochs)) for slot in range(number)]


def fill_optuna(engine: Engine, study_id: int, space: SearchSpace, earlier: Sequence[Earlier]) -> None:
    """Insert finished trials into Optuna's tables, every epoch as an intermediate value, as `report` leaves them."""
    now = datetime.now(UTC).replace(tzinfo=None)
    done = {"study_id": study_id, "state": "COMPLETE", "datetime_start": now, "datetime_complete": now}
    with engine.begin() as connection:
        rows = [{"number": i} | done for i in range(len(earlier))]
        _insert(connection, optuna_schema.trials, rows)
        for trial_id, trial in zip(_ids(connection, study_id), earlier, strict=True):
            pending = _Pending.of(trial_id, space, trial)
            pending.reports = [report_row(trial_id, e, value) for e, value in enumerate(trial.curve, start=1)]
            pending.write(connection)
    _analyze(engine)


def fill_ours(engine: Engine, study_id: int, space: SearchSpace, earlier: Sequence[Earlier]) -> None:
    """Turn the first waiting trials of a study of ours into finished ones, as `report` and `finish` leave them."""
    trials, attempts = optuna_schema.trials, schema.attempts
    now = datetime.now(UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        ids = _ids(connection, study_id)[: len(earlier)]
        connection.execute(
            update(trials)
            .where(trials.c.study_id == study_id, trials.c.number < len(earlier))
            .values(state="COMPLETE", datetime_start=now, datetime_complete=now)
        )
        for index, (trial_id, trial) in enumerate(zip(ids, earlier, strict=True)):
            pending = _Pending.of(trial_id, space, trial)
            pending.reports = [report_row(trial_id, len(trial.curve), trial.curve[-1])]
            pending.write(connection)
            connection.execute(update(attempts).where(attempts.c.trial_id == trial_id).values(**_attempt(index, trial)))
            connection.execute(insert(schema.epochs), list(_epochs(study_id, trial_id, trial)))
        connection.execute(
            update(schema.studies)
            .where(schema.studies.c.study_id == study_id)
            .values(finished=len(earlier), revision=len(earlier) + 1)
        )
    _analyze(engine)


def abandon_ours(url: str, space: SearchSpace, points: Sequence[Earlier], *, silent: bool) -> None:
    """Turn the first waiting trials of a study of ours into ones that a dead worker holds, just now or long ago."""
    from tuner.storage.storage import Storage

    trials, attempts, studies = optuna_schema.trials, schema.attempts, schema.studies
    began = time.time() - (3600 if silent else 0)
    with Storage.open(url) as store:
        engine, study_id = store.context.database.writer, store.studies.get("bench").study_id
        with engine.begin() as connection:
            waiting = select(attempts.c.trial_id).where(
                attempts.c.study_id == study_id, attempts.c.claimed_at.is_(None)
            )
            ids = connection.scalars(waiting.order_by(attempts.c.slot).limit(len(points))).all()
            for trial_id, trial in zip(ids, points, strict=True):
                connection.execute(insert(optuna_schema.trial_params), param_rows(trial_id, space, trial.params))
                held = {"params": trial.params, "filled": True, "empty": False, "branch": trial.params.get("loss")}
                held |= {"worker_id": "gone", "claimed_at": began}
                connection.execute(update(attempts).where(attempts.c.trial_id == trial_id).values(**held))
            connection.execute(update(trials).where(trials.c.trial_id.in_(ids)).values(state="RUNNING"))
            connection.execute(update(studies).values(alive_since=began, spent_at=time.time()))
        _analyze(engine)


def abandon_plain(url: str, space: SearchSpace, points: Sequence[Earlier]) -> None:
    """Add trials to a study of Optuna's that stay RUNNING for ever."""
    import optuna

    storage = optuna.storages.RDBStorage(url)
    study_id = storage.get_study_id_from_name("plain")
    number = storage.get_n_trials(study_id)
    with storage.engine.begin() as connection:
        now = datetime.now(UTC).replace(tzinfo=None)
        running = {"study_id": study_id, "state": "RUNNING", "datetime_start": now}
        _insert(connection, optuna_schema.trials, [{"number": number + i} | running for i in range(len(points))])
        for trial_id, trial in zip(_ids(connection, study_id)[number:], points, strict=True):
            connection.execute(insert(optuna_schema.trial_params), param_rows(trial_id, space, trial.params))
    _analyze(storage.engine)
    storage.remove_session()
    storage.engine.dispose()


@dataclass
class _Pending:
    params: list[dict[str, Any]]
    values: list[dict[str, Any]]
    attributes: list[dict[str, Any]]
    reports: list[dict[str, Any]]

    @classmethod
    def of(cls, trial_id: int, space: SearchSpace, trial: Earlier) -> "_Pending":
        limits = {f"constraints:{name}": value for name, value in FEASIBLE.items()}
        return cls(
            params=param_rows(trial_id, space, trial.params),
            values=value_rows(trial_id, (max(trial.curve),)),
            attributes=attribute_rows(trial_id, limits),
            reports=[],
        )

    def write(self, connection: Connection) -> None:
        connection.execute(insert(optuna_schema.trial_params), self.params)
        connection.execute(insert(optuna_schema.trial_values), self.values)
        connection.execute(insert(optuna_schema.trial_system_attributes), self.attributes)
        connection.execute(insert(optuna_schema.trial_intermediate_values), self.reports)


def _attempt(index: int, trial: Earlier) -> dict[str, Any]:
    return {
        "params": trial.params,
        "empty": False,
        "filled": True,
        "branch": trial.params.get("loss"),
        "worker_id": "earlier",
        "claimed_at": float(index),
        "finished_at": float(index + 1),
        "finished_revision": index + 1,
        "value": max(trial.curve),
        "objective_values": [max(trial.curve)],
        "feasible": FEASIBLE,
        "last_epoch": len(trial.curve),
        "last_value": trial.curve[-1],
        "best_epoch": trial.curve.index(max(trial.curve)) + 1,
    }


def _epochs(study_id: int, trial_id: int, trial: Earlier) -> Iterator[dict[str, Any]]:
    best = 0.0
    for number, value in enumerate(trial.curve, start=1):
        best = max(best, value)
        yield {
            "trial_id": trial_id,
            "study_id": study_id,
            "epoch": number,
            "branch": trial.params.get("loss"),
            "bracket": 0,
            "value": value,
            "best": best,
            "metrics": {"dice": value},
            "per_class": {},
            "train_loss": 1 - value,
            "lr": 1e-3,
            "seconds": 1.0,
            "at": float(number),
        }


def _ids(connection: Connection, study_id: int) -> list[int]:
    trials = optuna_schema.trials.c
    query = optuna_schema.trials.select().where(trials.study_id == study_id).order_by(trials.number)
    return [row.trial_id for row in connection.execute(query)]


def _insert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), CHUNK):
        connection.execute(insert(table), rows[start : start + CHUNK])


def _analyze(engine: Engine) -> None:
    """Give the planner its statistics, as a database that has grown by itself has them."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT") if engine.name == "postgresql" else None
        connection.execute(text("ANALYZE"))
        connection.commit()
