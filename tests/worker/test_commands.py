"""Trials whose training is a program: the same worker, storage and limits as any other, and a process that ends."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tuner.training.program
import tuner.worker.worker
from tests.training.test_command import HERE, is_alive
from tests.worker.studies import create, settings
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import EntryError
from tuner.storage.storage import Storage
from tuner.worker.worker import Worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Storage]:
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds are a long time for a test."""
    for name, value in (("HEARTBEAT_INTERVAL_S", 0.1), ("WATCH_S", 0.05)):
        monkeypatch.setattr(tuner.worker.worker, name, value)
    monkeypatch.setattr(tuner.training.program, "GRACE_S", 0.5)


def study(kind: str, *more: str, budget: dict[str, Any] | None = None, **train: Any) -> StudySpec:
    """Return a study of one trial, about no loss and no data set."""
    content = {
        "name": "tiny",
        "train": {"command": [*HERE, kind, "{folder}", *more], "epochs": 20, "threads": 1, **train},
        "search": {"my.depth": [3, 4]},
        "pruner": "none",
        "budget": {"trials": 1, "retries": 1, **(budget or {})},
    }
    return load_spec(YamlDocument(content, {}, None))


def worker(store: Storage, folder: Path, **options: Any) -> Worker:
    places = replace(settings(folder, ""), allow_command=(sys.executable,))
    return Worker(store, places, study="tiny", device="cpu", poll_s=0.05, **options)


def attempts(store: Storage) -> list[tuple[str, str | None]]:
    return [(row["state"], row["reason"]) for row in store.queries.trials("tiny", all_attempts=True)]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def is_running(store: Storage) -> bool:
    return any(row["epochs"] for row in store.queries.trials("tiny", state="RUNNING"))


def test_reports_are_trials_like_any_other(store: Storage, tmp_path: Path) -> None:
    """Epochs, the best value, and no process for the next one to trip over."""
    create(store, study("steady"))

    worker(store, tmp_path).run()

    (trial,) = store.queries.trials("tiny")
    assert (trial["state"], trial["value"], trial["epochs"], trial["loss"]) == ("COMPLETE", 0.3, 3, None)
    assert trial["params"]["my.depth"] in (3, 4)
    assert store.queries.status("tiny")["dataset"] == "none"


def test_a_trial_that_is_given_back_continues_where_it_was(store: Storage, tmp_path: Path) -> None:
    """By another worker, in a folder with everything that the program has left, under another number."""
    create(store, study("slow", epochs=60))
    stop = threading.Event()
    first = threading.Thread(target=worker(store, tmp_path, stop=stop).run)
    first.start()
    wait_until(lambda: is_running(store))
    stop.set()
    first.join()
    assert attempts(store)[0] == ("FAIL", "interrupted")
    assert not is_alive(tmp_path / "artifacts" / "tiny" / "0", "main")

    worker(store, tmp_path).run()

    assert attempts(store) == [("FAIL", "interrupted"), ("COMPLETE", None)]
    begun = (tmp_path / "artifacts" / "tiny" / "1" / "begun.txt").read_text().split()
    assert len(begun) == 2
    assert begun[0] == "1" < begun[1]
    rows = store.queries.epochs("tiny", 1)
    assert [row["epoch"] for row in rows] == list(range(1, 61))


@pytest.mark.parametrize(
    ("kind", "argument", "budget", "train", "expected"),
    [
        pytest.param("silent", "", {"stall_timeout": 0.5, "retries": 0}, {}, ("FAIL", "stalled"), id="stalled"),
        pytest.param("slow", "", {"trial_timeout": 1.0}, {}, ("FAIL", "timeout"), id="timeout"),
        pytest.param("exit", "3", {}, {}, ("FAIL", "error"), id="exit status"),
        pytest.param("lines", "[]", {}, {}, ("FAIL", "error"), id="no report"),
        pytest.param("memory", "0.02", {}, {"memory_gib": 0.1}, ("PRUNED", "out_of_memory"), id="memory limit"),
        pytest.param("cuda_memory", "", {}, {}, ("PRUNED", "out_of_memory"), id="GPU memory"),
    ],
)
def test_how_it_ends(
    kind: str,
    argument: str,
    budget: dict[str, Any],
    train: dict[str, Any],
    expected: tuple[str, str],
    store: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One attempt, one answer, and the worker lives on."""
    monkeypatch.setattr(tuner.worker.worker, "FIRST_STEP_S", 0.5)
    create(store, study(kind, argument, budget=budget, **train))
    codes: list[int] = []

    worker(store, tmp_path, end=codes.append).run()

    assert attempts(store) == [expected]
    assert codes == []
    assert not is_alive(tmp_path / "artifacts" / "tiny" / "0", "main")


@pytest.mark.parametrize("now", [pytest.param(False, id="at its next report"), pytest.param(True, id="now")])
def test_it_is_pruned_by_hand(now: bool, store: Storage, tmp_path: Path) -> None:
    """With `--now` a program that reports nothing more is ended as well."""
    create(store, study("deaf" if now else "slow", epochs=1000))
    thread = threading.Thread(target=worker(store, tmp_path).run)
    thread.start()
    wait_until(lambda: is_running(store))

    store.studies.prune_manually("tiny", 0, now=now)
    thread.join(60)

    assert attempts(store) == [("PRUNED", "pruned")]
    assert not is_alive(tmp_path / "artifacts" / "tiny" / "0", "main")


def test_a_machine_that_does_not_allow_it_costs_no_trial(store: Storage, tmp_path: Path) -> None:
    """Whatever stands in the storage; another machine may."""
    create(store, study("steady"))

    with pytest.raises(EntryError, match="TUNER_ALLOW_COMMAND"):
        Worker(store, settings(tmp_path, ""), study="tiny", device="cpu", poll_s=0.05).run()

    assert attempts(store) == [("WAITING", None)]
