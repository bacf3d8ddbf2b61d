"""Records LossBench: complete learning curves of random configurations, as one table.

    OMP_NUM_THREADS=1 nice -n 19 python -m benchmarks.lossbench.record --data-root DIR [--cache DIR] [--minutes 60]

Continues where the table stops; ended at any moment, it loses the training under way and nothing else. `seconds` are
seconds of the process's CPU time, with one thread: what else the machine does is not in them.
"""

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import read_yaml
from tuner.search.curve_table import Curve, read_curves, write_curves
from tuner.search.sampler import SeededSampler
from tuner.training.epoch_report import Diverged

HERE = Path(__file__).parent
TABLE = HERE / "table.csv.gz"
SHIPPED = HERE.parents[1] / "studies" / "phantom.yaml"

TASKS: dict[str, dict[str, Any]] = {
    "phantom": {},
    "nuclei": {
        "dataset": {
            "name": "folder",
            "path": "nuclei",
            "size": 128,
            "validation": 0.2,
            "classes": "background=0, nucleus=255",
        },
        "train.patch": 64,
        "train.epochs": 9,
    },
    "membranes": {
        "dataset": {
            "name": "folder",
            "path": "membranes",
            "size": 256,
            "validation": 0.2,
            "classes": "background=0, membrane=255",
        },
        "train.patch": 64,
        "train.epochs": 8,
    },
    "cityscapes": {
        "dataset": {"name": "cityscapes", "size": 48, "width": 64, "validation": "test"},
        "objectives": [{"metric": "iou"}],
        "train.epochs": 9,
    },
}
"""What differs from `studies/phantom.yaml`, whose space (losses, options, learning rate, weight decay) all share."""

CONFIGURATIONS = 100
FIRST = 60
"""A task can be judged from here: all tasks come so far before any goes on."""
SEEDS, MANY_SEEDS, WITH_MANY = 2, 8, 5


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    task: str
    configuration: int
    seed: int


def jobs() -> Iterator[Job]:
    """Yield all trainings in the order in which they are recorded."""
    for low, high in ((0, FIRST), (FIRST, CONFIGURATIONS)):
        for task in TASKS:
            for number in range(low, high):
                yield from (Job(task, number, seed) for seed in range(SEEDS))
        if low == 0:
            for task in TASKS:
                for number in range(WITH_MANY):
                    yield from (Job(task, number, seed) for seed in range(SEEDS, MANY_SEEDS))


def study_of(task: str) -> StudySpec:
    values = {"name": task, "train.threads": 1, "train.precision": "float32", **TASKS[task]}
    return load_spec(read_yaml(SHIPPED), values=values)


def point(spec: StudySpec, number: int) -> dict[str, Any]:
    """Draw configuration `number`: the losses in turn, everything else independently at random."""
    sampler = SeededSampler(spec.space, spec.directions, sampler="random", options={}, seed=20)
    losses = [candidate.name for candidate in spec.candidates]
    return sampler.suggest(number, fixed={"loss": losses[number % len(losses)]})


def record(job: Job, *, data_root: Path, cache: Path, epochs: int | None = None) -> Curve:
    """Train; with `epochs`, give up after so many."""
    from tuner.data.preparation import prepare
    from tuner.training.trainer import train

    spec = study_of(job.task)
    params = point(spec, job.configuration)
    config = spec.config(params)
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": job.seed})})
    data = prepare(config.dataset, data_root=data_root, cache=cache, seed=spec.seed)
    metric = spec.objectives[0].metric
    values: list[float] = []
    seconds: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="lossbench"))
    began = time.process_time()
    try:
        with closing(train(config, data=data, device="cpu", folder=folder / "run", stop=lambda: False)) as reports:
            for report in reports:
                value = report.metrics.get(metric)
                values.append(0.0 if value is None else float(value))
                seconds.append(time.process_time() - began)
                if report.epoch == epochs:
                    break
                began = time.process_time()
    except Diverged:
        values.append(math.nan)
        seconds.append(time.process_time() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Curve(
        job.task,
        f"{job.task}-{job.configuration:03d}",
        str(params["loss"]),
        params,
        job.seed,
        config.train.epochs,
        tuple(values),
        tuple(seconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True, type=Path, help="holds nuclei/, membranes/, cityscapes/")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lossbench-cache")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no training after so long")
    parser.add_argument("--task", choices=list(TASKS), help="only this one")
    arguments = parser.parse_args()
    curves = read_curves(arguments.table) if arguments.table.exists() else []
    known = {(curve.configuration, curve.seed) for curve in curves}
    left = [
        job
        for job in jobs()
        if arguments.task in (None, job.task) and (f"{job.task}-{job.configuration:03d}", job.seed) not in known
    ]
    until = time.monotonic() + 60 * arguments.minutes
    if left:
        record(
            left[0], data_root=arguments.data_root, cache=arguments.cache, epochs=1
        )  # what is imported once counts not
    for done, job in enumerate(left, start=1):
        if time.monotonic() > until:
            break
        curve = record(job, data_root=arguments.data_root, cache=arguments.cache)
        curves.append(curve)
        write_curves(arguments.table, curves)
        print(
            f"{done}/{len(left)} {curve.configuration} seed {curve.seed} {curve.loss}: {curve.best:.4f}, "
            f"{sum(curve.seconds):.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
