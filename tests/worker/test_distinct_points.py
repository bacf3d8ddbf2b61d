"""Finite spaces with real workers on both databases: each point is trained once, whoever claims it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from tests.worker.studies import create, entry, settings, tiny, work
from tuner.storage.optuna_schema import optuna_storage
from tuner.storage.storage import Storage

WORKERS = 3
FINITE = (
    "search={loss: [cross_entropy, dice], options: default, train.batch_size: [2, 4], "
    "train.lr: {low: 0.01, high: 0.03, step: 0.01}}",
)
POINTS = 12
SERVE = "import sys; from tests.worker.test_distinct_points import serve; serve(*sys.argv[1:])"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tuner.db'}"
    return str(request.getfixturevalue("postgres").new_database())


def serve(folder: str, url: str) -> None:
    with Storage.open(url) as store:
        work(store, settings(Path(folder), url))


def test_several_workers_train_each_point_once(tmp_path: Path, url: str) -> None:
    """Workers that suggest in the same moment do not take the same point, and an enqueued one is not suggested."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("endless"), *FINITE, f"budget.trials={POINTS}"))
        store.studies.enqueue("tiny", {"loss": "dice", "train.lr": 0.02, "train.batch_size": 2})
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", SERVE, str(tmp_path), url], env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
            for _ in range(WORKERS)
        ]
        codes = [worker.wait(timeout=240) for worker in workers]

        trials = store.queries.trials("tiny")
        points = {json.dumps(trial["params"], sort_keys=True) for trial in trials}
        assert codes == [0] * WORKERS
        assert [trial["state"] for trial in trials] == ["COMPLETE"] * POINTS
        assert len(points) == POINTS


def test_a_worker_trains_what_another_program_enqueues(tmp_path: Path, url: str) -> None:
    """A point that was added through Optuna's API is trained, and the budget holds it."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), *FINITE, "budget.trials=2"))
        other = {"loss": "dice", "train.lr": 0.02, "train.batch_size": 2}
        storage = optuna_storage(url)
        optuna.load_study(study_name="tiny", storage=storage).enqueue_trial(other)
        storage.remove_session()
        storage.engine.dispose()
        work(store, settings(tmp_path, url))

        trials = store.queries.trials("tiny")
        assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
        assert trials[2]["params"] == other
        assert store.queries.status("tiny")["trials"]["total"] == 3
