"""Scenarios in which the database, the network or the disk fails. Each returns figures once the books are in order."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

from sqlalchemy.engine import make_url

from tests.faults.environment import FaultEnvironment
from tests.faults.processes import WorkerPool, holders, wait_until
from tests.storage.proxy import Proxy
from tuner.storage.storage import HEARTBEAT_TIMEOUT_S, Storage

LONGER = "train.epochs=12"


def restarts(here: FaultEnvironment) -> dict[str, Any]:
    """PostgreSQL is stopped, ended at once or killed, and comes back; no worker ends over it."""
    server = here.server
    assert server is not None
    store, crew = here.store(), here.crew()
    ends = {"stopped": server.stop, "ended at once": lambda: server.stop(hard=True), "kill -9": server.kill}
    spec = here.study(store, LONGER)
    crew.ensure_running(spec.name, here.scale.workers)
    wait_until(lambda: len(holders(store, spec.name)) == here.scale.workers, seconds=600, log=here.log)
    how = [list(ends)[index % 3] for index in range(here.scale.restarts)]
    here.chance.shuffle(how)
    away_s = 0.0
    for index, name in enumerate(how):
        time.sleep(here.chance.uniform(1.0, 4.0))
        assert store.queries.phase(spec.name)[0] == "running", "the study ended too early for so many restarts"
        ends[name]()
        pause = here.scale.outage_s if index == len(how) // 2 else here.chance.uniform(0.2, 3.0)
        time.sleep(pause)
        server.start()
        away_s += pause
    assert all(map(crew.lives, crew.workers)), here.log.read_text()[-4000:]
    crew.wait_for_the_end(store, spec.name, seconds=6000)
    figures = {"workers": here.scale.workers, "away for s": round(away_s)}
    return {name: how.count(name) for name in ends} | figures | here.check(store, spec)


def cut_network(here: FaultEnvironment) -> dict[str, Any]:
    """Nobody reaches the database: connections are cut and refused, then held up. Nobody is taken for lost."""
    store, crew = here.store(), here.crew()
    spec = here.study(store, LONGER)
    with _wired(here) as (wire, places):
        far = _far(here, crew, spec.name, places, count=here.scale.workers)
        wait_until(lambda: len(holders(store, spec.name)) == len(far), seconds=600, log=here.log)
        for kind in ("refused", "held up"):
            time.sleep(here.chance.uniform(0.5, 2.0))
            wire.block(silently=kind == "held up")
            time.sleep(here.scale.outage_s)
            wire.unblock()
        assert all(map(crew.lives, far)), here.log.read_text()[-4000:]
        crew.wait_for_the_end(store, spec.name, seconds=6000)
        lost = _reasons(store, spec.name).count("worker_lost")
        assert lost == 0
        return {"cut for s": 2 * here.scale.outage_s, "taken for lost": lost} | here.check(store, spec)


def cut_off_worker(here: FaultEnvironment) -> dict[str, Any]:
    """One of two workers is cut off for longer than the grace time: its trial goes to the other one, once."""
    store, crew = here.store(), here.crew()
    spec = here.study(store, LONGER)
    with _wired(here) as (wire, places):
        crew.work(spec.name)
        (far,) = _far(here, crew, spec.name, places, count=1)
        wait_until(lambda: far in holders(store, spec.name), seconds=600, log=here.log)
        number = holders(store, spec.name)[far]
        wire.block()
        began = time.monotonic()
        gone = lambda: store.queries.trials(spec.name, all_attempts=True, numbers=[number])[0]["state"] == "FAIL"  # noqa: E731
        wait_until(gone, seconds=4 * HEARTBEAT_TIMEOUT_S, log=here.log)
        away_s = time.monotonic() - began
        wire.unblock()
        crew.wait_for_the_end(store, spec.name, seconds=6000)
        assert _reasons(store, spec.name).count("worker_lost") == 1
        return {"cut off for s": round(away_s)} | here.check(store, spec)


def full_disk(here: FaultEnvironment, *, database_too: bool = False) -> dict[str, Any]:
    """The disk of the artifacts runs full while workers train: they stop in words, and go on when there is space."""
    with _small_disk(here.folder / "small") as disk:
        url = f"sqlite:///{disk / 'tuner.db'}" if database_too else here.url
        places = replace(here.places, artifacts=disk / "artifacts", storage=url)
        store = here.stack.enter_context(Storage.open(url, create=True))
        crew = here.crew(places, fresh=1.0)
        spec = here.study(store, LONGER)
        crew.ensure_running(spec.name, 2)
        wait_until(lambda: bool(list(disk.glob("artifacts/*/*/last.ckpt"))), seconds=600, log=here.log)
        _fill(disk / "ballast")
        wait_until(lambda: not any(map(crew.lives, crew.workers)), seconds=600, log=here.log)
        codes = sorted(crew.code(pid, seconds=5) for pid in crew.workers)
        said = here.log.read_text()
        assert "no space left" in said, said
        (disk / "ballast").unlink()
        left = store.queries.status(spec.name)["trials"]
        assert left["total"] == sum(value for key, value in left.items() if key != "total")
        crew.workers.clear()
        crew.wait_for_the_end(store, spec.name, seconds=1800, count=2)
        figures = here.check(store, spec, places=places)
        store.close()
        return {"exit codes": " ".join(map(str, codes)), "of the database": database_too} | figures


def _far(here: FaultEnvironment, crew: WorkerPool, study: str, url: str, *, count: int) -> list[int]:
    return [crew.work(study, storage=url) for _ in range(count)]


@contextmanager
def _wired(here: FaultEnvironment) -> Iterator[tuple[Proxy, str]]:
    """A wire to the database that can be cut, and the storage's URL at its other end."""
    url = make_url(here.url)
    assert url.port is not None
    wire = Proxy(url.port)
    try:
        yield wire, url.set(port=wire.port).render_as_string(hide_password=False)
    finally:
        wire.close()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own in memory; only root may make one."""
    folder.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        run(["umount", "-l", str(folder)], check=True, capture_output=True)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12):
            try:
                while ballast.write(b"\0" * size):
                    pass
            except OSError:
                continue


def _reasons(store: Storage, name: str) -> list[str | None]:
    return [row["reason"] for row in store.queries.trials(name, all_attempts=True)]
