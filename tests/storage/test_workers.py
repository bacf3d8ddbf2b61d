"""Life signs by the database's clock, and what becomes of the trials of those that give none."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from tests.storage.examples import claimed, completed, new_study
from tuner.storage import optuna_schema, schema
from tuner.storage.storage import Storage
from tuner.storage.workers import MAX_REAPED_AT_ONCE, is_gone, process_identity

GRACE_S = 2.4
"""Long enough that a busy machine's pauses are not taken for a death."""


SQLITE_FIRST = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])], indirect=True
)
"""For what waits for seconds and is the same code on both; that PostgreSQL's clock counts, one test shows each time."""


@pytest.fixture
def hasty(url: str) -> Iterator[Storage]:
    """A store that gives a worker up after GRACE_S, and wants a heartbeat every 0.05 s."""
    with Storage.open(url, heartbeat_timeout_s=GRACE_S, heartbeat_interval_s=0.05) as opened:
        yield opened


def register(store: Storage, study: str | None = "organs", *, pid: int = 1, host: str | None = "elsewhere") -> str:
    return store.workers.register(pid=pid, device="cuda:0", study=study, version="1", host=host)


def beat_for(store: Storage, worker: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert store.workers.heartbeat(worker)
        time.sleep(0.03)


def test_a_silent_worker_is_lost_and_a_beating_one_is_not(hasty: Storage) -> None:
    """A trial whose worker died comes back; one whose worker lives is left alone."""
    study = hasty.studies.create(new_study(trials=2))
    dead, alive = register(hasty), register(hasty)
    lost, kept = claimed(hasty, study.study_id, dead), claimed(hasty, study.study_id, alive)

    beat_for(hasty, alive, GRACE_S / 2)
    assert hasty.workers.requeue_lost(study.study_id) == []
    beat_for(hasty, alive, GRACE_S)
    reaped = hasty.workers.requeue_lost(study.study_id)

    assert [(r.number, r.worker_id, r.requeued_as) for r in reaped] == [(lost.number, dead, 2)]
    assert hasty.workers.requeue_lost(study.study_id) == []
    assert hasty.trials.finish(kept, completed(0.5))
    assert [worker["id"] for worker in hasty.workers.live("organs")] == [alive]


@SQLITE_FIRST
def test_an_outage_is_nobodys_fault(hasty: Storage) -> None:
    """When nobody could reach the database, the grace time begins anew with the first one that does."""
    study = hasty.studies.create(new_study(trials=2))
    slow, quick = register(hasty), register(hasty)
    claim = claimed(hasty, study.study_id, slow)
    time.sleep(GRACE_S * 1.3)

    assert hasty.workers.heartbeat(quick)
    assert hasty.workers.requeue_lost(study.study_id) == []
    assert hasty.workers.heartbeat(slow)
    beat_for(hasty, quick, GRACE_S / 2)
    assert hasty.workers.requeue_lost(study.study_id) == []
    assert hasty.trials.finish(claim, completed(0.5))


def test_a_dead_process_of_this_machine_is_lost_at_once(store: Storage) -> None:
    """A user who restarts after a crash must not wait a minute."""
    study = store.studies.create(new_study(trials=2))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = register(store, pid=child.pid, host=None)
    claim = claimed(store, study.study_id, worker)
    assert store.workers.requeue_lost(study.study_id) == []

    child.kill()  # not waited for: a zombie counts as dead, too
    deadline = time.monotonic() + 90
    while not (reaped := store.workers.requeue_lost()) and time.monotonic() < deadline:
        time.sleep(0.02)

    child.communicate()
    assert [r.number for r in reaped] == [claim.number]


def test_a_process_number_that_was_given_again_is_another_process() -> None:
    """Numbers are given again: only with its start time does one name a process."""
    mine = process_identity(os.getpid())

    assert not is_gone(os.getpid(), mine)
    assert is_gone(os.getpid(), mine[:-1] + ("1" if mine[-1] != "1" else "2"))
    assert not is_gone(os.getpid(), "another-boot/pid:[1]/5")
    assert not is_gone(os.getpid(), "")


def test_a_worker_that_left_holds_nothing(store: Storage) -> None:
    """Leaving in order gives the trial back without waiting."""
    study = store.studies.create(new_study(trials=1))
    worker = register(store)
    claimed(store, study.study_id, worker)

    store.workers.unregister(worker)

    assert [r.requeued_as for r in store.workers.requeue_lost(study.study_id)] == [1]
    assert store.workers.live() == []


def test_the_dead_of_a_cluster_come_back_by_and_by(store: Storage) -> None:
    """Each look requeues some: were it all of a thousand, every worker would do the same before it trains again."""
    study = store.studies.create(new_study(trials=MAX_REAPED_AT_ONCE + 5))
    worker = register(store)
    while store.trials.claim(study.study_id, worker) is not None:
        pass
    store.workers.unregister(worker)

    looks = [store.workers.requeue_lost(study.study_id) for _ in range(3)]

    assert [len(look) for look in looks] == [MAX_REAPED_AT_ONCE, 5, 0]
    assert len({lost.number for look in looks for lost in look}) == MAX_REAPED_AT_ONCE + 5
    assert store.queries.status("organs")["trials"]["waiting"] == MAX_REAPED_AT_ONCE + 5


@SQLITE_FIRST
def test_a_trial_without_any_worker_comes_back(hasty: Storage) -> None:
    """Its worker's row may be gone, or another program of Optuna's took it and died."""
    study = hasty.studies.create(new_study(trials=3))
    watcher = register(hasty)
    nameless = claimed(hasty, study.study_id, register(hasty))
    hasty.context.database.write(
        lambda c: c.execute(delete(schema.workers).where(schema.workers.c.worker_id == nameless.worker_id))
    )
    trials = optuna_schema.trials
    hasty.context.database.write(
        lambda c: c.execute(update(trials).where(trials.c.number == 1).values(state="RUNNING"))
    )

    found: list[int] = []
    for _ in range(3):
        beat_for(hasty, watcher, GRACE_S * 1.1)
        found += [r.number for r in hasty.workers.requeue_lost(study.study_id)]

    assert sorted(found) == [0, 1]
    assert hasty.queries.status("organs")["trials"]["waiting"] == 3


@SQLITE_FIRST
def test_the_account_counts_time_with_somebody_alive(hasty: Storage) -> None:
    """`budget.timeout` is not spent by a night in which nobody worked, nor twice as fast by two workers."""
    hasty.studies.create(new_study(trials=1))
    time.sleep(GRACE_S)
    one, two = register(hasty), register(hasty)
    start = time.monotonic()
    for _ in range(30):
        hasty.workers.heartbeat(one)
        hasty.workers.heartbeat(two)
        time.sleep(0.03)
    lived = time.monotonic() - start

    spent = hasty.studies.get("organs").spent_s

    assert lived / 2 < spent <= lived + GRACE_S / 2  # the first heartbeat may close a gap shorter than the limit
    time.sleep(GRACE_S)
    hasty.workers.heartbeat(one)
    assert hasty.studies.get("organs").spent_s <= spent + 0.1


def test_workers_are_described(store: Storage) -> None:
    """`status` and the dashboard say who does what, where."""
    study = store.studies.create(new_study(trials=1))
    anyone = register(store, None)
    assert store.queries.status("organs")["phase"] == "queued"
    assert store.queries.status("organs")["workers"] == []
    claim = claimed(store, study.study_id, anyone)
    store.workers.heartbeat(anyone, progress={"epoch": 3})

    (worker,) = store.workers.live("organs")

    assert {key: worker[key] for key in ("id", "host", "pid", "device", "trial", "study", "progress")} == {
        "id": anyone,
        "host": "elsewhere",
        "pid": 1,
        "device": "cuda:0",
        "trial": claim.number,
        "study": "organs",
        "progress": {"epoch": 3},
    }
    assert worker["last_seen"].endswith("Z")
    assert store.queries.status("organs")["phase"] == "running"
    assert not store.workers.heartbeat("unknown")


def test_no_file_is_left_beside_the_database(tmp_path: Path) -> None:
    """A lock file that stays would confuse whoever copies the database."""
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True):
        pass

    assert {path.name for path in tmp_path.iterdir()} <= {"tuner.db", "tuner.db-wal", "tuner.db-shm"}
