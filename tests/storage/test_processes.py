"""Many real processes on one storage: nothing twice, nothing lost, whatever dies."""

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from tests.storage import processes
from tests.storage.examples import new_study
from tests.worker.studies import TINY
from tuner.storage.storage import Storage

# a server that has imported what they need forks them: each is a process of its own, without a second of imports
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.storage.processes", "alembic.command", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"]
)


class Running:
    """A process that does something to a storage, and what it says."""

    def __init__(self, what: str, url: str, index: int) -> None:
        self._read, write = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=processes.run, args=(what, url, str(index), write), daemon=True)
        self.process.start()
        write.close()

    def end(self, *, seconds: float = 240) -> tuple[int | None, str]:
        """Wait for its end; return its exit code and what it has said."""
        with open(self._read.fileno(), encoding="utf-8", closefd=False) as stream, self._read:
            said = stream.read()
        self.process.join(seconds)
        return self.process.exitcode, said

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()


def outputs(started: list[Running], *, seconds: float = 240) -> list[list[int]]:
    results = []
    for running in started:
        code, said = running.end(seconds=seconds)
        assert code == 0, said
        results.append([int(line) for line in said.split()])
    return results


def test_eight_processes_claim_three_hundred_trials(store: Storage, url: str) -> None:
    """The claim is the one place where two workers could train the same trial."""
    store.studies.create(new_study(trials=300))

    claimed = outputs([Running("claim_all", url, index) for index in range(8)])

    assert sorted(chain.from_iterable(claimed)) == list(range(300))


def test_twenty_four_processes_open_an_empty_database(empty_url: str) -> None:
    """A cluster starts all of its workers at the same moment."""
    assert outputs([Running("open_empty", empty_url, index) for index in range(24)]) == [[0]] * 24


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(1200)
def test_sixty_four_processes_and_two_launches_open_an_empty_database(postgres_url: str, tmp_path: Path) -> None:
    """The same for a whole cluster, full workers among them: nobody fails, and the study is made once."""
    (tmp_path / "study.yaml").write_text(TINY)
    places = ["--storage", postgres_url, "--artifacts", str(tmp_path / "files"), "--cache", str(tmp_path / "cache")]
    launch = [sys.executable, "-m", "tuner", "launch", str(tmp_path / "study.yaml"), "--devices", "cpu", *places]
    openers = [Running("open_empty", postgres_url, index) for index in range(64)]
    launches = [subprocess.Popen(launch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in "ab"]

    found = outputs(openers, seconds=600)
    assert all(count in ([0], [1]) for count in found)  # the study may have been made already
    for process in launches:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    with Storage.open(postgres_url) as store:
        assert (
            store.queries.status("tiny")["trials"]["complete"] + store.queries.status("tiny")["trials"]["pruned"] == 4
        )


def test_raisers_compete(store: Storage, url: str) -> None:
    """Two launchers and a page raise and ask at once: numbers and places stay unique, the total is what is stored."""
    store.studies.create(new_study(trials=1))

    numbers = outputs([Running("raise_and_ask", url, index) for index in range(4)])

    rows = store.queries.trials("organs")
    assert len(set(chain.from_iterable(numbers))) == 16
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert sorted(row["slot"] for row in rows) == list(range(len(rows)))
    counts = store.queries.status("organs")["trials"]
    assert counts["total"] == counts["waiting"] == len(rows) >= 30
    assert sum(row["params"] != {} for row in rows) == 16


def test_killed_claimers_leave_nothing_behind(store: Storage, url: str) -> None:
    """A worker may die before it has stored a single parameter: Optuna's own heartbeat would miss it."""
    study = store.studies.create(new_study(trials=4, retries=1))
    for process in [Running("claim_and_die", url, index) for index in range(4)]:
        assert process.end() == (-signal.SIGKILL, "")

    reaped = store.workers.requeue_lost(study.study_id)

    assert sorted(r.requeued_as or -1 for r in reaped) == [4, 5, 6, 7]
    assert sorted(outputs([Running("claim_all", url, 9)])[0]) == [4, 5, 6, 7]
    counts = store.queries.status("organs")["trials"]
    assert (counts["total"], counts["running"], counts["failed"]) == (4, 4, 0)


@pytest.mark.parametrize("seed", [pytest.param(0, id="seed-0")])
def test_random_kills_end_in_exactly_the_budget(store: Storage, url: str, seed: int) -> None:
    """Every place of the budget is completed once, and its curve has neither gaps nor doubles."""
    study = store.studies.create(new_study(trials=40, retries=100))
    chance = random.Random(seed)
    workers = [Running("work", url, index) for index in range(3)]
    deadline = time.monotonic() + 200
    kills = 0
    while not store.queries.budget_spent(study.study_id) and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.2, 0.8))
        if kills < 8:
            victim = chance.randrange(3)
            workers[victim].kill()
            workers[victim] = Running("work", url, victim)
            kills += 1
    outputs(workers)

    rows = store.queries.trials("organs")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 40
    assert sorted(row["slot"] for row in rows) == list(range(40))
    assert all(row["value"] == row["slot"] / 100 for row in rows)
    assert all([e["epoch"] for e in store.queries.epochs("organs", row["number"])] == [1, 2, 3, 4, 5] for row in rows)
    history = store.epochs.history(study.study_id)
    assert len(history.finished) == 40
    assert history.running == []
