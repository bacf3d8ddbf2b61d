"""Copies of a storage: of one moment, whole or not there, and equal to what they were made of in either database."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import text

from tests.postgres import Server
from tests.storage.examples import claimed, epoch, failed, new_study, point, pruned, run_all
from tuner.errors import ConflictError, RequestError, StorageError
from tuner.storage import migrate
from tuner.storage.backup import backup, restore
from tuner.storage.engine import Database
from tuner.storage.states import Reason
from tuner.storage.storage import Storage, check, upgrade
from tuner.testing.storage import DICE_AND_HD95

RELEASED = Path(__file__).parent / "released"


def fill(store: Storage) -> None:
    """Store two studies with trials in every state that there is."""
    store.studies.create(new_study(trials=7))
    study_id = store.studies.get("organs").study_id
    run_all(store, study_id, [0.5, 0.7])
    store.trials.finish(claimed(store, study_id, params=point("tversky")), pruned(Reason.DIVERGED))
    store.trials.finish(claimed(store, study_id), failed(Reason.INTERRUPTED, retry=True))
    store.trials.finish(claimed(store, study_id), failed())
    store.epochs.report(claimed(store, study_id, "w9"), epoch(1, None, per_class={"dice": {"Milz ü": None}}))
    store.notifications.claim(study_id, "new_best", "1")
    store.studies.create(new_study("front", trials=3, objectives=DICE_AND_HD95, queue=[point(), {}, {"loss": "dice"}]))
    run_all(store, store.studies.get("front").study_id, [0.1])


def picture(store: Storage) -> dict[str, Any]:
    """Return all that reading commands show of a storage."""
    shown: dict[str, Any] = {"studies": store.queries.studies()}
    for name in ("organs", "front"):
        shown[name] = [
            store.queries.status(name),
            store.queries.trials(name, all_attempts=True),
            store.queries.best(name),
        ]
        shown[f"{name} epochs"] = [store.queries.epochs(name, row["number"]) for row in shown[name][1]]
        for row in shown[name][1]:
            if row["finished"] is None:
                del row["duration_s"]  # until now
        shown[f"{name} record"] = store.studies.get(name)
    return shown


@pytest.mark.parametrize(
    ("kind", "into"),
    [
        pytest.param("sqlite", "postgres", marks=pytest.mark.postgres),
        pytest.param("postgres", "sqlite", marks=pytest.mark.postgres),
        pytest.param("sqlite", "sqlite", marks=pytest.mark.slow),
        pytest.param("postgres", "postgres", marks=[pytest.mark.postgres, pytest.mark.slow]),
    ],
    indirect=["kind"],
)
def test_what_is_brought_back_is_what_was_there(url: str, into: str, tmp_path: Path, postgres: Server) -> None:
    """From either database into either: status, trials, curves; and the search goes on with new ids."""
    with Storage.open(url) as store:
        fill(store)
        before = picture(store)
    copy = tmp_path / "copy.db"

    made = backup(url, copy)
    target = f"sqlite:///{tmp_path / 'back.db'}" if into == "sqlite" else postgres.new_database()
    document = restore(copy, target)

    assert made["rows"]["trials"] == document["rows"]["trials"] == 11
    with Storage.open(f"sqlite:///{copy}", read_only=True) as store:
        assert picture(store) == before
    with Storage.open(target) as store:
        assert picture(store) == before
        assert store.notifications.claim(store.studies.get("organs").study_id, "new_best", "1") == "others"
        store.workers.requeue_lost()
        run_all(store, store.studies.get("organs").study_id, [0.9])
        assert store.queries.best("organs")["value"] == 0.9  # type: ignore[index]
        store.studies.create(new_study("another"))
    storage = optuna.storages.RDBStorage(target.replace("postgresql://", "postgresql+psycopg://"))
    trials = optuna.load_study(study_name="front", storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    assert trials[0].values == [0.1, 1.0]


def test_a_copy_is_of_one_moment_while_workers_write(url: str, tmp_path: Path) -> None:
    """Epochs without their trial, or a count that no moment ever had, would be worse than no copy."""
    over = threading.Event()
    with Storage.open(url) as store:
        store.studies.create(new_study(trials=400))
        study_id = store.studies.get("organs").study_id

        def write() -> None:
            with Storage.open(url) as own:
                while not over.is_set():
                    run_all(own, study_id, [0.5])

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            while store.queries.status("organs")["trials"]["complete"] < 5:
                over.wait(0.01)
            for index in range(3):
                backup(url, tmp_path / f"{index}.db")
        finally:
            over.set()
            for writer in writers:
                writer.join()

    for index in range(3):
        with Storage.open(f"sqlite:///{tmp_path / f'{index}.db'}") as copy:
            counts = copy.queries.status("organs")["trials"]
            rows = copy.queries.trials("organs")
        assert sum(count for word, count in counts.items() if word != "total") == 400
        assert all(row["epochs"] == 2 and row["value"] == 0.5 for row in rows if row["state"] == "COMPLETE")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("tuner.db")) == [
        "0.db",
        "1.db",
        "2.db",
    ]


def test_studies_are_never_mixed(url: str, tmp_path: Path) -> None:
    """A copy goes into an empty storage only, and a refused one changes nothing."""
    with Storage.open(url) as store:
        fill(store)
        backup(url, tmp_path / "copy.db")
        store.studies.delete("front")

        with pytest.raises(ConflictError, match="holds 1 study"):
            restore(tmp_path / "copy.db", url)

        assert [study["name"] for study in store.queries.studies()] == ["organs"]


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_a_restore_that_breaks_off_leaves_the_database_empty(url: str, tmp_path: Path) -> None:
    """Half of a study is no study: it is one transaction."""
    copy = tmp_path / "copy.db"
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as store:
        fill(store)
    backup(f"sqlite:///{tmp_path / 'tuner.db'}", copy)
    with sqlite3.connect(copy) as broken:
        broken.execute("UPDATE tuner_attempts SET branch = ? WHERE number = 1", ("x" * 200,))  # PostgreSQL refuses it
    broken.close()

    with pytest.raises(StorageError, match="refused"):
        restore(copy, url)

    with Storage.open(url) as store:
        assert store.queries.studies() == []


@pytest.mark.parametrize("version", migrate.REVISIONS)
def test_a_copy_of_an_older_version_is_upgraded_on_its_way_back(version: str, tmp_path: Path, postgres: Server) -> None:
    """The copy that is made before `tuner db upgrade` is the one that will be needed."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript((RELEASED / f"{version}.sql").read_text())
    old.close()
    assert backup(f"sqlite:///{path}", tmp_path / "copy.db")["schema"] == version

    target = postgres.new_database()
    assert restore(tmp_path / "copy.db", target)["from"] == version

    assert check(f"sqlite:///{tmp_path / 'copy.db'}")["schema"] == version
    with Storage.open(target) as store:
        assert store.queries.status("organs")["trials"]["complete"] == 2
        run_all(store, store.studies.get("organs").study_id, [0.6, 0.7])
        assert store.queries.status("organs")["phase"] == "done"


@pytest.mark.postgres
def test_a_server_of_an_older_schema_is_copied_and_upgraded(tmp_path: Path, postgres: Server) -> None:
    """`tuner db upgrade` on PostgreSQL, from the first schema that there was, with a copy made before."""
    url = postgres.new_database()
    database = Database.open(url, create=True)
    migrate.prepare(database, upto=migrate.REVISIONS[0])
    database.write(lambda c: c.execute(text("INSERT INTO studies (study_name) VALUES ('theirs')")))
    database.close()
    with pytest.raises(StorageError, match=f"version {migrate.REVISIONS[0]}; this program needs {migrate.HEAD}"):
        Storage.open(url)

    assert backup(url, tmp_path / "copy.db")["schema"] == migrate.REVISIONS[0]
    assert upgrade(url)["to"] == migrate.HEAD

    restore(tmp_path / "copy.db", f"sqlite:///{tmp_path / 'back.db'}")
    for storage in (url, f"sqlite:///{tmp_path / 'back.db'}"):
        with Storage.open(storage) as store:
            assert [(study["name"], study["foreign"]) for study in store.queries.studies()] == [("theirs", True)]


def test_what_is_no_copy_is_refused_and_nothing_is_left(tmp_path: Path, sqlite_template: Path) -> None:
    """Exit code 2, before anything is made; a file that is there is never written over."""
    (tmp_path / "text").write_text("no database at all" * 100)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    back = f"sqlite:///{tmp_path / 'back.db'}"
    for name, words in [("text", "no copy made by"), ("other.db", "not a storage of tuner"), ("none", "no such file")]:
        with pytest.raises(RequestError, match=words):
            restore(tmp_path / name, back)
    with pytest.raises(RequestError, match="such a file already"):
        backup(f"sqlite:///{sqlite_template}", tmp_path / "text")
    with pytest.raises(StorageError, match="no such database"):
        backup(back, tmp_path / "new")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db", "text"]
