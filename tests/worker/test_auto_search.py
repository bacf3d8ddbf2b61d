"""The default sampler with real workers that are killed: the budget is exact, and one worker finds the same points."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.studies import create, settings, tiny, work
from tuner.config.trial import TrialConfig
from tuner.search.catalog import DEFAULT_SAMPLER
from tuner.storage.storage import Storage
from tuner.worker.searcher import expected_means

SERVE = "import sys; from tests.worker.test_auto_search import serve; serve(*sys.argv[1:])"
STUDY = ("train.entry=tests.worker.test_auto_search:falling", "train.epochs=6", "budget.trials=14")


def falling(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The smaller the learning rate, the better, from the first epoch on; an epoch takes a moment."""
    for epoch in range(1, config.train.epochs + 1):
        time.sleep(0.02)
        yield {"dice": (0.2 - config.train.lr) * epoch / config.train.epochs}


def serve(folder: str, url: str) -> None:
    with Storage.open(url) as store:
        work(store, settings(Path(folder), url))


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SERVE, str(folder), url]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def kill_after(process: subprocess.Popen[bytes], store: Storage, ended: int) -> None:
    """Kill a worker once so many trials have ended and one runs."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        counts = store.queries.status("tiny")["trials"]
        ended_now = counts["complete"] + counts["pruned"]
        if ended_now >= ended and (counts["running"] or not counts["waiting"]):
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


def test_a_kill_changes_no_point(tmp_path: Path) -> None:
    """What a sampler knows is in the storage: another process goes on as the first one would have."""
    found = []
    for kills in (0, 1):
        folder = tmp_path / str(kills)
        folder.mkdir()
        url = f"sqlite:///{folder / 'tuner.db'}"
        with Storage.open(url, create=True) as store:
            spec = tiny(*STUDY)
            assert spec.sampler["name"] == DEFAULT_SAMPLER == "auto"
            create(store, spec)
            if kills:
                kill_after(start(folder, url), store, ended=5)
            work(store, settings(folder, url))
            rows = sorted(store.queries.trials("tiny"), key=lambda row: row["slot"])
            found.append([(row["params"], row["value"], row["state"]) for row in rows])

    assert found[0] == found[1]
    assert {state for _, _, state in found[0]} <= {"COMPLETE", "PRUNED"}


@pytest.mark.slow
def test_several_workers_that_are_killed_use_up_exactly_the_budget(tmp_path: Path) -> None:
    """Each place of the budget ends once, whoever dies."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        create(store, tiny(*STUDY, "budget.trials=60"))
        workers = [start(tmp_path, url) for _ in range(3)]
        for victim in range(3):
            kill_after(workers[victim], store, ended=5 + 10 * victim)
            workers[victim] = start(tmp_path, url)
        codes = [worker.wait(timeout=300) for worker in workers]

        rows = store.queries.trials("tiny")
        assert codes == [0, 0, 0]
        assert sorted(row["slot"] for row in rows) == list(range(60))
        assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}
        points = {tuple(sorted(row["params"].items())) for row in rows}
        assert len(points) == 60


def test_means_are_expected_as_by_the_workers(tmp_path: Path) -> None:
    """Whoever asks afterwards learns what the sampler knew at the end; other samplers expect nothing."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        spec = tiny(*STUDY, "budget.trials=8")
        create(store, spec)
        work(store, settings(tmp_path, url))
        record = store.studies.get("tiny")
        found = expected_means(store, record, spec)

        complete = {row["number"]: row["value"] for row in store.queries.trials("tiny") if row["state"] == "COMPLETE"}
        assert found.keys() == complete.keys()
        assert len(set(found.values())) > 1
        assert expected_means(store, record, tiny(*STUDY, "sampler.name=tpe")) == {}
