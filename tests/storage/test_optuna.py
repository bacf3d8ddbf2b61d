"""The storage is Optuna's: its own tools open it and see what happened."""

import json
import math
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState

from tests.storage.examples import SPACE, claimed, completed, epoch, failed, new_study, point, pruned, run_all
from tuner.errors import SpecError
from tuner.search.distributions import distribution, internal
from tuner.search.space import SearchSpace
from tuner.storage.optuna_schema import distribution_json, internal_value, value_rows
from tuner.storage.states import Reason
from tuner.storage.storage import Storage
from tuner.testing.storage import DICE_AND_HD95


@pytest.fixture
def storage(store: Storage) -> Iterator[optuna.storages.RDBStorage]:
    opened = optuna.storages.RDBStorage(store.context.database.url.render_as_string(hide_password=False))
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.mark.parametrize("dimension", SPACE.dimensions, ids=lambda d: d.name)
def test_distributions_are_written_as_optuna_writes_them(dimension: Any) -> None:
    """A difference of one character makes Optuna refuse the next trial as incompatible."""
    assert distribution_json(dimension) == distribution_to_json(distribution(dimension))
    for value in dimension.choices or (dimension.low, dimension.high):
        assert internal_value(dimension, value) == internal(dimension, value)


def test_optuna_reads_every_trial(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """`optuna.load_study` shows values, parameters, reports, constraints, reasons and what waits."""
    study = store.studies.create(new_study(queue=[point("dice"), {"loss": "focal"}, {}, {}, {}]))
    run_all(store, study.study_id, [0.5], "dice")
    store.trials.finish(claimed(store, study.study_id, params=point("focal")), pruned(last=(7, 0.25)))
    store.trials.finish(claimed(store, study.study_id, params=point("tversky")), pruned(Reason.DIVERGED))
    store.trials.finish(claimed(store, study.study_id), failed(Reason.INTERRUPTED, retry=True))

    loaded = optuna.load_study(study_name="organs", storage=storage)
    trials = loaded.trials

    assert [t.number for t in trials] == list(range(6))
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "WAITING", "WAITING"]
    assert [t.params for t in trials[:3]] == [point("dice"), point("focal"), point("tversky")]
    assert [t.intermediate_values for t in trials[:4]] == [{2: 0.5}, {7: 0.25}, {}, {}]
    assert [t.constraints for t in trials[:4]] == [
        {"memory": -1.0, "finite": -1.0},
        {"memory": -1.0, "finite": -1.0},
        {"memory": -1.0, "finite": 1.0},
        {"memory": -1.0, "finite": -1.0},
    ]
    assert trials[2].user_attrs == {"loss": "tversky", "reason": "diverged", "worker": "w1"}
    assert trials[5].system_attrs["fixed_params"] == point("focal")
    assert trials[5].user_attrs == {"retry_of": 3}
    assert (loaded.best_trial.number, loaded.best_value) == (0, 0.5)
    assert loaded.metric_names == ["dice"]
    for trial in trials[:4]:
        assert trial.distributions == {d.name: distribution(d) for d in SPACE.active(trial.params)}
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        trial._validate()


def test_optuna_would_have_written_the_same_rows(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """A trial of ours and one that Optuna's storage wrote are equal but for their identity."""
    ours = store.studies.create(new_study(trials=1))
    run_all(store, ours.study_id, [0.5], "focal")
    theirs = optuna.create_study(study_name="theirs", storage=storage, direction="maximize")
    mine = optuna.load_study(study_name="organs", storage=storage).trials[0]
    asked = theirs.ask({name: mine.distributions[name] for name in mine.distributions})
    storage.set_trial_intermediate_value(asked._trial_id, 2, 0.5)
    theirs.tell(asked, 0.5)

    made = theirs.trials[0]

    assert made.distributions == mine.distributions
    assert (made.values, made.state, made.intermediate_values) == (mine.values, mine.state, mine.intermediate_values)


def test_optunas_samplers_learn_from_our_trials(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """Whoever goes on in a notebook finds a study that its sampler can read, several objectives or one."""
    for name, objectives in (("one", new_study().objectives), ("two", DICE_AND_HD95)):
        study = store.studies.create(new_study(name, trials=12, objectives=objectives))
        run_all(store, study.study_id, [i / 20 for i in range(10)])
        store.trials.finish(claimed(store, study.study_id), pruned(Reason.OUT_OF_MEMORY))
        store.trials.finish(claimed(store, study.study_id), pruned())
        sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=5)
        loaded = optuna.load_study(study_name=name, storage=storage, sampler=sampler)

        asked = loaded.ask({d.name: distribution(d) for d in SPACE.shared})

        assert asked.params.keys() == {d.name for d in SPACE.shared}
        assert asked.number == 12
        assert len(loaded.get_trials(states=(TrialState.COMPLETE,))) == 10


def test_optuna_does_not_take_our_numbers(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """A trial that somebody adds with Optuna gets a number of its own, and is no trial of the budget."""
    store.studies.create(new_study(trials=2))
    loaded = optuna.load_study(study_name="organs", storage=storage)

    loaded.add_trial(optuna.trial.create_trial(value=0.1))

    assert store.studies.raise_budget("organs", 3) == 3
    assert [t.number for t in loaded.trials] == [0, 1, 2, 3]
    assert [row["number"] for row in store.queries.trials("organs")] == [0, 1, 3]


def test_a_study_that_optuna_deleted_is_gone(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """SQLite gives its ids again: nothing of it may turn up in the next study."""
    old = store.studies.create(new_study(trials=2))
    run_all(store, old.study_id, [0.5])

    optuna.delete_study(study_name="organs", storage=storage)

    assert store.queries.studies() == []
    new = store.studies.create(new_study("next", trials=2))
    assert store.epochs.history(new.study_id).finished == []
    assert store.queries.epochs("next", 0) == []
    assert store.queries.status("next")["trials"]["waiting"] == 2


def test_the_dashboard_shows_a_study(store: Storage, storage: optuna.storages.RDBStorage) -> None:
    """optuna-dashboard's own handlers answer for a study of ours."""
    dashboard = pytest.importorskip("optuna_dashboard")
    study = store.studies.create(new_study(trials=3))
    claim = claimed(store, study.study_id)
    store.epochs.report(claim, epoch(1))
    store.trials.finish(claim, completed(0.5))
    answers: list[str] = []
    application = dashboard.wsgi(storage)

    request: dict[str, Any] = {"PATH_INFO": f"/api/studies/{study.study_id}", "QUERY_STRING": "after=0"}
    setup_testing_defaults(request)

    body = application(request, lambda status, headers, *rest: answers.append(status))
    document = json.loads(b"".join(body))

    assert answers == ["200 OK"]
    assert [t["state"] for t in document["trials"]] == ["Complete", "Waiting", "Waiting"]
    assert document["trials"][0]["values"] == [0.5]


def test_values_without_a_place_in_optunas_tables_are_refused(store: Storage) -> None:
    """A choice is stored as its index: one that does not exist would read as another one."""
    loss = SPACE.dimensions[0]

    with pytest.raises(SpecError, match="outside dice, focal, tversky"):
        internal_value(loss, "hinge")

    assert [row["value_type"] for row in value_rows(1, (math.inf, -math.inf, 0.5))] == ["INF_POS", "INF_NEG", "FINITE"]


def test_a_fixed_loss_is_every_trials_loss(store: Storage) -> None:
    """Peers are counted by loss, and lists are filtered by it, where nothing is searched too."""
    space = SearchSpace(SPACE.dimensions[1:2])
    study = store.studies.create(new_study(trials=2, space=space, spec={"loss": {"name": "dice"}}))
    claim = store.trials.claim(study.study_id, "w1")
    assert claim is not None
    assert store.trials.set_params(claim, {"train.lr": 1e-3}, space)

    assert [row["loss"] for row in store.queries.trials("organs")] == ["dice", "dice"]
