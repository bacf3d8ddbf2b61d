"""Programs as trainings, in real processes: workers and launchers are killed, and no process is ever left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.shell import Shell, environment
from tests.training.test_command import HERE, PROGRAM
from tuner.errors import TunerError
from tuner.storage.storage import Storage
from tuner.training.program import marked
from tuner.worker.watchdog import descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def write(folder: Path, kind: str, *more: str, budget: str = "trials: 1", epochs: int = 40) -> str:
    """Write a study of a program."""
    command = json.dumps([*HERE, kind, "{folder}", *more])
    text = f"name: tiny\ntrain: {{command: {command}, epochs: {epochs}, threads: 1}}\nsearch: {{my.depth: [3, 4]}}\n"
    (folder / "tiny.yaml").write_text(f"{text}pruner: none\nbudget: {{{budget}}}\n", encoding="utf-8")
    return "tiny.yaml"


@contextmanager
def started(folder: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", *words],
        cwd=folder,
        env={**environment(folder), "TUNER_ALLOW_COMMAND": sys.executable},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rows(folder: Path) -> list[dict]:
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}", read_only=True) as store:
        return store.queries.trials("tiny", all_attempts=True)


def wait_for(condition, seconds: float = 250) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def has_reported(folder: Path) -> bool:
    try:
        return any(row["epochs"] for row in rows(folder) if row["state"] == "RUNNING")
    except TunerError:  # the storage, or the study, is being created
        return False


def left(folder: Path) -> list[int]:
    """Return the processes of all programs that were started below a folder: by mark, and by what they run."""
    found = set()
    for path in folder.glob("artifacts/tiny/*/.program.json"):
        found |= set(marked(json.loads(path.read_text())["mark"]))
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
            if PROGRAM.encode() in words and any(word.startswith(bytes(folder)) for word in words):
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return sorted(pid for pid in found if Path(f"/proc/{pid}").exists())


@pytest.mark.timeout(600)
def test_a_killed_worker_leaves_nothing_and_the_next_one_continues(tmp_path: Path) -> None:
    """What the program reports after its worker's death is not lost either."""
    write(tmp_path, "slow", epochs=100)
    with started(tmp_path, "launch", "tiny.yaml", "--launcher=none") as process:
        process.communicate(timeout=200)
    with started(tmp_path, "worker", "--study", "tiny", "--device", "cpu") as worker:
        wait_for(lambda: has_reported(tmp_path))
        assert left(tmp_path)
        worker.send_signal(signal.SIGKILL)
        wait_for(lambda: not left(tmp_path), 60)
    with started(tmp_path, "worker", "--study", "tiny", "--device", "cpu") as worker:
        _, err = worker.communicate(timeout=400)

    assert worker.returncode == 0, err
    first, second = rows(tmp_path)
    assert (first["state"], first["reason"]) == ("FAIL", "worker_lost")
    assert second["state"] == "COMPLETE"
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", read_only=True) as store:
        epochs = [row["epoch"] for row in store.queries.epochs("tiny", second["number"])]
    assert epochs == list(range(1, 101))
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["daemons", "deaf"])
def test_everybody_is_killed_at_once(kind: str, tmp_path: Path) -> None:
    """Launcher, worker and supervisor: the next attempt ends what has lived on before it begins."""
    write(tmp_path, kind, "stay", budget="trials: 1, retries: 1")
    with started(tmp_path, "launch", "tiny.yaml", "--devices=cpu") as process:
        wait_for(lambda: has_reported(tmp_path))
        below = descendants(process.pid)
        for pid in [process.pid, *below]:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"tuner" in command and PROGRAM.encode() not in command:
                os.kill(pid, signal.SIGKILL)
        process.wait(60)
    lived_on = left(tmp_path)
    write(tmp_path, kind, "stay", budget="trials: 1, retries: 1")
    with started(tmp_path, "resume", "tiny", "--devices=cpu") as process:
        wait_for(lambda: [row["state"] for row in rows(tmp_path)] == ["FAIL", "RUNNING"] and has_reported(tmp_path))
        assert not set(lived_on) & set(left(tmp_path))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=200)

    wait_for(lambda: not left(tmp_path), 60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_the_program_and_gives_the_trial_back(tmp_path: Path) -> None:
    """It has a session of its own, which the terminal does not reach: the worker tells it."""
    write(tmp_path, "daemons", "stay")
    with started(tmp_path, "launch", "tiny.yaml", "--devices=cpu") as process:
        wait_for(lambda: has_reported(tmp_path))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=200)

    assert process.returncode == 130, err
    assert [(row["state"], row["reason"]) for row in rows(tmp_path)] == [("FAIL", "interrupted"), ("WAITING", None)]
    assert left(tmp_path) == []


def test_a_launch_refuses_before_anything_is_created(tuner: Shell, here: Path) -> None:
    """Who may run what, and what has no value."""
    write(here, "steady")

    refused = tuner("launch", "tiny.yaml", "--devices=cpu")
    unknown = tuner("launch", "tiny.yaml", "--set", "train.command=python x.py {my.dept}")

    assert (refused.code, unknown.code) == (2, 2)
    assert f"TUNER_ALLOW_COMMAND={sys.executable}" in refused.err
    assert "no trial has a value for {my.dept}. Did you mean {my.depth}?" in unknown.err
    assert not (here / "tuner.db").exists()
