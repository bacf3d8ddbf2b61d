"""Real processes killed at random: no trial is lost, none is evaluated twice, the numbers stay the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.worker.studies import create, settings, tiny
from tuner.data.prepared import prepare
from tuner.settings import Settings
from tuner.spec import StudySpec
from tuner.store.store import Store

EPOCHS = 4
TRIALS = 8
Opened = Callable[[Settings], Store]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open stores that are closed at the end."""
    with ExitStack() as stack:
        yield lambda places: stack.enter_context(Store.open(places.storage, create=True))


def spec() -> StudySpec:
    """Every trial is a published default or comes from the sampler; each epoch takes a fraction of a second."""
    return tiny(
        f"train.epochs={EPOCHS}", f"budget={{trials: {TRIALS}, retries: 1000}}", "dataset.slices=12", "pruner=none"
    )


def command(*words: str, places: Settings) -> list[str]:
    return [
        sys.executable,
        "-m",
        "tuner",
        *words,
        "--storage",
        places.storage,
        "--artifacts",
        str(places.artifacts),
        "--cache",
        str(places.cache),
    ]


def start(*words: str, places: Settings, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command(*words, places=places), stdout=output, stderr=output, stdin=subprocess.DEVNULL)


def undisturbed(config: Any, folder: Path, places: Settings, seed: int) -> list[dict[str, Any]]:
    """Train one configuration from its beginning to its end, in a process of its own, and return its lines."""
    from tuner.training.trainer import train

    data = prepare(config.dataset, data_root=None, cache=places.cache, seed=seed)
    for _ in train(config, data=data, device="cpu", folder=folder, stop=lambda: False):
        pass
    return read_lines(folder / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_books(store: Store, places: Settings, *, trials: int) -> None:
    """Exactly the budget, each place once, nothing left, epochs without gaps, values as the artifacts say."""
    counts = store.status("tiny")["trials"]
    rows = store.trials("tiny")
    every = store.trials("tiny", all_attempts=True)
    assert counts == {"total": trials, "waiting": 0, "running": 0, "complete": trials, "pruned": 0, "failed": 0}
    assert sorted(row["slot"] for row in rows) == list(range(trials))
    assert sum(row["state"] == "COMPLETE" for row in every) == trials
    assert len({row["number"] for row in every}) == len(every)
    for row in rows:
        epochs = store.epochs("tiny", row["number"])
        lines = read_lines(places.artifacts / "tiny" / str(row["number"]) / "metrics.jsonl")
        assert [e["epoch"] for e in epochs] == list(range(1, EPOCHS + 1))
        assert [e["metrics"]["dice"] for e in epochs] == [line["metrics"]["dice"] for line in lines]
        assert row["value"] == max(line["metrics"]["dice"] for line in lines)


def check_numbers(store: Store, places: Settings, folder: Path, *, most: int) -> None:
    """Trials that were interrupted end with the same numbers, bit for bit, as undisturbed ones."""
    plan = spec()
    continued = [row for row in store.trials("tiny") if row["attempts"] > 1][:most]
    for row in continued:
        lines = read_lines(places.artifacts / "tiny" / str(row["number"]) / "metrics.jsonl")
        again = undisturbed(plan.config(row["params"]), folder / str(row["number"]), places, plan.seed)
        for key in ("epoch", "train_loss", "metrics", "per_class", "lr"):
            assert [line[key] for line in lines] == [line[key] for line in again]


def test_workers_killed_at_random_lose_and_double_nothing(tmp_path: Path, url: str, opened: Opened) -> None:
    """The product's promise: `kill -9`, again and again, and the study ends as if nothing had happened."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    chance, places = random.Random(seed), settings(tmp_path, url)
    store = opened(places)
    create(store, spec())
    prepare(spec().base.dataset, data_root=None, cache=places.cache, seed=0)
    workers: list[subprocess.Popen[bytes]] = []
    kills, until = 0, time.monotonic() + 240

    while store.study_phase("tiny")[0] != "done":
        assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
        workers = [worker for worker in workers if worker.poll() is None]
        while len(workers) < 2:
            workers.append(start("worker", "--study", "tiny", "--device", "cpu", places=places, log=tmp_path / "log"))
        busy = [
            worker
            for worker in workers
            if any(w["pid"] == worker.pid and w["trial"] is not None for w in store.workers("tiny"))
        ]
        if kills < 6 and busy:
            time.sleep(chance.uniform(0.0, 2.5))
            victim = chance.choice(busy)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            kills += 1
        time.sleep(0.1)
    for worker in workers:
        worker.wait(60)

    assert kills == 6
    check_books(store, places, trials=TRIALS)
    check_numbers(store, places, tmp_path / "again", most=3)


def test_a_killed_launcher_is_resumed_to_exactly_the_budget(tmp_path: Path, url: str, opened: Opened) -> None:
    """The launcher dies with its workers; `tuner resume` needs the name alone."""
    places = settings(tmp_path, url)
    store = opened(places)
    create(store, spec())
    launcher = start("resume", "tiny", "--workers", "2", "--devices", "cpu", places=places, log=tmp_path / "log")
    until = time.monotonic() + 120
    while store.status("tiny")["trials"]["complete"] < 2:
        assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.1)
    pids = [worker["pid"] for worker in store.workers("tiny")]

    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    until = time.monotonic() + 60
    while any(_alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)

    assert pids
    assert not [pid for pid in pids if _alive(pid)]
    done = subprocess.run(
        command("resume", "tiny", "--workers", "2", "--devices", "cpu", places=places),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_books(store, places, trials=TRIALS)
    check_numbers(store, places, tmp_path / "again", most=2)


def test_resume_raises_the_budget_of_a_finished_study(tmp_path: Path, sqlite_url: str, opened: Opened) -> None:
    """More trials, none of the old ones again."""
    places = settings(tmp_path, sqlite_url)
    store = opened(places)
    create(store, tiny("train.epochs=1", "budget.trials=3"))
    for words in (["resume", "tiny"], ["resume", "tiny", "--trials", "5"]):
        done = subprocess.run(command(*words, places=places), capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr

    points = [json.dumps(row["params"], sort_keys=True) for row in store.trials("tiny")]
    assert len(points) == len(set(points)) == 5


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads changes the numbers; the workers obey `train.threads` in the same way."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
