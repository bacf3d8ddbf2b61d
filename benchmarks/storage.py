"""What the search costs a trial, beside plain Optuna with RDBStorage in the same run.

One trial = ask + 20 reports with pruning decisions + tell, on the product's own space (14 competing losses with their
options), after 0, 1 000 and 10 000 earlier trials, on SQLite and on a PostgreSQL of its own (durable, as installed).

    python -m benchmarks.storage [--earlier 0,1000,10000] [--trials 10] [--storages sqlite,postgresql]
        [--sampler auto] [--pruner auto] [--ours]

Ours: reap, claim, history, sampler, store the point, report (with the counts that the pruner asks for), finish.
Plain Optuna: `ask`, `suggest_*`, `report` + `should_prune`, `tell`, with TPESampler(multivariate, group, constant_liar)
and MedianPruner on `RDBStorage(url)`. Both run every trial to its last epoch. Prints Markdown: SQL statements
(BEGIN counted where it is sent as one), milliseconds, and where ours goes. The first trial of a process also reads the
whole history; it is shown apart.
"""

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Engine, event

from benchmarks.storage_history import Earlier, earlier_trials, fill_optuna, fill_ours, simulated_curve
from tests.postgres import Server, running_server
from tuner.config.study import find_study_file, load_spec
from tuner.search.catalog import PRUNERS, SAMPLERS
from tuner.search.pruners import make_pruner
from tuner.search.sampler import SeededSampler
from tuner.search.space import SearchSpace
from tuner.storage.records import EpochRow, NewStudy, Outcome
from tuner.storage.states import State
from tuner.storage.storage import Storage

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


EPOCHS = 20
OBJECTIVES = ({"metric": "dice", "direction": "maximize"},)


class Meter:
    """Counts statements and adds up the time of each part of a trial."""

    def __init__(self, *engines: Engine) -> None:
        self.statements: list[int] = []
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.parts: dict[str, list[float]] = defaultdict(list)
        self._count = 0
        self._engines = set(engines)
        for engine in self._engines:
            event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, *ignored: object) -> None:
        self._count += 1

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Measure one trial."""
        self._count, start, busy = 0, time.perf_counter(), time.process_time()
        yield
        self.cpu.append(time.process_time() - busy)
        self.seconds.append(time.perf_counter() - start)
        self.statements.append(self._count)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure one part of a trial."""
        start = time.perf_counter()
        yield
        self.parts[name].append(time.perf_counter() - start)

    def close(self) -> None:
        """Stop counting."""
        for engine in self._engines:
            event.remove(engine, "before_cursor_execute", self._note)


def make_ours(url: str, space: SearchSpace, earlier: list[Earlier], trials: int) -> None:
    """Make a study of ours with earlier trials, and so many that wait."""
    queue: list[dict[str, Any]] = [{}] * (len(earlier) + trials)
    with Storage.open(url, create=True) as store:
        study_id = store.studies.create(NewStudy("bench", {}, space, OBJECTIVES, queue, retries=0)).study_id
        fill_ours(store.context.database.writer, study_id, space, earlier)


def make_plain(url: str, space: SearchSpace, earlier: list[Earlier]) -> None:
    """Make a study of Optuna's with earlier trials."""
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="plain", storage=storage, direction="maximize")
    fill_optuna(storage.engine, study._study_id, space, earlier)
    storage.remove_session()
    storage.engine.dispose()


class Ours:
    """The product's store, sampler and pruner."""

    def __init__(self, url: str, space: SearchSpace, sampler: str = "tpe", pruner: str = "median") -> None:
        self.space = space
        self.store = Storage.open(url)
        self.study_id = self.store.studies.get("bench").study_id
        self.worker = self.store.workers.register(pid=1, device="cpu", study="bench", version="", host="bench")
        self.searcher = SeededSampler(space, ("maximize",), sampler=sampler, options={}, seed=0)
        self.pruner = make_pruner(pruner, {"min_epochs": 1}, epochs=EPOCHS + 1)
        self.meter = Meter(self.store.context.database.writer, self.store.context.database.reader)
        self.cursor = 0

    def one_trial(self, curve: tuple[float, ...]) -> None:
        """Run one trial whose scores are given."""
        part, store = self.meter.part, self.store
        with part("claim"):
            store.workers.requeue_lost(self.study_id)
            claim = store.trials.claim(self.study_id, self.worker)
            assert claim is not None
        with part("history"):
            history = store.epochs.history(self.study_id, self.cursor)
            self.cursor = history.cursor
        began = time.process_time()
        with part("sampler"):
            self.searcher.observe(history.finished)
            params = self.searcher.suggest(claim.slot, fixed=claim.params, running=history.running)
        self.meter.parts["sampler, CPU"].append(time.process_time() - began)
        with part("point"):
            store.trials.set_params(claim, params, self.space)
        with part("reports"):
            for number, value in enumerate(curve, start=1):
                row = EpochRow(number, value, {"dice": value}, {}, 1 - value, 1e-3, 1.0)
                answer = store.epochs.report(claim, row, peers=self.pruner.should_check(number, 0), bracket=0)
                if answer.peers:
                    self.pruner.decide(number, answer.peers)
        with part("finish"):
            assert store.trials.finish(claim, Outcome(State.COMPLETE, values=(max(curve),), last=(EPOCHS, curve[-1])))

    def close(self) -> None:
        """Close the store."""
        self.meter.close()
        self.store.close()


class Plain:
    """What a script with plain Optuna does."""

    def __init__(self, url: str, space: SearchSpace) -> None:
        self.space = space
        self.storage = optuna.storages.RDBStorage(url)
        self.study = plain_study(self.storage)
        self.meter = Meter(self.storage.engine)

    def one_trial(self, curve: tuple[float, ...]) -> None:
        """Run one trial whose scores are given."""
        trial = self.study.ask()
        suggest(trial, self.space)
        for number, value in enumerate(curve, start=1):
            trial.report(value, number)
            trial.should_prune()
        self.study.tell(trial, max(curve))

    def close(self) -> None:
        """Close the storage."""
        self.meter.close()
        self.storage.remove_session()
        self.storage.engine.dispose()


def compare(
    urls: tuple[str, str | None], space: SearchSpace, earlier: list[Earlier], trials: int, *, sampler: str, pruner: str
) -> tuple[Meter, Meter | None]:
    """Run the same curves on both sides, one trial of each in turn, so that other load meets both alike.

    Without a second address ours alone.
    """
    make_ours(urls[0], space, earlier, trials)
    sides: list[Ours | Plain] = [Ours(urls[0], space, sampler, pruner)]
    if urls[1] is not None:
        make_plain(urls[1], space, earlier)
        sides.append(Plain(urls[1], space))
    chance = random.Random(2)
    for _ in range(trials):
        curve = simulated_curve(chance, EPOCHS)
        for side in sides:
            with side.meter.trial():
                side.one_trial(curve)
    for side in sides:
        side.close()
    return sides[0].meter, sides[1].meter if len(sides) > 1 else None


def plain_study(storage: optuna.storages.RDBStorage, seed: int = 0) -> optuna.Study:
    """Open the study of Optuna's with the sampler and the pruner that ours are compared with."""
    return optuna.load_study(
        study_name="plain",
        storage=storage,
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=10),
    )


def suggest(trial: optuna.Trial, space: SearchSpace) -> None:
    params: dict[str, Any] = {}
    for d in space:
        if d.when is not None and params.get(d.when[0]) != d.when[1]:
            continue
        if d.kind == "categorical":
            params[d.name] = trial.suggest_categorical(d.name, list(d.choices))
        elif d.kind == "int":
            params[d.name] = trial.suggest_int(d.name, int(d.low), int(d.high), log=d.log)
        else:
            params[d.name] = trial.suggest_float(d.name, d.low, d.high, log=d.log)


def milliseconds(seconds: list[float]) -> float:
    """Return the median of all trials but the first, in milliseconds."""
    return 1000 * statistics.median(seconds[1:] or seconds)


def report(results: list[tuple[str, int, Meter, Meter | None]]) -> None:
    """Print the tables."""
    heads = ("storage", "earlier trials", "statements: ours", "Optuna", "ms a trial: ours", "Optuna", "ours / Optuna")
    heads += ("client CPU ms: ours", "Optuna", "first trial, ms: ours", "Optuna")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for storage, earlier, ours, plain in results:
        mine = milliseconds(ours.seconds)
        theirs = ["", "", "", "", ""]
        if plain is not None:
            others = milliseconds(plain.seconds)
            theirs = [str(max(plain.statements[1:])), f"{others:.0f}", f"{mine / others:.2f}"]
            theirs += [f"{milliseconds(plain.cpu):.0f}", f"{1000 * plain.seconds[0]:.0f}"]
        cells = [storage, earlier, max(ours.statements), theirs[0], f"{mine:.0f}", theirs[1], theirs[2]]
        cells += [f"{milliseconds(ours.cpu):.0f}", theirs[3], f"{1000 * ours.seconds[0]:.0f}", theirs[4]]
        print(f"| {' | '.join(map(str, cells))} |")
    parts = list(results[0][2].parts)
    print(f"\nWhere ours goes, ms a trial:\n\n| storage | earlier trials | {' | '.join(parts)} |")
    print("|---|---|" + "---|" * len(parts))
    for storage, earlier, ours, _ in results:
        row = " | ".join(f"{milliseconds(ours.parts[part]):.1f}" for part in parts)
        print(f"| {storage} | {earlier} | {row} |")


def _empty(server: Server | None, file: Path) -> str:
    return f"sqlite:///{file}" if server is None else server.new_database().replace("://", "+psycopg://")


def main() -> None:
    """Run both sides in turn on each storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", default="0,1000,10000")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--storages", default="sqlite,postgresql")
    parser.add_argument("--sampler", default="auto", choices=list(SAMPLERS))
    parser.add_argument("--pruner", default="auto", choices=list(PRUNERS))
    parser.add_argument("--ours", action="store_true", help="ours alone, without plain Optuna beside it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = load_spec(find_study_file("phantom"))
    losses = len(spec.space.find("loss").choices)  # type: ignore[union-attr]
    print(f"{losses} competing losses, {len(spec.space)} parameters, {EPOCHS} epochs\n")
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server: Server | None = None
        for storage in options.storages.split(","):
            if storage == "postgresql":
                server = stack.enter_context(running_server(durable=True))
            for number in map(int, options.earlier.split(",")):
                earlier = earlier_trials(spec.space, number, EPOCHS)
                plain = None if options.ours else _empty(server, folder / f"plain{number}.db")
                urls = (_empty(server, folder / f"ours{number}.db"), plain)
                rules = {"sampler": options.sampler, "pruner": options.pruner}
                results.append((storage, number, *compare(urls, spec.space, earlier, options.trials, **rules)))
                gc.collect()
                print(f"{storage}, {number} earlier trials: done", file=sys.stderr)
    report(results)


if __name__ == "__main__":
    main()
