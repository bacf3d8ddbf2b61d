"""What a trial costs the database: a bounded number of statements, whatever came before and however much competes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from tests.storage.examples import SPACE, completed, epoch, new_study, point
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace
from tuner.storage import optuna_schema, schema
from tuner.storage.storage import Storage

EPOCHS = 20


@contextmanager
def counted(store: Storage) -> Iterator[list[str]]:
    """Collect every statement, BEGIN included where it is sent as one."""
    statements: list[str] = []
    engines = {store.context.database.writer, store.context.database.reader}

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def wide_space(losses: int) -> tuple[SearchSpace, dict[str, Scalar]]:
    names = [f"loss{i}" for i in range(losses)]
    own = [Dimension(f"loss.{n}.{o}", "float", 0.0, 1.0, when=("loss", n)) for n in names for o in ("a", "b", "c")]
    space = SearchSpace((Dimension("loss", "categorical", choices=tuple(names)), *SPACE.dimensions[1:5], *own))
    shared = {k: v for k, v in point("dice").items() if k != "loss"}
    return space, {"loss": "loss1"} | shared | {f"loss.loss1.{o}": 0.5 for o in ("a", "b", "c")}


def earlier(store: Storage, study_id: int, number: int) -> None:
    """Turn waiting trials into finished ones, each with a curve, without going through the store."""

    def insert(connection: object) -> None:
        run = connection.execute  # type: ignore[attr-defined]
        own = schema.attempts
        ids = list(run(own.select().where(own.c.study_id == study_id).order_by(own.c.slot).limit(number)))
        done = {"state": "COMPLETE"}
        run(optuna_schema.trials.update().where(optuna_schema.trials.c.number < number).values(**done))
        run(
            own.update()
            .where(own.c.study_id == study_id, own.c.slot < number)
            .values(
                claimed_at=1.0,
                finished_at=2.0,
                finished_revision=own.c.slot + 1,
                value=0.5,
                objective_values=[0.5],
                params={"loss": "loss1"},
                filled=True,
            )
        )
        run(
            schema.epochs.insert(),
            [
                {"trial_id": r.trial_id, "study_id": study_id, "epoch": e, "bracket": 0, "best": 0.5, "at": 1.0}
                | {"metrics": {}, "per_class": {}, "value": 0.5, "branch": "loss1"}
                for r in ids
                for e in (1, EPOCHS)
            ],
        )
        run(schema.studies.update().values(finished=number, revision=number + 1))

    store.context.database.write(insert)


def one_trial(store: Storage, study_id: int, space: SearchSpace, params: dict[str, Scalar]) -> int:
    store.workers.requeue_lost(study_id)
    claim = store.trials.claim(study_id, "w1")
    assert claim is not None
    history = store.epochs.history(study_id)
    assert store.trials.set_params(claim, params, space)
    for number in range(1, EPOCHS + 1):
        store.epochs.report(claim, epoch(number, number / 100), peers=True)
    assert store.trials.finish(claim, completed(0.2, last=(EPOCHS, 0.2)))
    return len(history.finished)


@pytest.mark.parametrize(
    ("trials", "losses"),
    [(0, 3), pytest.param(0, 14, marks=pytest.mark.slow), pytest.param(2_000, 3, marks=pytest.mark.slow), (2_000, 40)],
)
def test_a_trial_costs_a_bounded_number_of_statements(store: Storage, trials: int, losses: int) -> None:
    """Plain Optuna's cost grows with the history and with the number of losses; ours must not."""
    space, params = wide_space(losses)
    study = store.studies.create(new_study(trials=trials + 1, space=space))
    if trials:
        earlier(store, study.study_id, trials)

    with counted(store) as statements:
        assert one_trial(store, study.study_id, space, params) == trials

    assert len(statements) - 2 * EPOCHS <= 25


def test_an_epoch_costs_two_statements(store: Storage) -> None:
    """Reports are most of what a study asks of its database."""
    study = store.studies.create(new_study(trials=1))
    claim = store.trials.claim(study.study_id, "w1")
    assert claim is not None

    with counted(store) as statements:
        store.epochs.report(claim, epoch(1), peers=True)

    assert len(statements) == 2
