"""What a crowd of workers asks of one PostgreSQL: statements a second, and the CPU that its server needs for them.

    python -m benchmarks.storage_crowd [--workers 50,200] [--seconds 20] [--epoch 10]

Each worker is a thread with a store of its own, and so connections of its own, that calls what a worker calls when it
calls it: `idle` workers look for work every five seconds, `training` ones hold a trial and report an epoch every
`--epoch` seconds with the counts that a pruner asks for; all give a life sign every five seconds. What is not run is
the training. Statements are counted at the clients (pings of pooled connections and COMMITs not among them); CPU is
that of all of the server's processes, in cores. Prints Markdown.
"""

import argparse
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event

from benchmarks.storage_workers import cpu_of, numbers
from tests.postgres import Server, running_server
from tests.storage.examples import SPACE, epoch, new_study, point
from tuner.storage.engine import WORKER_CONNECTIONS
from tuner.storage.storage import HEARTBEAT_INTERVAL_S, Storage
from tuner.worker.worker import MAX_POLL_INTERVAL_S

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


PROCESSES = 4
SIZES = ("statements a second", "server CPU, cores", "connections", "longest answer, ms")


class Crowd:
    """The workers of one process."""

    def __init__(self, url: str, *, training: bool, epoch_s: float) -> None:
        self.url, self.training, self.epoch_s = url, training, epoch_s
        self.statements = 0
        self.longest = 0.0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._opening = threading.Semaphore(2)

    def worker(self) -> None:
        """Be one worker until it is over."""
        with self._opening:
            store = Storage.open(self.url, connections=WORKER_CONNECTIONS)
        with store:
            event.listen(store.context.database.writer, "before_cursor_execute", self._count)
            study_id = store.studies.get("organs").study_id
            worker = store.workers.register(pid=1, device="cpu", study="organs", version="1", host="elsewhere")
            beating = threading.Thread(target=self._beat, args=(store, worker))
            beating.start()
            self._train(store, study_id, worker) if self.training else self._look(store, study_id, worker)
            beating.join()

    def _train(self, store: Storage, study_id: int, worker: str) -> None:
        claim = store.trials.claim(study_id, worker)
        assert claim is not None
        store.trials.set_params(claim, point(), SPACE)
        number = 0
        while not self._rest(self.epoch_s):
            number += 1
            self._timed(partial(store.epochs.report, claim, epoch(number), peers=True))

    def _look(self, store: Storage, study_id: int, worker: str) -> None:
        while not self._rest(MAX_POLL_INTERVAL_S):
            self._timed(lambda: store.workers.requeue_lost(study_id))
            self._timed(lambda: store.trials.claim(study_id, worker))
            self._timed(lambda: store.queries.phase("organs"))

    def _beat(self, store: Storage, worker: str) -> None:
        while not self._rest(HEARTBEAT_INTERVAL_S):
            self._timed(lambda: store.workers.heartbeat(worker, progress={"rss_mib": 400}))
            if self.training:
                self._timed(lambda: store.studies.get("organs"))

    def _rest(self, seconds: float) -> bool:
        return self.over.wait(seconds * random.uniform(0.75, 1.25))

    def _timed(self, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        self.longest = max(self.longest, time.perf_counter() - began)

    def _count(self, *ignored: object) -> None:
        with self._lock:
            self.statements += 1


def process(arguments: dict[str, Any], count: int, go: Any, over: Any, told: Any) -> None:
    """Run the workers of one process; count from `go` to `over`."""
    crowd = Crowd(**arguments)
    threads = [threading.Thread(target=crowd.worker) for _ in range(count)]
    for thread in threads:
        thread.start()
    go.wait()
    crowd.statements, crowd.longest = 0, 0.0
    over.wait()
    told.put((crowd.statements, crowd.longest))
    crowd.over.set()
    for thread in threads:
        thread.join()


def measure(server: Server, *, workers: int, training: bool, seconds: float, epoch_s: float) -> tuple[float, ...]:
    """Return the figures of SIZES."""
    url = server.new_database()
    with Storage.open(url, create=True) as store:
        store.studies.create(new_study(trials=workers))
        if not training:
            store.studies.pause("organs")
    context = multiprocessing.get_context("fork")
    go, over, told = context.Event(), context.Event(), context.SimpleQueue()
    arguments = {"url": url, "training": training, "epoch_s": epoch_s}
    shares = [workers // PROCESSES + (index < workers % PROCESSES) for index in range(PROCESSES)]
    crowds = [context.Process(target=process, args=(arguments, share, go, over, told)) for share in shares]
    for crowd in crowds:
        crowd.start()
    with psycopg.connect(url, autocommit=True) as watcher:
        query = "SELECT count(*) FROM tuner_workers"
        while (found := watcher.execute(query).fetchone()) is None or found[0] < workers:
            time.sleep(0.2)
        time.sleep(2 * HEARTBEAT_INTERVAL_S)
        go.set()
        before, began, most = cpu_of(server), time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            activity = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tuner'"
            row = watcher.execute(activity).fetchone()
            most = max(most, int(row[0]) if row else 0)
            time.sleep(0.5)
        used, wall = cpu_of(server) - before, time.perf_counter() - began
        over.set()
        results = [told.get() for _ in crowds]
    for crowd in crowds:
        crowd.join()
    return (sum(r[0] for r in results) / wall, used / wall, most, 1000 * max(r[1] for r in results))


def main() -> None:
    """Measure idle and training crowds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=numbers, default=[50, 200])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--epoch", type=float, default=10.0)
    options = parser.parse_args()
    print(f"| workers | they are | {' | '.join(SIZES)} |\n|{'---|' * (2 + len(SIZES))}", flush=True)
    with running_server(durable=True, connections=500) as server:
        for workers in options.workers:
            for training in (False, True):
                figures = measure(
                    server, workers=workers, training=training, seconds=options.seconds, epoch_s=options.epoch
                )
                rate, cpu, most, longest = figures
                kind = f"training, an epoch in {options.epoch:g} s" if training else "idle"
                print(f"| {workers} | {kind} | {rate:.0f} | {cpu:.2f} | {most:.0f} | {longest:.0f} |", flush=True)


if __name__ == "__main__":
    main()
