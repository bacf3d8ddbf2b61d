"""A worker whose files go to an address: with it complete, without it back in the queue and continued elsewhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

import tuner.worker.worker
from tests.conftest import REPOSITORY
from tests.worker.studies import create, settings, tiny, work
from tuner.artifacts import remote
from tuner.artifacts.remote import artifacts_of
from tuner.settings import Settings
from tuner.storage.storage import Storage


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory is one store for the whole process; and nobody waits long here."""
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(tuner.worker.worker, "RETRY_TIMEOUT_S", 0.1)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def far(folder: Path, url: str, name: str = "cache") -> Settings:
    """Return the places of one machine whose files go to an address in memory."""
    return replace(settings(folder, url), artifacts=folder / name / "work", artifacts_url=f"memory://{folder}/far")


def test_an_address_that_goes_away_costs_no_trial_and_no_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Never complete without its files; the database never knows an epoch that they cannot continue."""
    url, places = f"sqlite:///{tmp_path / 'tuner.db'}", far(tmp_path, f"sqlite:///{tmp_path / 'tuner.db'}")
    away, put = threading.Event(), MemoryFileSystem.put_file
    reached = 0

    def sometimes(self: MemoryFileSystem, lpath: str, rpath: str, **options: Any) -> None:
        nonlocal reached
        reached += "last.ckpt" in rpath
        if reached == 2:  # the checkpoint of the second epoch
            reached += 1
            away.set()
        if away.is_set():
            raise ConnectionError("nobody answers")
        put(self, lpath, rpath, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", sometimes)
    with Storage.open(url, create=True) as store:
        create(store, tiny("budget.trials=1"))
        thread = threading.Thread(target=work, args=(store, places))
        thread.start()
        until = time.monotonic() + 60
        while "files of trials cannot be published" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        left = artifacts_of(places)
        with left.open("tiny", 0, "last.ckpt") as file:
            assert file.read(2) == b"PK"
        assert [e["epoch"] for e in store.queries.epochs("tiny", 0)] == [1]
        assert (
            store.queries.status("tiny")["trials"] | {"total": 1, "waiting": 1}
            == store.queries.status("tiny")["trials"]
        )
        away.clear()
        thread.join(120)

        (trial,) = store.queries.trials("tiny")
        assert (trial["state"], trial["attempts"], trial["epochs"]) == ("COMPLETE", 2, 3)
        before = store.queries.trials("tiny", all_attempts=True)[0]
        assert (before["state"], before["reason"]) == ("FAIL", "interrupted")
        assert "could not be written" in before["message"]
        files = {file.name for file in left.listing("tiny", trial["number"])}
        assert {"best.safetensors", "predictions.npz", "log.txt", "config.yaml"} <= files
        assert "last.ckpt" not in files
        with left.open("tiny", trial["number"], "metrics.jsonl") as file:
            values = [json.loads(line)["metrics"]["dice"] for line in file]
        assert trial["value"] == max(values)
        assert not (places.artifacts / "tiny" / str(trial["number"])).exists()
    assert len([r for r in caplog.records if "cannot be published" in r.getMessage()]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between", "in the middle of an upload"], ids=["between", "uploading"])
def test_a_killed_worker_is_continued_by_another_machine(tmp_path: Path, moment: str) -> None:
    """Kill -9, the machine's disk is gone with it, and the numbers are those of an undisturbed training."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    address, overrides = f"file://{tmp_path}/far", ("budget.trials=1", "train.epochs=8", "model.width=24")
    with Storage.open(f"sqlite:///{tmp_path / 'calm.db'}", create=True) as calm:
        create(calm, tiny(*overrides))
        work(calm, settings(tmp_path / "calm", f"sqlite:///{tmp_path / 'calm.db'}"))
        expected = [(e["epoch"], e["train_loss"], e["metrics"]) for e in calm.queries.epochs("tiny", 0)]
    with Storage.open(url, create=True) as store:
        create(store, tiny(*overrides))
        first = start(tmp_path, "one", url, address)
        try:
            wait_for(lambda: len(store.queries.epochs("tiny", 0)) >= 2, first)
            folder = tmp_path / "far" / "tiny" / "0"
            if moment != "between":
                wait_for(lambda: any(folder.glob(".last.ckpt.*.part")), first, pause_s=0.0)
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        known = len(store.queries.epochs("tiny", 0))
        shutil.rmtree(tmp_path / "one")

        assert start(tmp_path, "two", url, address).wait(240) == 0

        (trial,) = store.queries.trials("tiny")
        assert (trial["state"], trial["attempts"]) == ("COMPLETE", 2)
        assert [(e["epoch"], e["train_loss"], e["metrics"]) for e in store.queries.epochs("tiny", 1)] == expected
        log = (tmp_path / "far" / "tiny" / "1" / "log.txt").read_text()
        continued = int(log.partition("continuing after epoch ")[2].split()[0])
        assert 2 <= known <= continued < 8
        assert "last.ckpt" not in os.listdir(tmp_path / "far" / "tiny" / "0")


def start(folder: Path, name: str, url: str, address: str) -> "subprocess.Popen[bytes]":
    """Start a worker as on a machine of its own: with a cache that nobody shares."""
    environment = {"TUNER_ARTIFACTS": address, "TUNER_CACHE": str(folder / name), "TUNER_STORAGE": url}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", "worker", "--study", "tiny", "--device", "cpu"],
            cwd=REPOSITORY,
            env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )


def wait_for(what: Any, process: "subprocess.Popen[bytes]", *, seconds: float = 120.0, pause_s: float = 0.02) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(pause_s)
