"""Where a fault scenario takes place: a storage, folders, a study of seconds, its processes, and dice with a seed."""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import bookkeeping
from tests.faults.processes import WorkerPool
from tests.faults.slow_worker import Nursery
from tests.postgres import Server
from tests.worker.studies import create, settings, tiny
from tuner.config.study import StudySpec
from tuner.data.preparation import prepare
from tuner.settings import Settings
from tuner.storage.storage import Storage

EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    trials: int = 4
    kills: int = 4
    pause_s: float = 1.5
    """Longest pause between two kills."""
    restarts: int = 2
    workers: int = 2
    outage_s: float = 3.0
    """How long the longest absence of the database, or of the network, lasts."""
    repeated: int = 1
    """Continued trials that are compared with an undisturbed training."""
    fresh: float = 0.0
    """Share of workers that are started as anybody starts them, instead of by a fork."""


SMALL = Scale()


@dataclass
class FaultEnvironment:
    """One scenario's place."""

    folder: Path
    url: str
    scale: Scale
    chance: random.Random
    stack: ExitStack
    nursery: Nursery | None = None
    server: Server | None = None
    """The PostgreSQL server behind `url`, when that is a scenario's own and may be stopped."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def places(self) -> Settings:
        """The storage and the folders."""
        return settings(self.folder, self.url)

    @property
    def log(self) -> Path:
        """What the processes say."""
        return self.folder / "log"

    def store(self) -> Storage:
        """Open the storage, until the end of the scenario."""
        return self.stack.enter_context(Storage.open(self.url, create=True))

    def crew(self, places: Settings | None = None, *, fresh: float | None = None) -> WorkerPool:
        """Return processes that end with the scenario."""
        share = self.scale.fresh if fresh is None else fresh
        seed = self.chance.randrange(10**6)
        return self.stack.enter_context(
            WorkerPool(places or self.places, self.log, nursery=self.nursery, fresh=share, seed=seed)
        )

    def study(self, store: Storage, *overrides: str, name: str = "tiny", trials: int | None = None) -> StudySpec:
        """Store a study whose epochs take a fraction of a second, and prepare its data."""
        spec = plan(*overrides, name=name, trials=trials or self.scale.trials)
        create(store, spec)
        prepare(spec.base.dataset, data_root=None, cache=self.places.cache, seed=spec.seed)
        return spec

    def check(self, store: Storage, spec: StudySpec, *, places: Settings | None = None) -> dict[str, Any]:
        """Check the books and return figures for the summary."""
        again = self.folder / f"again-{spec.name}"
        found = bookkeeping.check(store, places or self.places, spec, again=again, most=self.scale.repeated)
        shutil.rmtree(again, ignore_errors=True)
        return {
            "trials": found.trials,
            "attempts": found.attempts,
            "continued": found.continued,
            "epochs kept": found.kept,
            "compared with an undisturbed one": found.repeated,
            "seconds": round(time.monotonic() - self.begun),
        }


def plan(*overrides: str, name: str = "tiny", trials: int) -> StudySpec:
    """Return a study in which every trial is a published default or comes from the sampler."""
    budget = f"budget={{trials: {trials}, retries: 1000}}"
    return tiny(f"train.epochs={EPOCHS}", budget, "dataset.slices=12", "pruner=none", f"name={name}", *overrides)


@contextmanager
def ground(
    folder: Path,
    url: str,
    *,
    seed: int,
    scale: Scale = SMALL,
    nursery: Nursery | None = None,
    server: Server | None = None,
) -> Iterator[FaultEnvironment]:
    """Make the place of a scenario; its processes are gone afterwards."""
    with ExitStack() as stack:
        yield FaultEnvironment(folder, url, scale, random.Random(seed), stack, nursery, server)
