"""Real processes killed at random: no trial is lost, none is evaluated twice, the numbers stay the same.

A short part of the fault suite; `test_scenarios.py` has a little of everything, `long.py` all of it.
"""

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import worker_faults
from tests.faults.environment import Scale, ground
from tests.faults.slow_worker import Nursery
from tests.worker.studies import create, settings, tiny
from tuner.storage.storage import Storage


def dice() -> int:
    """Return a seed that a failing test shows."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    return seed


def test_workers_killed_at_random_lose_and_double_nothing(tmp_path: Path, empty_url: str, nursery: Nursery) -> None:
    """The product's promise: `kill -9`, again and again, and the study ends as if nothing had happened."""
    scale = Scale(trials=2, kills=2, pause_s=1.0, repeated=1)
    with ground(tmp_path, empty_url, seed=dice(), scale=scale, nursery=nursery) as here:
        figures = worker_faults.kills(here)

    assert figures["kills"] == 2


@pytest.mark.slow
def test_workers_killed_with_their_machines_are_continued_from_the_address(
    tmp_path: Path, empty_url: str, nursery: Nursery
) -> None:
    """Nothing is left of a killed worker but what it has published: no epoch that the database knows is lost."""
    scale = Scale(trials=3, kills=8, pause_s=1.0, repeated=2)
    with ground(tmp_path, empty_url, seed=dice(), scale=scale, nursery=nursery) as here:
        figures = worker_faults.kills(here, at_address=True)
    print(figures)  # noqa: T201

    assert figures["kills"] == 8
    assert figures["continued"] > 0


@pytest.mark.slow
def test_resume_raises_the_budget_of_a_finished_study(tmp_path: Path, sqlite_url: str) -> None:
    """More trials, none of the old ones again."""
    places = settings(tmp_path, sqlite_url)
    with ExitStack() as stack:
        store = stack.enter_context(Storage.open(sqlite_url, create=True))
        create(store, tiny("train.epochs=1", "budget.trials=3"))
        for words in (["resume", "tiny"], ["resume", "tiny", "--trials", "5"]):
            command = [sys.executable, "-m", "tuner", *words, "--storage", places.storage]
            command += ["--artifacts", str(places.artifacts), "--cache", str(places.cache)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
            assert done.returncode == 0, done.stderr

        points = [json.dumps(row["params"], sort_keys=True) for row in store.queries.trials("tiny")]
        assert len(points) == len(set(points)) == 5
