"""Scenarios in which workers, launchers or their clocks fail. Each returns figures once the books are in order."""

import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.environment import EPOCHS, FaultEnvironment
from tests.faults.processes import holders, wait_until
from tests.worker.studies import TINY
from tuner.launch.study_setup import stored_spec
from tuner.settings import working_folder
from tuner.storage.storage import HEARTBEAT_TIMEOUT_S, Storage

CHEAPEST = "dataset.slices=4"
TAKEN_AWAY = "was given to another worker meanwhile"
SKEW = """
import datetime, os, time
_shift = float(os.environ["TEST_CLOCK_SHIFT_S"])
_time, _datetime = time.time, datetime.datetime
time.time = lambda: _time() + _shift
time.time_ns = lambda: int((_time() + _shift) * 1e9)
class Shifted(_datetime):
    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds=_shift)
    @classmethod
    def utcnow(cls):
        return _datetime.utcnow() + datetime.timedelta(seconds=_shift)
datetime.datetime = Shifted
"""
"""What a worker's `sitecustomize` does so that its host's clock is wrong."""


def kills(here: FaultEnvironment, *, at_address: bool = False) -> dict[str, Any]:
    """SIGKILL of workers at random moments, again and again, in one study after the other.

    `at_address`: their files go to `file://…`, and what a killed one had on its machine is gone with it.
    """
    address = f"file://{here.places.artifacts}" if at_address else None
    store, crew = here.store(), here.crew(replace(here.places, artifacts_url=address))
    done = holding = rounds = 0
    figures: Counter[str] = Counter()
    while done < here.scale.kills:
        rounds += 1
        spec = here.study(store, CHEAPEST, "train.epochs=6", name=f"kills-{rounds}")
        while store.queries.phase(spec.name)[0] != "done" and done < here.scale.kills:
            crew.ensure_running(spec.name, here.scale.workers)
            time.sleep(here.chance.uniform(0.0, max(here.scale.pause_s, 3 * _epoch_s(store, spec.name))))
            busy = [pid for pid in holders(store, spec.name) if crew.lives(pid)]
            rarely = here.chance.random() < 0.15  # wherever it is: starting, between two trials, leaving
            victim = here.chance.choice(busy if busy and not rarely else crew.workers)
            if crew.lives(victim):
                number = holders(store, spec.name).get(victim)
                crew.kill(victim)
                done += 1
                holding += victim in busy
                if address is not None and number is not None:
                    working = working_folder(here.places.cache, address)
                    shutil.rmtree(working / spec.name / str(number), ignore_errors=True)
        crew.wait_for_the_end(store, spec.name, seconds=6000, count=here.scale.workers)
        figures.update(here.check(store, spec))
    started = {f"workers {how}": number for how, number in crew.started.items()}
    return {"kills": done, "of them while it held a trial": holding, "studies": rounds, **started, **figures} | {
        "seconds": round(time.monotonic() - here.begun)
    }


def frozen(here: FaultEnvironment) -> dict[str, Any]:
    """SIGSTOP for longer than the grace time, then SIGCONT: the late worker's results are refused."""
    store, crew = here.store(), here.crew()
    spec = here.study(store)
    crew.ensure_running(spec.name, max(2, here.scale.workers))
    pid, number = _freeze_one(here, store, spec.name)
    began = time.monotonic()

    def reaped() -> bool:
        crew.ensure_running(spec.name, 1)
        rows = store.queries.trials(spec.name, all_attempts=True, numbers=[number])
        return bool(rows[0]["state"] == "FAIL")

    wait_until(reaped, seconds=4 * HEARTBEAT_TIMEOUT_S, log=here.log)
    silent_s = time.monotonic() - began
    os.kill(pid, signal.SIGCONT)
    crew.wait_for_the_end(store, spec.name, seconds=1800)
    refused = here.log.read_text().count(TAKEN_AWAY)
    assert refused == 1, here.log.read_text()
    assert [r["number"] for r in _lost(store, spec.name)] == [number]
    return {"frozen for s": round(silent_s), "late results refused": refused} | here.check(store, spec)


def two_launchers(here: FaultEnvironment) -> dict[str, Any]:
    """Two launchers at the same moment, on a storage in which there is nothing yet: both help."""
    file = here.folder / "study.yaml"
    file.write_text(TINY)
    changes = [f"train.epochs={EPOCHS}", f"budget.trials={here.scale.trials}", "dataset.slices=12", "pruner=none"]
    words = ["launch", str(file), *(word for change in changes for word in ("--set", change))]
    crew = here.crew(fresh=1.0)
    launchers = [crew.run(*words, "--workers", "1", "--devices", "cpu") for _ in range(2)]
    codes = [crew.code(pid, seconds=1800) for pid in launchers]
    store = here.store()
    spec = stored_spec(store.studies.get("tiny"))
    workers = {row["worker"] for row in store.queries.trials("tiny")}
    assert codes == [0, 0], here.log.read_text()
    assert not _lost(store, "tiny")
    return {"launchers": 2, "workers that trained": len(workers)} | here.check(store, spec)


def killed_launcher(here: FaultEnvironment) -> dict[str, Any]:
    """The launcher dies, and its workers with it; `tuner resume` needs the name alone."""
    store, crew = here.store(), here.crew(fresh=1.0)
    spec = here.study(store)
    launcher = crew.run("resume", spec.name, "--workers", "2", "--devices", "cpu")
    wait_until(lambda: _epochs(store, spec.name) > EPOCHS, seconds=600, log=here.log)
    pids = [worker["pid"] for worker in store.workers.live(spec.name)]
    crew.kill(launcher)
    wait_until(lambda: not any(map(crew.lives, pids)), seconds=90, log=here.log)
    again = crew.run("resume", spec.name, "--workers", "2", "--devices", "cpu")
    assert crew.code(again, seconds=1800) == 0, here.log.read_text()
    return {"workers that died with it": len(pids)} | here.check(store, spec)


def skewed_clocks(here: FaultEnvironment) -> dict[str, Any]:
    """One host a day ahead, one a day behind, a third dies: only the database's clock counts."""
    store, crew = here.store(), here.crew()
    spec = here.study(store)
    odd = here.folder / "odd"
    odd.mkdir()
    (odd / "sitecustomize.py").write_text(SKEW)
    for shift in (86_400, -86_400):
        crew.work(spec.name, {"PYTHONPATH": f"{odd}:{Path.cwd()}", "TEST_CLOCK_SHIFT_S": str(shift)})
    victim = crew.work(spec.name)
    wait_until(lambda: victim in holders(store, spec.name), seconds=600, log=here.log, pause_s=0.02)
    crew.kill(victim)
    crew.wait_for_the_end(store, spec.name, seconds=1800)
    lost = _lost(store, spec.name)
    assert len(lost) <= 1, lost  # none but the killed one
    return {"clocks off by h": "+24, -24", "taken for lost": len(lost)} | here.check(store, spec)


def _freeze_one(here: FaultEnvironment, store: Storage, name: str) -> tuple[int, int]:
    """Stop a worker while it holds a trial; return its pid and the trial's number."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        held = holders(store, name)
        if held and _epochs(store, name) > 0:
            pid = here.chance.choice(sorted(held))
            time.sleep(here.chance.uniform(0.0, 0.3))
            os.kill(pid, signal.SIGSTOP)
            # it may have ended that trial, or be in the middle of a transaction, which SQLite would make all wait for
            row = store.queries.trials(name, all_attempts=True, numbers=[held[pid]])[0]
            if row["state"] == "RUNNING" and _can_write(store, name):
                return pid, held[pid]
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError(f"no worker could be frozen:\n{here.log.read_text()[-3000:]}")


def _can_write(store: Storage, name: str) -> bool:
    began = time.monotonic()
    store.studies.resume(name)
    return time.monotonic() - began < 5


def _epoch_s(store: Storage, name: str) -> float:
    """Return how long the newest epoch took: on a busy machine kills in quick succession would let none end."""
    newest = [row["number"] for row in store.queries.trials(name, all_attempts=True) if row["epochs"]]
    return float(store.queries.epochs(name, newest[-1])[-1]["seconds"]) if newest else 2.0


def _epochs(store: Storage, name: str) -> int:
    rows = store.queries.trials(name, all_attempts=True)
    return sum(len(store.queries.epochs(name, row["number"])) for row in rows if row["state"] != "WAITING")


def _lost(store: Storage, name: str) -> list[dict[str, Any]]:
    return [row for row in store.queries.trials(name, all_attempts=True) if row["reason"] == "worker_lost"]
