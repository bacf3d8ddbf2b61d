"""What the search costs a trial when many workers share one PostgreSQL, beside plain Optuna in the same run.

    python -m benchmarks.storage_workers [--workers 1,8,32,64] [--earlier 0,10000] [--zombies 0,1000] [--limit 60]

Each worker is a process that does what a worker does but for the training: ours as in `storage.py`; plain Optuna's by
`study.optimize` on an `RDBStorage`, 20 reports with `should_prune` a trial. Zombies are trials left RUNNING by workers
that died: ours within their grace time (`zombies`), or past it, so that they are reaped as well (`reaped`). A side ends
when every worker has had its trials, or after `--limit` seconds: trials under way then count by their reports. So ms a
trial = workers x wall time / trials done. Optuna's history is read before the clock starts. CPU is that of all workers,
and of all of the server's processes. Prints Markdown.
"""

import argparse
import gc
import multiprocessing
import os
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psycopg

from benchmarks.storage import EPOCHS, Ours, make_ours, make_plain, plain_study, suggest
from benchmarks.storage_history import (
    Earlier,
    abandon_ours,
    abandon_plain,
    earlier_trials,
    simulated_curve,
)
from tests.postgres import Server, running_server
from tuner.config.study import find_study_file, load_spec
from tuner.search.space import SearchSpace

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


Work = Callable[[int], Callable[["Curves"], None]]
"""Makes the worker of a number; when it is called, it runs trials on the curves that it gets."""
TRIALS = 6
WAITING = 2_000


@dataclass(frozen=True)
class Result:
    """What one side did."""

    trials: float
    wall: float
    client: float
    """CPU seconds of the workers."""
    server: float
    """CPU seconds of the server."""

    def cells(self, workers: int) -> tuple[float | None, float | None, float | None]:
        """Return milliseconds a trial: of a worker's time, of the clients' CPU, of the server's."""
        if not self.trials:
            return None, None, None
        each = 1000 / self.trials
        return workers * self.wall * each, self.client * each, self.server * each


class Curve(tuple[float, ...]):
    """Scores of a trial; whoever reports them, one after the other, is counted."""

    counter: Any = None

    def __iter__(self) -> Iterator[float]:
        """Count the first time through."""
        counter, self.counter = self.counter, None
        for value in super().__iter__():
            yield value
            if counter is not None:
                with counter.get_lock():
                    counter.value += 1


class Curves:
    """The curves of one worker's trials."""

    def __init__(self, index: int, counter: Any) -> None:
        self._chance, self._counter = random.Random(index), counter

    def next(self) -> Curve:
        """Return the next one."""
        curve = Curve(simulated_curve(self._chance, EPOCHS))
        curve.counter = self._counter
        return curve


def race(work: Work, workers: int, server: Server, limit: float) -> Result:
    """Let so many processes work at once for at most `limit` seconds."""
    context = multiprocessing.get_context("fork")
    counter, ready, go = context.Value("L", 0), context.Semaphore(0), context.Event()

    def one(index: int) -> None:
        run = work(index)
        ready.release()
        go.wait()
        run(Curves(index, counter))
        os._exit(0)

    processes = [context.Process(target=one, args=(index,), daemon=True) for index in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    idle = sum(sum(_ticks(process.pid or 0)[:2]) for process in processes) / os.sysconf("SC_CLK_TCK")
    served, used, began = cpu_of(server), _cpu_of_children(), time.perf_counter()
    go.set()
    while any(process.is_alive() for process in processes) and time.perf_counter() - began < limit:
        time.sleep(0.05)
    wall, trials, served = time.perf_counter() - began, counter.value / EPOCHS, cpu_of(server) - served
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    return Result(trials, wall, _cpu_of_children() - used - idle, served)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(url: str, space: SearchSpace) -> Work:
    """Return the work of a worker of ours."""

    def work(index: int) -> Callable[[Curves], None]:
        side = Ours(url, space)

        def run(curves: Curves) -> None:
            for _ in range(TRIALS):
                side.one_trial(curves.next())

        return run

    return work


def plain(url: str, space: SearchSpace) -> Work:
    """Return the work of a process that calls `study.optimize`; it is forked with the history in its cache."""
    storage = optuna.storages.get_storage(optuna.storages.RDBStorage(url))
    plain_study(storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage._backend.engine.dispose()

    def work(index: int) -> Callable[[Curves], None]:
        study = plain_study(storage, seed=index)

        def run(curves: Curves) -> None:
            def objective(trial: optuna.Trial) -> float:
                suggest(trial, space)
                curve = curves.next()
                for number, value in enumerate(curve, start=1):
                    trial.report(value, number)
                    trial.should_prune()
                return max(curve)

            study.optimize(objective, n_trials=TRIALS)

        return run

    return work


def cpu_of(server: Server) -> float:
    """Return the CPU seconds of the server and all of its processes, those that ended as well."""
    assert server._process is not None
    main = server._process.pid
    ticks = sum(_ticks(main))
    for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        with suppress(OSError):
            ticks += sum(_ticks(int(child))[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> list[int]:
    """Return user, system, and those of children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


class Databases:
    """Databases with a history, made once and copied for every run."""

    def __init__(self, server: Server, space: SearchSpace) -> None:
        self._server, self._space = server, space
        self._made: dict[tuple[str, int, str], str] = {}

    def copy(self, side: str, earlier: int, zombies: tuple[str, int]) -> str:
        """Return the URL of a fresh copy."""
        key = (side, earlier, f"{zombies[0]}{zombies[1]}")
        if key not in self._made:
            self._made[key] = self._make(side, earlier_trials(self._space, earlier, EPOCHS), zombies)
            print(f"{side}, {earlier} earlier trials, {zombies[1]} zombies: made", file=sys.stderr, flush=True)
        source = self._made[key].rsplit("/", 1)[1]
        name = f"c{time.time_ns()}"
        with psycopg.connect(self._server._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'.encode())
        return self._made[key].replace(source, name)

    def _make(self, side: str, earlier: list[Earlier], zombies: tuple[str, int]) -> str:
        url = self._server.new_database().replace("://", "+psycopg://")
        kind, number = zombies
        points = earlier_trials(self._space, number, EPOCHS)
        if side == "ours":
            make_ours(url, self._space, earlier, WAITING + number)
            abandon_ours(url, self._space, points, silent=kind == "reaped")
        else:
            make_plain(url, self._space, earlier)
            abandon_plain(url, self._space, points)
        return url


def numbers(text: str) -> list[int]:
    """Read `1,8,32`."""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """Run both sides in turn for every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=numbers, default=[1, 8, 32, 64])
    parser.add_argument("--earlier", type=numbers, default=[0, 10_000])
    parser.add_argument("--zombies", type=numbers, default=[0, 1_000])
    parser.add_argument("--zombie-workers", type=numbers, default=[32], help="numbers of workers that meet zombies")
    parser.add_argument("--limit", type=float, default=60.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_spec(find_study_file("phantom")).space
    heads = ["workers", "earlier trials", "zombies", "ms a trial: ours", "Optuna", "Optuna / ours"]
    heads += ["clients' CPU ms: ours", "Optuna", "server's CPU ms: ours", "Optuna"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    with running_server(durable=True) as server:
        databases = Databases(server, space)
        for earlier in options.earlier:
            for number in options.zombies:
                for workers in options.zombie_workers if number else options.workers:
                    theirs = race(
                        plain(databases.copy("plain", earlier, ("", number)), space), workers, server, options.limit
                    )
                    for kind in ("zombies", "reaped") if number else ("",):
                        url = databases.copy("ours", earlier, (kind, number))
                        mine = race(ours(url, space), workers, server, options.limit)
                        row(workers, earlier, f"{number} {kind}".strip(), mine, theirs)
                    gc.collect()


def row(workers: int, earlier: int, zombies: str, mine: Result, theirs: Result) -> None:
    """Print one row."""
    ours, plain = mine.cells(workers), theirs.cells(workers)
    pairs = list(zip(ours, plain, strict=True))
    cells: list[object] = [workers, earlier, zombies, *(_milliseconds(cell) for cell in pairs[0])]
    cells.append(f"{plain[0] / ours[0]:.1f}" if ours[0] and plain[0] else "-")
    cells += [_milliseconds(cell) for pair in pairs[1:] for cell in pair]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _milliseconds(cell: float | None) -> str:
    return "no trial" if cell is None else f"{cell:.0f}"


if __name__ == "__main__":
    main()
