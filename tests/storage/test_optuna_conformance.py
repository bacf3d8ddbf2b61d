"""Optuna's own suite for storages, on the storage object that tuner builds, in a database that holds our tables."""

import gc
import threading
from collections.abc import Iterator

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.testing.pytest_storages import StorageTestCase

from tests.storage.examples import new_study
from tuner.storage.optuna_schema import optuna_storage
from tuner.storage.storage import Storage


@pytest.fixture
def storage(url: str) -> Iterator[RDBStorage]:
    opened = optuna_storage(url)
    yield opened
    opened.remove_session()
    opened.engine.dispose()
    gc.collect()  # the suite's threads leave their connections to the collector


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestEverything(StorageTestCase):
    """Whoever opens our storage with Optuna's tools finds what Optuna promises."""


class TestTheCore:
    """The same for what every program does, quick enough to be run each time."""

    test_delete_study = StorageTestCase.test_delete_study
    test_create_new_trial = StorageTestCase.test_create_new_trial
    test_set_trial_state_values_for_state = StorageTestCase.test_set_trial_state_values_for_state


def test_askers_never_share_a_waiting_trial(url: str) -> None:
    """A notebook that asks for trials of our queue must not get one that somebody else has got as well."""
    with Storage.open(url) as store:
        store.studies.create(new_study(trials=40))
    numbers: list[int] = []

    def ask() -> None:
        storage = optuna_storage(url)
        study = optuna.load_study(study_name="organs", storage=storage)
        numbers.extend(study.ask().number for _ in range(10))
        storage.remove_session()
        storage.engine.dispose()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()

    assert sorted(numbers) == list(range(40))
