"""What other data sets tell before a search begins: results of LossBench's tasks, as a small file of the package.

`benchmarks/lossbench/make_prior.py` writes the file from the table of curves.
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from tuner.registry import Scalar
from tuner.search.kernel import Amplitudes, Interval, KernelSettings

FILE = "lossbench_prior.json.gz"


@dataclass(frozen=True, slots=True)
class PriorRow:
    """One configuration of a task: its mean value over so many seeds, higher is better."""

    params: Mapping[str, Scalar]
    value: float
    seeds: float


@dataclass(frozen=True, slots=True)
class PriorTask:
    """A data set on which configurations were trained."""

    name: str
    metric: str
    rows: tuple[PriorRow, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its fingerprint, see `tuner.analysis.data_facts`."""
    noise: float | None = None
    """Standard deviation of a value between seeds."""


@dataclass(frozen=True, slots=True)
class TaskPrior:
    """Tasks, and the covariance that explains their results best."""

    tasks: tuple[PriorTask, ...] = ()
    settings: KernelSettings = field(default_factory=KernelSettings)
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        settings = self.settings
        return {
            "tasks": [
                {
                    "name": task.name,
                    "metric": task.metric,
                    "noise": task.noise,
                    "facts": dict(task.facts),
                    "rows": [[dict(row.params), row.value, row.seeds] for row in task.rows],
                }
                for task in self.tasks
            ],
            "kernel": {
                "shared": [settings.shared.loss, settings.shared.common, settings.shared.branch],
                "own": [settings.own.loss, settings.own.common, settings.own.branch],
                "noise": settings.noise,
                "length": settings.length,
                "lengths": dict(settings.lengths),
            },
            "intervals": {name: [i.low, i.high, i.log] for name, i in self.intervals.items()},
        }


def read_prior(content: Mapping[str, Any]) -> TaskPrior:
    """Return the prior that `as_dict` has written."""
    kernel = content["kernel"]
    tasks = tuple(
        PriorTask(
            task["name"],
            task["metric"],
            tuple(PriorRow(params, value, seeds) for params, value, seeds in task["rows"]),
            task["facts"],
            task["noise"],
        )
        for task in content["tasks"]
    )
    settings = KernelSettings(
        shared=Amplitudes(*kernel["shared"]),
        own=Amplitudes(*kernel["own"]),
        noise=kernel["noise"],
        lengths=kernel["lengths"],
        length=kernel["length"],
    )
    return TaskPrior(tasks, settings, {name: Interval(*row) for name, row in content["intervals"].items()})


@cache
def shipped_prior() -> TaskPrior:
    """Return the prior that ships with the package."""
    path = files("tuner.search") / FILE
    return read_prior(json.loads(gzip.decompress(path.read_bytes())))
