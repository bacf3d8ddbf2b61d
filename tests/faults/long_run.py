"""The long fault suite: real processes, PostgreSQL and SQLite, until the time is up; figures as Markdown and JSON.

    python -m tests.faults.long_run [--minutes 30] [--seed N] [--only kills,frozen] [--small] [--json FILE]

Every scenario runs once at full scale, then `kills` again with other dice until the minutes are over. What needs
root (a small disk) or PostgreSQL's programs is skipped in words where that is missing. A line's seed repeats its dice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import infrastructure_faults, worker_faults
from tests.faults.environment import FaultEnvironment, Scale, ground
from tests.faults.slow_worker import Nursery
from tests.postgres import Server, find_binaries, running_server

SMALL = Scale()
FULL = Scale(trials=6, kills=100, pause_s=6.0, restarts=10, workers=3, outage_s=75.0, repeated=4, fresh=0.2)


@dataclass(frozen=True)
class Scenario:
    """One thing that goes wrong, and on which storages it is tried."""

    name: str
    run: Callable[[FaultEnvironment], dict[str, Any]]
    storages: tuple[str, ...] = ("sqlite", "postgresql")
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the full scale."""
    own_server: bool = False
    root: bool = False


SCENARIOS = (
    Scenario("kills", worker_faults.kills, changes={"trials": 10}),
    Scenario("kills at an address", partial(worker_faults.kills, at_address=True), changes={"trials": 6, "kills": 20}),
    Scenario("frozen", worker_faults.frozen),
    Scenario("two launchers", worker_faults.two_launchers),
    Scenario("killed launcher", worker_faults.killed_launcher),
    Scenario("skewed clocks", worker_faults.skewed_clocks),
    Scenario(
        "restarts", infrastructure_faults.restarts, ("postgresql",), {"trials": 16, "workers": 8}, own_server=True
    ),
    Scenario("cut network", infrastructure_faults.cut_network, ("postgresql",)),
    Scenario("cut-off worker", infrastructure_faults.cut_off_worker, ("postgresql",)),
    Scenario("full disk", infrastructure_faults.full_disk, root=True),
    Scenario(
        "full disk and database", partial(infrastructure_faults.full_disk, database_too=True), ("sqlite",), root=True
    ),
)


@dataclass
class Line:
    """What came of one scenario."""

    scenario: str
    storage: str
    seed: int
    figures: dict[str, Any]
    error: str | None = None


class Suite:
    """Runs scenarios one after the other and keeps their lines."""

    def __init__(self, *, scale: Scale, changes: dict[str, int], nursery: Nursery, server: Server | None) -> None:
        self.lines: list[Line] = []
        self._scale = scale
        self._changes = changes
        self._nursery = nursery
        self._server = server

    def run(self, scenario: Scenario, storage: str, seed: int) -> None:
        """Run one scenario on one storage, in a folder that stays when it fails."""
        folder = Path(tempfile.mkdtemp(prefix="tuner-faults-"))
        wanted = self._changes if self._scale == SMALL else scenario.changes | self._changes
        scale = replace(self._scale, **wanted)
        say(f"{scenario.name} on {storage}, seed {seed} …")
        try:
            with self._storage(scenario, storage, folder) as (url, server):
                place = ground(folder, url, seed=seed, scale=scale, nursery=self._nursery, server=server)
                with place as here:
                    line = Line(scenario.name, storage, seed, scenario.run(here))
        except Exception:
            line = Line(scenario.name, storage, seed, {}, traceback.format_exc())
            say(f"FAILED, its files are in {folder}:\n{line.error}")
        else:
            shutil.rmtree(folder)
            say(f"{scenario.name} on {storage}: {as_words(line.figures)}")
        self.lines.append(line)

    @contextmanager
    def _storage(self, scenario: Scenario, storage: str, folder: Path) -> Iterator[tuple[str, Server | None]]:
        if storage == "sqlite":
            yield f"sqlite:///{folder / 'tuner.db'}", None
        elif scenario.own_server:
            with running_server(durable=True) as server:
                yield server.new_database(), server
        else:
            assert self._server is not None
            yield self._server.new_database(), None


def say(text: str) -> None:
    """Print a line with the time, at once."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)  # noqa: T201


def as_words(figures: dict[str, Any]) -> str:
    """Write figures on a line."""
    return ", ".join(f"{name} {value}" for name, value in figures.items())


def summary(lines: list[Line], *, minutes: float) -> str:
    """Return the figures of all scenarios as Markdown."""
    rows = [
        f"| {line.scenario} | {line.storage} | {line.seed} | {'FAILED' if line.error else as_words(line.figures)} |"
        for line in lines
    ]
    failed = sum(line.error is not None for line in lines)
    head = f"{len(lines)} scenarios in {minutes:.0f} minutes, {failed} failed.\n"
    return "\n".join([head, "| scenario | storage | seed | figures |", "|---|---|---|---|", *rows])


def chosen(names: str | None, storages: str, *, postgresql: bool) -> list[tuple[Scenario, str]]:
    """Return what is to be run; says what is not, and why."""
    wanted = None if names is None else {name.strip() for name in names.split(",")}
    found = []
    for scenario in SCENARIOS:
        if wanted is not None and scenario.name not in wanted:
            continue
        if scenario.root and os.getuid() != 0:
            say(f"{scenario.name}: skipped, only root may make a small disk")
            continue
        for storage in scenario.storages:
            if storage not in storages:
                continue
            if storage == "postgresql" and not postgresql:
                say(f"{scenario.name} on postgresql: skipped, its programs are not here")
                continue
            found.append((scenario, storage))
    return found


def run(options: argparse.Namespace, server: Server | None) -> int:
    """Run everything, then kill workers until the time is over; return the exit code."""
    began, dice = time.monotonic(), random.Random(options.seed)
    scale = SMALL if options.small else FULL
    changes = {name: value for name in ("kills", "trials") if (value := getattr(options, name)) is not None}
    nursery = Nursery()
    suite = Suite(scale=scale, changes=changes, nursery=nursery, server=server)
    tasks = chosen(options.only, options.storages, postgresql=server is not None)
    for scenario, storage in tasks:
        suite.run(scenario, storage, dice.randrange(10**6))
    while time.monotonic() - began < 60 * options.minutes and tasks:
        scenario, storage = dice.choice([task for task in tasks if task[0].name == "kills"] or tasks)
        suite.run(scenario, storage, dice.randrange(10**6))
    nursery.close()
    minutes = (time.monotonic() - began) / 60
    print(f"\nseed {options.seed}\n\n{summary(suite.lines, minutes=minutes)}", flush=True)  # noqa: T201
    if options.json:
        lines = [{name: getattr(line, name) for name in line.__dataclass_fields__} for line in suite.lines]
        options.json.write_text(json.dumps({"seed": options.seed, "minutes": minutes, "lines": lines}, indent=2))
    return int(any(line.error for line in suite.lines))


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", help="names, divided by commas")
    parser.add_argument("--storages", default="sqlite,postgresql")
    parser.add_argument("--kills", type=int, help="in each run of `kills`")
    parser.add_argument("--trials", type=int, help="in each study")
    parser.add_argument("--small", action="store_true", help="a little of everything")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # leave no process behind then either
    os.environ["OMP_NUM_THREADS"] = "1"  # the number of threads changes the numbers
    say(f"seed {options.seed}")
    if find_binaries() is None:
        return run(options, None)
    with running_server() as server:
        return run(options, server)


if __name__ == "__main__":
    sys.exit(main())
