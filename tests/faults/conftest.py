"""The same storages as the tests of the store, and processes that are quick to start."""

from collections.abc import Iterator

import pytest

from tests.faults.slow_worker import Nursery
from tests.storage.conftest import *  # noqa: F403 (fixtures that ask for each other)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads changes the numbers; the workers obey `train.threads` in the same way."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
