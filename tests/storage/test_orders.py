"""Quarantined devices, trials that a user ended, and how a study is left to its workers, as the storage keeps them."""

import json
import os
import sqlite3
from pathlib import Path

from tests.storage.examples import new_study, run_all
from tuner.storage.dashboard_queries import PageQueries
from tuner.storage.records import Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage, upgrade

RELEASED = Path(__file__).parent / "released"


def test_a_device_that_was_quarantined_by_an_older_version_stays_so(tmp_path: Path) -> None:
    """It stood in a JSON text then, where any note that held the word was taken for one."""
    path = tmp_path / "tuner.db"
    said = {"put_aside": {"study": "organs", "study_id": 1, "why": "its last 3 trials failed"}}
    with sqlite3.connect(path) as old:
        old.executescript((RELEASED / "0002.sql").read_text())
        row = "(worker_id, study_id, host, pid, process, device, version, progress, started_at, seen_at, left_at)"
        values = ("bad", 1, "a", 1, "", "cuda:0", "t", json.dumps(said), 1.0, 2.0, 3.0)
        old.execute(f"INSERT INTO tuner_workers {row} VALUES ({', '.join('?' * len(values))})", values)
    old.close()

    upgrade(f"sqlite:///{path}")

    with Storage.open(f"sqlite:///{path}") as store:
        (told,) = store.workers.quarantined("organs")
        assert (told["host"], told["device"], told["why"]) == ("a", "cuda:0", "its last 3 trials failed")
        assert store.studies.folder_mark("organs") is None  # its files lie in a folder that nobody has marked


def test_a_note_that_holds_the_word_puts_nothing_aside(store: Storage) -> None:
    """`LIKE '%"put_aside"%'` found it."""
    store.studies.create(new_study())
    worker = store.workers.register(host="a", pid=os.getpid(), device="cuda:0", study="organs", version="test")
    store.workers.heartbeat(worker, progress={"waits": 'for "put_aside"', "put_aside": {}})
    store.workers.unregister(worker)

    assert store.workers.quarantined() == []
    assert store.queries.status("organs")["put_aside"] == []


def test_a_point_that_is_added_to_a_finished_study_is_queued_where_somebody_stands_ready(store: Storage) -> None:
    """`stalled` would be a lie for the second until it is claimed; without anybody it is the truth."""
    study = store.studies.create(new_study(trials=1))
    run_all(store, study.study_id, [0.5])
    store.studies.enqueue("organs", {"loss": "dice"})

    assert store.queries.status("organs")["phase"] == "stalled"
    standing = store.workers.register(pid=os.getpid(), device="cpu", study=None, version="test")
    assert store.queries.status("organs")["phase"] == store.queries.phase("organs")[0] == "queued"
    assert [s["phase"] for s in store.queries.studies()] == ["queued"]
    store.workers.unregister(standing)
    assert store.queries.status("organs")["phase"] == "stalled"


def test_long_messages_are_shortened_in_lists_and_whole_where_one_trial_is_shown(store: Storage) -> None:
    """An error of five thousand characters hid all other rows."""
    study = store.studies.create(new_study(trials=1))
    claim = store.trials.claim(study.study_id, "w")
    assert claim is not None
    words = "a line of words\n" * 300
    store.trials.finish(claim, Outcome(State.FAIL, Reason.ERROR, words))

    (row,) = store.queries.trials("organs")
    (failure,) = PageQueries(store).failures(store.studies.get("organs"))
    assert len(row["message"]) == 300 == len(failure["message"])
    assert "\n" not in row["message"]
    assert row["message"].endswith("…")
    assert store.queries.trial("organs", row["number"])["message"] == words


def test_what_a_study_leaves_open_is_settled_by_the_first_worker(store: Storage) -> None:
    """The second one says something else, and trains as the first does."""
    spec = {"train": {"epochs": 3, "threads": None, "precision": "auto"}}
    study = store.studies.create(new_study(spec=spec))

    store.studies.resolve_train(study.study_id, {"threads": 4, "precision": "bfloat16"})
    store.studies.resolve_train(study.study_id, {"threads": 8, "precision": "float32"})

    assert store.studies.get("organs").spec["train"] == {"epochs": 3, "threads": 4, "precision": "bfloat16"}
