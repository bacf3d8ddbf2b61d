"""How many connections a worker has with the server: they are what a small server runs out of first."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import tuner.worker.worker
from tests.storage.examples import new_study
from tests.worker.studies import create, entry, settings, tiny
from tuner.storage.engine import WORKER_CONNECTIONS
from tuner.storage.storage import Storage
from tuner.worker.worker import Worker

OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tuner'"


@pytest.fixture
def most(postgres_url: str) -> Iterator[Callable[[float], int]]:
    """Watch for so many seconds and return the most connections of ours that the server had at once."""
    with psycopg.connect(postgres_url, autocommit=True) as watcher:

        def watch(seconds: float) -> int:
            until, found = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                row = watcher.execute(OURS).fetchone()
                assert row is not None
                found = max(found, int(row[0]))
            return found

        yield watch


@pytest.mark.postgres
def test_a_process_has_no_more_connections_than_it_may(postgres_url: str, most: Callable[[float], int]) -> None:
    """Two hundred workers share one small server: threads of one of them wait for each other instead."""
    with Storage.open(postgres_url, create=True, connections=WORKER_CONNECTIONS) as store:
        store.studies.create(new_study(trials=1))
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                store.queries.status("organs")

        askers = [threading.Thread(target=ask) for _ in range(6)]
        for asker in askers:
            asker.start()
        busy = most(1.0)
        over.set()
        for asker in askers:
            asker.join()

        assert busy == 2
        until = time.monotonic() + 90  # the server's process takes a moment to end
        while most(0.05) > 1:
            assert time.monotonic() < until


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_a_worker_has_one_connection_while_idle_and_two_while_training(
    postgres_url: str, tmp_path: Path, most: Callable[[float], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Life signs and looks for work come a hundred times as often as they do, so that they would meet if they could."""
    monkeypatch.setattr(tuner.worker.worker, "HEARTBEAT_INTERVAL_S", 0.01)
    places, stop = settings(tmp_path, postgres_url), threading.Event()
    with Storage.open(postgres_url, create=True) as store:
        create(store, tiny(entry("endless"), "train.epochs=100", "budget.trials=1"))
        store.studies.pause("tiny")
    with Storage.open(postgres_url, connections=WORKER_CONNECTIONS) as store:
        worker = Worker(store, places, study="tiny", device="cpu", stop=stop, poll_s=0.01)
        thread = threading.Thread(target=worker.run)
        thread.start()
        time.sleep(3)  # it reads the study and its data first
        idle = most(3.0)
        store.studies.resume("tiny")
        until = time.monotonic() + 200
        while not any(row["epochs"] for row in store.queries.trials("tiny")):
            assert time.monotonic() < until
            time.sleep(0.2)
        training = most(3.0)
        stop.set()
        for each in (thread, *(t for t in threading.enumerate() if t.name == "heartbeat")):
            each.join(100)

    assert idle == 1
    assert training <= 2
