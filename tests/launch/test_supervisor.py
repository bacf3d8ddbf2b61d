"""A crew keeps its slots filled, and knows when to give up. Workers here are small real processes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.errors import RunError
from tuner.launch import supervisor
from tuner.launch.launcher import WorkerSpec
from tuner.launch.local import LocalWorker
from tuner.launch.supervisor import EARLY_ENDS, Supervisor
from tuner.settings import Settings
from tuner.worker.exit_codes import QUARANTINED


class ScriptLauncher:
    """Starts a Python script in the place of a worker."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.started: list[LocalWorker] = []

    def launch(self, order: WorkerSpec) -> LocalWorker:
        """Start it, with its output in the log."""
        with order.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", self.script], stdout=log, stderr=log)
        self.started.append(LocalWorker(order, process))
        return self.started[-1]


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting between two starts is not what these tests are about."""
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))


def make_crew(tmp_path: Path, script: str, slots: int = 1) -> tuple[Supervisor, ScriptLauncher, list[str]]:
    """Return a crew, its launcher, and its notes."""
    settings = Settings("sqlite:///x.db", tmp_path, None, tmp_path)
    launcher, notes = ScriptLauncher(script), list[str]()
    orders = [WorkerSpec("organs", settings, slot, "cpu", 1, tmp_path / f"{slot}.log") for slot in range(slots)]
    return Supervisor(launcher, orders, on_message=notes.append), launcher, notes


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


SLEEP = "import time; time.sleep(60)"


def test_every_slot_gets_a_worker_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    """What the search loses by a dead worker is seconds."""
    crew, launcher, notes = make_crew(tmp_path, SLEEP, slots=2)
    crew.ensure_running(lambda: True)
    assert crew.alive == 2

    launcher.started[0].kill()
    crew.ensure_running(lambda: True)

    assert crew.alive == 2
    assert crew.replaced == 1
    assert "killed by signal 9" in notes[0]
    crew.kill()
    assert crew.alive == 0


def test_nobody_is_started_when_no_work_is_left(tmp_path: Path) -> None:
    """The last worker ends when the work does; it must not be replaced."""
    crew, launcher, notes = make_crew(tmp_path, "pass")
    crew.ensure_running(lambda: True)
    until(lambda: crew.alive == 0)

    crew.ensure_running(lambda: False)

    assert len(launcher.started) == 1
    assert notes == []


def test_workers_that_die_at_once_end_the_launch_with_their_last_words(tmp_path: Path) -> None:
    """A missing package would otherwise be tried again for ever."""
    crew, launcher, _ = make_crew(tmp_path, "raise SystemExit('no module named moon')")

    with pytest.raises(RunError, match="no module named moon") as caught:
        until(lambda: bool(crew.ensure_running(lambda: True)))

    assert len(launcher.started) == EARLY_ENDS
    assert str(tmp_path / "0.log") in str(caught.value)


def test_draining_asks_and_waits(tmp_path: Path) -> None:
    """SIGTERM is what gives a trial back with its checkpoint."""
    script = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    )
    crew, launcher, _ = make_crew(tmp_path, script)
    crew.ensure_running(lambda: True)
    until(lambda: "up" in (tmp_path / "0.log").read_text())

    crew.drain()

    assert crew.wait(20)
    assert launcher.started[0].exit_code() == 7


def test_a_device_that_was_quarantined_is_not_started_at_once(tmp_path: Path) -> None:
    """Its trials fail and those of others do not: the others go on, and it is tried again much later."""
    crew, launcher, notes = make_crew(tmp_path, SLEEP, slots=2)
    crew.ensure_running(lambda: True)
    launcher.started[0].kill()
    launcher.script = f"raise SystemExit({QUARANTINED})"
    crew.ensure_running(lambda: True)
    until(lambda: launcher.started[2].exit_code() == QUARANTINED)

    for _ in range(3):
        crew.ensure_running(lambda: True)

    assert len(launcher.started) == 3
    assert crew.alive == 1
    assert "quarantined, and tried again in 30 minutes" in notes[-1]
    crew.kill()


def test_a_launch_all_of_whose_devices_were_quarantined_ends(tmp_path: Path) -> None:
    """Nothing would move, and nobody would be told."""
    crew, launcher, _ = make_crew(tmp_path, f"print('broken'); raise SystemExit({QUARANTINED})", slots=2)
    crew.ensure_running(lambda: True)
    until(lambda: all(worker.exit_code() is not None for worker in launcher.started))

    with pytest.raises(RunError, match=r"no other device is left to this launch(.|\n)*broken"):
        crew.ensure_running(lambda: True)


def test_a_standing_crew_outlives_all_its_devices(tmp_path: Path) -> None:
    """The service keeps workers for any study; another one may do well on the same device."""
    settings = Settings("sqlite:///x.db", tmp_path, None, tmp_path)
    launcher, notes = ScriptLauncher(f"raise SystemExit({QUARANTINED})"), list[str]()
    order = WorkerSpec("any", settings, 0, "cpu", 1, tmp_path / "0.log")
    crew = Supervisor(launcher, [order], on_message=notes.append, standing=True)
    crew.ensure_running(lambda: True)
    until(lambda: launcher.started[0].exit_code() is not None)

    crew.ensure_running(lambda: True)

    assert (crew.alive, len(launcher.started)) == (0, 1)
    assert "tried again in 30 minutes" in notes[-1]
