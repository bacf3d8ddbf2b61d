"""A database that goes away, stays locked or runs full: nothing that was answered is lost, nothing is done twice."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.postgres import Server, running_server
from tests.storage.examples import claimed, completed, epoch, failed, new_study, point
from tests.storage.proxy import Proxy
from tuner.errors import DiskFullError, StorageError
from tuner.storage import engine
from tuner.storage.states import Reason, Verdict
from tuner.storage.storage import Storage


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    wire = Proxy(postgres.port)
    yield wire
    wire.close()


@pytest.fixture
def wired(proxy: Proxy, postgres_url: str) -> Iterator[Storage]:
    """A store on PostgreSQL behind a wire that can be cut."""
    url = make_url(postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
    with Storage.open(url, create=True) as opened:
        yield opened


@pytest.mark.postgres
def test_every_arrow_survives_a_lost_answer(wired: Storage, proxy: Proxy) -> None:
    """The commit went through and its answer did not: repeating it must neither double nor lose anything."""
    proxy.lose_commits = 1
    study = wired.studies.create(new_study(trials=3))
    proxy.lose_commits = 1
    claim = wired.trials.claim(study.study_id, "w1")
    assert claim is not None
    proxy.lose_commits = 1
    assert wired.trials.set_params(claim, point(), study.space)
    proxy.lose_commits = 1
    assert wired.trials.finish(claim, completed(0.5))
    other = claimed(wired, study.study_id)
    proxy.lose_commits = 1
    assert wired.trials.finish(other, failed(Reason.INTERRUPTED, retry=True))
    proxy.lose_commits = 1
    number = wired.studies.enqueue("organs", point("dice"))
    proxy.lose_commits = 1
    assert wired.studies.raise_budget("organs", 4) == 4
    proxy.lose_commits = 1
    worker = wired.workers.register(pid=1, device="cpu", study="organs", version="1", host="elsewhere")

    assert proxy.lost == 8
    assert (claim.number, other.number, number) == (0, 1, 2)
    rows = wired.queries.trials("organs", all_attempts=True)
    assert [(r["number"], r["state"], r["slot"]) for r in rows] == [
        (0, "COMPLETE", 0),
        (1, "FAIL", 1),
        (2, "WAITING", 2),
        (3, "WAITING", 1),
        (4, "WAITING", 3),
    ]
    assert [w["id"] for w in wired.workers.live()] == [worker]
    assert len(wired.epochs.history(study.study_id).finished) == 1


@pytest.mark.postgres
def test_cut_connections_are_made_again(wired: Storage, proxy: Proxy) -> None:
    """A worker outlives its connections."""
    study = wired.studies.create(new_study(trials=1))
    claim = claimed(wired, study.study_id)

    for number in range(1, 6):
        proxy.cut()
        assert wired.epochs.report(claim, epoch(number), peers=True).verdict is Verdict.CONTINUE
    proxy.cut()
    assert wired.trials.finish(claim, completed(0.5))

    assert [row["epoch"] for row in wired.queries.epochs("organs", 0)] == [1, 2, 3, 4, 5]


@pytest.mark.postgres
@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
def test_a_restart_of_the_server_loses_nothing(hard: bool) -> None:
    """What was answered is there afterwards, and who was waiting goes on."""
    with running_server(durable=True) as server, Storage.open(server.new_database(), create=True) as store:
        study = store.studies.create(new_study(trials=2))
        claim = claimed(store, study.study_id)
        store.epochs.report(claim, epoch(1))
        server.stop(hard=hard)
        starter = threading.Timer(0.5, server.start)
        starter.start()

        assert store.epochs.report(claim, epoch(2)).verdict is Verdict.CONTINUE
        assert store.trials.finish(claim, completed(0.5))

        starter.join()
        assert [row["epoch"] for row in store.queries.epochs("organs", 0)] == [1, 2]
        assert store.queries.status("organs")["trials"]["complete"] == 1


@pytest.mark.postgres
def test_a_connection_that_was_forgotten_on_its_way_is_given_up(
    wired: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer that restarts forgets connections without a word: a worker must not wait for that answer for ever."""
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_S", 1.0)
    study = wired.studies.create(new_study(trials=1))
    claim = claimed(wired, study.study_id)
    proxy.strand()

    assert wired.epochs.report(claim, epoch(1)).verdict is Verdict.CONTINUE
    assert wired.trials.finish(claim, completed(0.5))
    assert [row["epoch"] for row in wired.queries.epochs("organs", 0)] == [1]


@pytest.mark.postgres
def test_patience_ends(postgres_url: str, proxy: Proxy) -> None:
    """A database that stays away is an error in words, not a worker that hangs for ever."""
    url = make_url(postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
    with Storage.open(url, create=True, retry_timeout_s=0.3) as store:
        proxy.close()

        with pytest.raises(StorageError, match="does not answer"):
            store.queries.studies()


@pytest.mark.postgres
def test_deadlocks_are_repeated(postgres_url: str) -> None:
    """The database breaks a deadlock by ending one transaction: ours is simply done again."""
    with Storage.open(postgres_url, create=True) as store:
        _meet_in_a_deadlock(store, postgres_url)


def _meet_in_a_deadlock(store: Storage, url: str) -> None:
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id)
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM tuner_studies FOR UPDATE")
        finished: list[bool] = []
        finishing = threading.Thread(target=lambda: finished.append(store.trials.finish(claim, completed(0.5))))
        finishing.start()
        time.sleep(0.2)  # it holds the trial now, and waits for the study
        try:
            other.execute("SELECT 1 FROM trials FOR UPDATE")
        except psycopg.errors.DeadlockDetected:
            other.rollback()
        other.commit()
        finishing.join(30)

    assert finished == [True]
    assert store.queries.status("organs")["trials"]["complete"] == 1


def test_a_locked_file_is_waited_for(sqlite_url: str) -> None:
    """A backup program may hold the file for seconds."""
    path = sqlite_url.removeprefix("sqlite:///")
    with Storage.open(sqlite_url, create=True) as store:
        study = store.studies.create(new_study(trials=1))
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, lambda: holder.execute("COMMIT")).start()

        assert store.trials.claim(study.study_id, "w1") is not None

        holder.close()


def test_a_reader_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    """Pages and `tuner status` answer while a worker writes."""
    path = sqlite_url.removeprefix("sqlite:///")
    with Storage.open(sqlite_url, create=True) as store:
        store.studies.create(new_study(trials=1))
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("UPDATE tuner_studies SET total = 99")

        assert store.queries.status("organs")["trials"]["total"] == 1

        holder.execute("ROLLBACK")
        holder.close()


def test_a_full_disk_is_said(sqlite_url: str, tmp_path: Path) -> None:
    """A full disk stops cleanly: an error of its own, and everything that was answered is still there."""
    with Storage.open(sqlite_url, create=True) as store:
        study = store.studies.create(new_study(trials=1))
        claim = claimed(store, study.study_id)
        # the limit of pages makes SQLite answer exactly as a full disk does; it holds for the connection that sets it
        with store.context.database.writer.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        def fill_the_disk() -> None:
            for number in range(1, 2000):
                store.epochs.report(claim, epoch(number))

        with pytest.raises(DiskFullError, match="no space left"):
            fill_the_disk()

        stored = store.queries.epochs("organs", 0)
        assert [row["epoch"] for row in stored] == list(range(1, len(stored) + 1))
        with store.context.database.writer.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        assert store.trials.finish(claim, completed(0.5))
