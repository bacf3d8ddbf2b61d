"""What other programs add to a study of ours through Optuna's own API."""

from collections.abc import Iterator

import optuna
import pytest

from tests.storage.examples import SPACE, claimed, completed, new_study, point
from tuner.search.distributions import distributions
from tuner.storage.optuna_schema import optuna_storage
from tuner.storage.storage import Storage


@pytest.fixture
def study_id(store: Storage) -> int:
    return store.studies.create(new_study(trials=2)).study_id


@pytest.fixture
def theirs(url: str, study_id: int) -> Iterator[optuna.Study]:
    """The study as another program opens it."""
    storage = optuna_storage(url)
    yield optuna.load_study(study_name="organs", storage=storage)
    storage.remove_session()
    storage.engine.dispose()


def test_enqueued_points_become_places_of_the_budget(store: Storage, study_id: int, theirs: optuna.Study) -> None:
    """They were ignored without a word: the study ended without them."""
    theirs.enqueue_trial(point("dice"))
    theirs.enqueue_trial({"loss": "focal"})
    theirs.enqueue_trial({"loss": "unheard of"})
    assert store.foreign.waiting("organs") == 3

    assert store.foreign.adopt(study_id) == [2, 3, 4]
    assert store.foreign.adopt(study_id) == []

    counts = store.queries.status("organs")["trials"]
    assert counts == {"total": 5, "waiting": 4, "running": 0, "complete": 0, "pruned": 0, "failed": 1}
    refused = store.queries.trial("organs", 4)
    assert refused["reason"] == "error"
    assert "unheard of" in refused["message"]
    first = store.trials.claim(study_id, "w1")
    second = store.trials.claim(study_id, "w1")
    assert first is not None
    assert second is not None
    assert (first.number, first.params, first.has_params) == (2, point("dice"), True)
    assert (second.number, second.params, second.has_params) == (3, {"loss": "focal"}, False)
    assert store.trials.finish(first, completed(0.5))
    assert theirs.trials[2].params == point("dice")
    assert theirs.trials[2].value == 0.5


def test_finished_trials_of_others_are_listed_and_shown_to_the_sampler(
    store: Storage, study_id: int, theirs: optuna.Study
) -> None:
    """They count neither in the budget nor as the best."""
    params = point("focal")
    theirs.add_trial(optuna.trial.create_trial(value=0.99, params=params, distributions=distributions(SPACE, params)))
    store.trials.finish(claimed(store, study_id), completed(0.5))

    (row,) = store.foreign.rows("organs")
    (seen,) = store.foreign.finished(study_id)
    status = store.queries.status("organs")
    assert (row["number"], row["value"], row["params"], row["loss"], row["foreign"]) == (2, 0.99, params, "focal", True)
    assert (seen.number, seen.values, seen.params) == (2, (0.99,), params)
    assert (status["trials"]["total"], status["best"]["value"]) == (2, 0.5)
