"""A training time for each loss with real workers: equal, though workers are killed, and never a point twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.worker.studies import create, entry, settings, tiny, work
from tuner.storage.storage import Storage

WORKERS = 3
TRIAL_S = 0.3
"""At least: three epochs of a tenth of a second."""
SERVE = "import sys; from tests.worker.test_loss_time import serve; serve(*sys.argv[1:])"


def serve(folder: str, url: str) -> None:
    with Storage.open(url) as store:
        work(store, settings(Path(folder), url))


def worker(folder: Path, url: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", SERVE, str(folder), url]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_losses_get_the_same_time_though_a_worker_is_killed(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """What a killed worker has trained counts; its trial goes on; every loss ends with its time, none much above."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    if kind == "postgres":
        url = str(request.getfixturevalue("postgres").new_database())
    hours = 4 / 3600
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("endless"), f"budget={{hours_per_loss: {hours}}}"))
        crew = [worker(tmp_path, url) for _ in range(WORKERS)]
        until = time.monotonic() + 240
        while sum(store.queries.status("tiny")["loss_time"]["hours"].values()) == 0 and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(crew[0].pid, signal.SIGKILL)
        codes = [member.wait(timeout=240) for member in crew]

        status = store.queries.status("tiny")
        assert codes == [-signal.SIGKILL, 0, 0]
        assert (status["phase"], status["phase_reason"]) == ("done", "budget")
        used = status["loss_time"]["hours"]
        assert set(used) == {"cross_entropy", "dice", "dice_cross_entropy"}
        assert all(had >= hours for had in used.values()), used
        # more than one trial above it only where the machine was so slow that trials took several times their length
        rows = store.queries.trials("tiny")
        longest = max(sum(e["seconds"] for e in store.queries.epochs("tiny", row["number"])) for row in rows)
        assert all(had < hours + 2 * longest / 3600 for had in used.values()), (used, longest)
        assert {row["state"] for row in rows} == {"COMPLETE"}


def test_a_grid_is_tried_once_each(tmp_path: Path) -> None:
    """The points of a grid are not queued beforehand; no one is taken twice, and the study ends with the last."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    grid = (
        "search={loss: [cross_entropy, dice], options: default, train.lr: {low: 0.01, high: 0.1, log: true, steps: 3}}"
    )
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), grid, "sampler=grid", "budget={hours_per_loss: 1}"))
        work(store, settings(tmp_path, url))

        trials = store.queries.trials("tiny")
        assert len({json.dumps(trial["params"], sort_keys=True) for trial in trials}) == len(trials) == 6
        assert store.queries.phase("tiny") == ("done", "budget")
