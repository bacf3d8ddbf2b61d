"""Trainings that hang, in real processes: nobody waits for them, and nothing stays RUNNING without a worker."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Shell, run_apart, start
from tests.cli.test_processes import launched, wait_for
from tests.storage.examples import failed
from tuner.storage.storage import Storage


def write(folder: Path, training: str, budget: str) -> str:
    """Write a study of two trials."""
    text = STUDY.replace("steady", training).replace("{trials: 6}", f"{{trials: 2, {budget}}}")
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    return "tiny.yaml"


def trials(folder: Path) -> list[tuple[str, str | None]]:
    """Return state and reason of every attempt."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}", read_only=True) as store:
        return [(row["state"], row["reason"]) for row in store.queries.trials("tiny", all_attempts=True)]


def left(folder: Path) -> tuple[int, int, int]:
    """Return how many trials run and wait, and how many workers live."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}", read_only=True) as store:
        document = store.queries.status("tiny")
    return document["trials"]["running"], document["trials"]["waiting"], len(document["workers"])


def ended(process: "subprocess.Popen[str]", seconds: float = 200) -> tuple[int, str]:
    """Wait for the end of a process; return its exit code and what it said."""
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err


def test_a_launch_goes_on_after_a_training_that_hangs(tmp_path: Path) -> None:
    """The worker ends its own process, and another one takes its place and continues."""
    result = run_apart(tmp_path, "launch", write(tmp_path, "hanging", "stall_timeout: 2s, retries: 1"), "--devices=cpu")

    assert result.code == 0, result.err
    assert "has ended its process over a trial that hangs" in result.err
    assert sorted(trials(tmp_path), key=str) == [("COMPLETE", None), ("COMPLETE", None), ("FAIL", "stalled")]
    (*_, log) = sorted((tmp_path / "artifacts" / "tiny" / "workers").glob("*.log"))
    assert "trainings.py" in log.read_text()  # where it hung


@pytest.mark.slow
def test_a_worker_of_ones_own_begins_anew(tmp_path: Path) -> None:
    """Nobody else would start another one."""
    file = write(tmp_path, "hanging", "stall_timeout: 2s, retries: 1")
    assert run_apart(tmp_path, "launch", file, "--launcher=none").code == 0

    result = run_apart(tmp_path, "worker", "--study", "tiny", "--device", "cpu")

    assert result.code == 0, result.err
    assert sorted(trials(tmp_path), key=str) == [("COMPLETE", None), ("COMPLETE", None), ("FAIL", "stalled")]


def test_ctrl_c_leaves_no_trial_behind_that_hears_nothing(tmp_path: Path) -> None:
    """Its worker is killed: the trial must not stay RUNNING with nobody there."""
    with launched(tmp_path, write(tmp_path, "deaf", "stall_timeout: null")) as process:
        wait_for(tmp_path, "RUNNING")
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        code, err = ended(process)

    assert code == 130, err
    assert left(tmp_path) == (0, 2, 0)


@pytest.mark.slow
def test_a_worker_that_is_told_twice_gives_its_trial_back(tmp_path: Path) -> None:
    """Though its main thread hangs where Python runs no handler of a signal."""
    assert run_apart(tmp_path, "launch", write(tmp_path, "deaf", "retries: 1"), "--launcher=none").code == 0
    with start(tmp_path, "worker", "--study", "tiny", "--device", "cpu") as process:
        try:
            wait_for(tmp_path, "RUNNING")
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            code, err = ended(process)
        finally:
            process.kill()

    assert code == 128 + signal.SIGTERM, err
    assert ("FAIL", "interrupted") in trials(tmp_path)
    assert left(tmp_path) == (0, 2, 0)


def test_retry_from_the_command_line(tuner: Shell, study_file: Path) -> None:
    """After the cause is mended; one of the two ways of naming trials."""
    assert tuner("launch", str(study_file), "--launcher", "none", "--devices", "cpu").code == 0
    with Storage.open("sqlite:///tuner.db") as store:
        study_id = store.studies.get("tiny").study_id
        for _ in range(2):
            claim = store.trials.claim(study_id, "w")
            assert claim is not None
            assert store.trials.finish(claim, failed())

    assert tuner("retry", "tiny").code == 2
    assert tuner("retry", "tiny", "0", "--failed").code == 2
    refused = tuner("retry", "tiny", "9")
    assert refused.code == 2
    assert "trial 9 does not exist" in refused.err
    assert tuner("retry", "tiny", "0").code == 0
    result = tuner("retry", "tiny", "--failed", "--json")

    assert result.json() == {"name": "tiny", "retried": [{"number": 1, "again": 7}]}
    assert tuner("status", "tiny", "--json").json()["trials"]["waiting"] == 6
    assert tuner("retry", "tiny", "--failed").err.startswith("No trial of tiny has failed")


@pytest.mark.slow
def test_a_process_that_lets_no_thread_run_is_ended_as_well(tmp_path: Path) -> None:
    """A training that holds Python's lock stops signs of life and watchdog alike."""
    file = write(tmp_path, "clutching", "stall_timeout: 5s, retries: 1")

    result = run_apart(tmp_path, "launch", file, "--devices=cpu", timeout=300)

    assert result.code == 0, result.err
    assert sorted(trials(tmp_path), key=str) == [("COMPLETE", None), ("COMPLETE", None), ("FAIL", "worker_lost")]
