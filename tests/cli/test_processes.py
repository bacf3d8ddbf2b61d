"""The whole product as a user sees it: real processes, signals, a real training."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Shell, run_apart, start
from tuner.errors import TunerError
from tuner.storage.storage import Storage

REAL = ["--set=train.entry=null", "--set=train.epochs=2", "--trials=3", "--devices=cpu"]


def wait_for(folder: Path, state: str, *, seconds: float = 120) -> list[int]:
    """Wait until a trial is in this state with an epoch finished; return the pids of the study's workers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.2)
        if not (folder / "tuner.db").exists():
            continue
        with suppress(TunerError), Storage.open(f"sqlite:///{folder / 'tuner.db'}", read_only=True) as store:
            if any(row["epochs"] for row in store.queries.trials("tiny", state=state)):
                return [worker["pid"] for worker in store.workers.live("tiny")]
    raise AssertionError(f"no trial is {state}")


@contextmanager
def launched(folder: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Launch a study in a process of its own, which ends with the body."""
    with start(folder, "launch", *words, "--devices=cpu") as process:
        try:
            yield process
        finally:
            process.kill()


def slow_study(folder: Path, *, trials: int = 2, epochs: int = 80) -> Path:
    """Write a study whose trials take `epochs` tenths of a second."""
    text = STUDY.replace("steady", "endless").replace("epochs: 3", f"epochs: {epochs}")
    path = folder / "tiny.yaml"
    path.write_text(text.replace("trials: 6", f"trials: {trials}"), encoding="utf-8")
    return path


def test_from_launch_to_a_trained_winner(tmp_path: Path) -> None:
    """Launch → second launch → resume with more trials → export → train gives the value of the trial."""
    (tmp_path / "tiny.yaml").write_text(STUDY, encoding="utf-8")

    launched = run_apart(tmp_path, "launch", "tiny.yaml", *REAL, "--workers=1")
    assert launched.code == 0, launched.err
    assert "Best: trial" in launched.out
    assert "tuner export tiny" in launched.out
    assert "losses get no trial with their published defaults" in launched.err
    assert len(list((tmp_path / "artifacts" / "tiny" / "workers").glob("*.log"))) == 1

    again = run_apart(tmp_path, "launch", "tiny.yaml", *REAL)
    assert again.code == 0, again.err
    assert "used up" in again.err

    resumed = run_apart(tmp_path, "resume", "tiny", "--trials=4", "--workers=1", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json()["trials"]["total"] == resumed.json()["trials"]["complete"] == 4

    assert run_apart(tmp_path, "export", "tiny", "-o", "best.yaml").code == 0
    trained = run_apart(tmp_path, "train", "best.yaml", "-o", "final", "--json")
    assert trained.code == 0, trained.err
    assert trained.json()["value"] == resumed.json()["best"]["value"]
    assert "warning" not in trained.err
    assert (tmp_path / "final" / "best.safetensors").is_file()


@pytest.mark.parametrize(
    "signals",
    [pytest.param(1, id="once", marks=pytest.mark.slow), pytest.param(2, id="to the process and its group")],
)
def test_ctrl_c_gives_running_trials_back(tmp_path: Path, signals: int) -> None:
    """Exit code 130, nothing left running, and the command that goes on; `timeout` sends its signal twice."""
    with launched(tmp_path, str(slow_study(tmp_path))) as process:
        wait_for(tmp_path, "RUNNING")
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "tuner resume tiny" in err
    document = run_apart(tmp_path, "status", "tiny", "--json").json()
    assert document["trials"]["running"] == 0
    assert document["trials"]["waiting"] == 2
    assert document["workers"] == []


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """The launch goes on by itself, and the trial with it."""
    with launched(tmp_path, str(slow_study(tmp_path, trials=1)), "--workers=1") as process:
        for pid in wait_for(tmp_path, "RUNNING"):
            os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=200)

    assert process.returncode == 0, err
    assert "was killed by signal 9; another one takes its place" in err
    document = run_apart(tmp_path, "status", "tiny", "--json").json()
    assert document["trials"]["complete"] == document["trials"]["total"] == 1


def test_workers_end_with_their_launcher(tmp_path: Path) -> None:
    """After `kill -9` of the launcher nobody trains on a device that nobody has reserved."""
    with launched(tmp_path, str(slow_study(tmp_path))) as process:
        pids = wait_for(tmp_path, "RUNNING")
        process.kill()
        process.communicate(timeout=60)

    until = time.monotonic() + 90
    while time.monotonic() < until and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.2)

    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert run_apart(tmp_path, "status", "tiny", "--json").json()["trials"]["running"] == 0


@pytest.mark.slow
def test_two_launchers_help_one_study(tmp_path: Path) -> None:
    """A second one, started by mistake or on purpose, neither fails nor doubles the budget."""
    file = str(slow_study(tmp_path, epochs=30))
    with launched(tmp_path, file) as first, launched(tmp_path, file) as second:
        for process in (first, second):
            _, err = process.communicate(timeout=200)
            assert process.returncode == 0, err

    document = run_apart(tmp_path, "status", "tiny", "--json").json()
    assert document["trials"]["complete"] == document["trials"]["total"] == 2


def test_a_study_that_fails_for_one_reason_stops_and_says_so(tuner: Shell, here: Path) -> None:
    """Exit code 3, the reason, and most of the budget unspent."""
    text = STUDY.replace("steady", "failing").replace("trials: 6", "trials: 20")
    (here / "tiny.yaml").write_text(text, encoding="utf-8")

    result = tuner("launch", "tiny.yaml", "--launcher", "inline", "--devices=cpu")

    assert result.code == 3, result.err
    assert "is broken" in result.err
    document = tuner("status", "tiny", "--json").json()
    assert (document["phase"], document["phase_reason"]) == ("stopped", "failures")
    assert document["trials"]["waiting"] == 15


def test_a_launch_serves_the_dashboard_beside_it(tmp_path: Path) -> None:
    """`--serve` shows the search while it runs, and ends with it."""
    with launched(tmp_path, str(slow_study(tmp_path, epochs=40)), "--serve", "--workers=1") as process:
        wait_for(tmp_path, "RUNNING")
        assert process.stderr is not None
        address = next(line for line in process.stderr if "dashboard: " in line).split("dashboard: ")[1].strip()
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"tiny" in page.read()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 130
