"""Confirmations under `kill -9`: every run once, and the verdict that an undisturbed one gives, bit for bit."""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import WorkerPool, wait_until
from tests.faults.slow_worker import Nursery
from tests.postgres import running_server
from tests.worker.studies import create, settings, tiny, work
from tuner.analysis.confirmation import read_confirmation, verdict_of
from tuner.artifacts.remote import artifacts_of
from tuner.config.confirm_section import ConfirmSection
from tuner.launch.confirmation import advance
from tuner.settings import Settings
from tuner.storage.records import ConfirmationRun
from tuner.storage.storage import Storage

CHILD = "tiny/confirmation"


def search(url: str, places: Settings, *overrides: str) -> None:
    """Search in this process: the same study gives the same trials, so both confirmations have the same finalists."""
    with Storage.open(url, create=True) as store:
        create(store, tiny("budget={trials: 3, retries: 1000}", "dataset.cases=8", "dataset.slices=8", *overrides))
        work(store, places)


def plan(url: str, places: Settings, section: ConfirmSection) -> None:
    with Storage.open(url) as store:
        assert advance(store, artifacts_of(places, owner=store.studies.folder_mark), "tiny", section)


def verdict(url: str, places: Settings) -> dict[str, Any]:
    """Return the verdict without what differs from machine to machine: time and memory of a training."""
    with Storage.open(url, read_only=True) as store:
        found = verdict_of(store, artifacts_of(places, owner=store.studies.folder_mark), "tiny")
        assert found is not None
        document = found.as_dict()
    for configuration in document["configurations"]:
        assert configuration.pop("seconds") > 0
        assert configuration.pop("memory_bytes") > 0
    return document


def undisturbed(folder: Path, section: ConfirmSection, *overrides: str) -> dict[str, Any]:
    """Return the verdict when nothing happens."""
    url = f"sqlite:///{folder / 'undisturbed.db'}"
    places = settings(folder / "undisturbed", url)
    search(url, places, *overrides)
    plan(url, places, section)
    with Storage.open(url) as store:
        work(store, places)
    return verdict(url, places)


def check_runs(url: str, expected: set[ConfirmationRun]) -> None:
    """Every run in one final state, and nothing of them among the trials."""
    with Storage.open(url, read_only=True) as store:
        document = store.queries.status("tiny")
        found = read_confirmation(store, "tiny")
        rows = store.queries.trials(CHILD)
    assert found is not None
    assert document["trials"]["total"] == 3
    assert document["phase"] == "done"
    assert document["confirmation"]["runs"]["complete"] == len(rows) == len(expected)
    assert set(found.rows) == expected


def kill_holders(store: Storage, crew: WorkerPool, kills: int, *, after: Callable[[], None] = lambda: None) -> int:
    """Kill, so many times, whoever holds a run that has finished an epoch; return how often that was done."""
    done = 0
    while done < kills and store.queries.phase(CHILD)[0] != "done":
        crew.ensure_running("tiny", 2)
        busy = [w["pid"] for w in store.workers.live("tiny") if w["run"] is not None and crew.lives(w["pid"])]
        begun = [row for row in store.queries.trials(CHILD, state="RUNNING") if row["epochs"]]
        if busy and begun:
            crew.kill(busy[0])
            done += 1
            after()
        time.sleep(0.1)
    return done


def finish(store: Storage, crew: WorkerPool) -> None:
    def done() -> bool:
        if store.queries.phase(CHILD)[0] == "done":
            return True
        crew.ensure_running("tiny", 2)
        return False

    wait_until(done, seconds=200, log=crew.log)


def test_a_killed_worker_changes_nothing(tmp_path: Path, nursery: Nursery) -> None:
    """One `kill -9` in the middle of a run."""
    section = ConfirmSection(top=1, seeds=2)
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    places = settings(tmp_path / "killed", url)
    search(url, places, "train.epochs=6")
    plan(url, places, section)

    with Storage.open(url) as store, WorkerPool(places, tmp_path / "log", nursery=nursery) as crew:
        assert kill_holders(store, crew, 1) == 1
        finish(store, crew)
        names = {row["loss"] for row in store.queries.trials(CHILD)}

    check_runs(url, {ConfirmationRun(name, run) for name in names for run in (1, 2)})
    assert verdict(url, places) == undisturbed(tmp_path, section, "train.epochs=6")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_killed_workers_and_launchers_and_a_database_that_is_away(tmp_path: Path, nursery: Nursery, kind: str) -> None:
    """All of it in one confirmation with folds, by the command that users type."""
    section = ConfirmSection(top=2, seeds=3, folds=2)
    with ExitStack() as stack:
        server = stack.enter_context(running_server(durable=True)) if kind == "postgres" else None
        url = f"sqlite:///{tmp_path / 'killed.db'}" if server is None else server.new_database()
        places = settings(tmp_path / "killed", url)
        search(url, places, "train.epochs=5")
        store = stack.enter_context(Storage.open(url))
        crew = stack.enter_context(WorkerPool(places, tmp_path / "log", nursery=nursery))
        words = ["confirm", "tiny", "--top", "2", "--seeds", "3", "--folds", "2", "--workers", "2", "--devices", "cpu"]
        for _ in range(2):
            launcher = crew.run(*words)
            wait_until(
                lambda: (c := store.queries.status("tiny")["confirmation"]) is not None and c["runs"]["running"] > 0,
                seconds=120,
                log=crew.log,
            )
            time.sleep(1.0)
            crew.kill(launcher)

        def outage() -> None:
            if server is not None:
                server.kill()
                time.sleep(1.0)
                server.start()

        kill_holders(store, crew, 3, after=outage)
        last = crew.run(*words)
        wait_until(lambda: not crew.lives(last), seconds=300, log=crew.log)
        assert store.queries.phase(CHILD)[0] == "done"
        found = read_confirmation(store, "tiny")
        assert found is not None
        assert [(look.look, look.runs) for look in found.looks] == [(1, 3)]
        names = found.plan.names
        check_runs(url, {ConfirmationRun(n, r, f) for n in names for r in (1, 2, 3) for f in (0, 1)})
        disturbed = verdict(url, places)
    shutil.rmtree(tmp_path / "killed")

    assert disturbed == undisturbed(tmp_path, section, "train.epochs=5")
    assert disturbed["generalises_to"] == "new trainings and new cases"
