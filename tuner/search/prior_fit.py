"""Learns what the sampler `auto` begins with from the curves of several tasks: results, and how points covary."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

from tuner.search.kernel import Amplitudes, Encoder, Interval, KernelSettings, Points, covariance
from tuner.search.replay import Task, space_of
from tuner.search.space import SearchSpace
from tuner.search.task_prior import PriorRow, PriorTask, TaskPrior, shipped_prior
from tuner.search.trial_table import Floats

MIN_CONFIGURATIONS = 14
"""Configurations of a task below which nothing is learnt from it: one of each loss."""

_START = (0.4, 0.2, 0.4, 0.3, 0.15, 0.3, 0.15)
"""Of the variances: shared and own, of the loss, what is common and the branch; and of the noise."""
_LENGTHS = (0.4, 1.5, 1.0)
"""Of the learning rate, of other numbers that all trials have, and of the options of losses."""
_WIDTH = 1.0
"""Standard deviation of the logarithms around these, before anything is learnt."""


def learn_prior(
    tasks: Iterable[Task],
    *,
    metrics: Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> TaskPrior:
    """Return the prior that some tasks give.

    Args:
        tasks: With their trainings.
        metrics: What was measured, by task.
        facts: Fingerprints of their data, by task.
    """
    known = list(tasks)
    space = space_of([configuration.params for task in known for configuration in task.configurations])
    rows = tuple(
        PriorTask(
            task.name,
            (metrics or {}).get(task.name, "dice"),
            tuple(
                PriorRow(c.params, float(mean), len(c.curves))
                for c, mean in zip(task.configurations, task.means, strict=True)
            ),
            (facts or {}).get(task.name, {}),
            None if math.isnan(task.noise) else task.noise,
        )
        for task in known
    )
    intervals = {d.name: Interval(d.low, d.high, d.log) for d in space if d.kind != "categorical"}
    return TaskPrior(rows, _fit(rows, space, intervals), intervals)


def prior_without(name: str, tasks: Mapping[str, Task]) -> TaskPrior:
    """Return what a search of one task may begin with: what the other tasks tell, or else the shipped ones."""
    others = [task for key, task in tasks.items() if key != name and len(task.configurations) >= MIN_CONFIGURATIONS]
    if others:
        return learn_prior(others)
    shipped = shipped_prior()
    return replace(shipped, tasks=tuple(task for task in shipped.tasks if task.name != name))


def _settings(logs: Floats, space: SearchSpace) -> KernelSettings:
    values = np.exp(logs)
    rate, common, option = values[7:]
    lengths = {
        d.name: float(option if d.when is not None else rate if d.name == "train.lr" else common)
        for d in space
        if d.name != "loss"
    }
    return KernelSettings(
        Amplitudes(*map(float, values[:3])), Amplitudes(*map(float, values[3:6])), float(values[6]), lengths
    )


def _fit(tasks: Sequence[PriorTask], space: SearchSpace, intervals: Mapping[str, Interval]) -> KernelSettings:
    """Return the settings under which the results are likeliest, drawn a little towards where the fit starts."""
    start = np.log([*_START, *_LENGTHS])
    z, seeds, number = [], [], []
    for i, task in enumerate(tasks):
        values = np.array([row.value for row in task.rows])
        z.append((values - values.mean()) / (values.std() or 1.0))
        seeds += [float(row.seeds) for row in task.rows]
        number += [i] * len(values)
    points = [row.params for task in tasks for row in task.rows]
    same = np.equal.outer(number, number)

    def loss(logs: Floats) -> float:
        settings = _settings(logs, space)
        encoded = Encoder(space, settings, intervals).encode(points)
        found = _unlikelihood(encoded, np.concatenate(z), np.array(seeds), same, settings)
        return found + 0.5 * float((((logs - start) / _WIDTH) ** 2).sum())

    best = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-5})
    return _settings(np.round(best.x, 3), space)


def _unlikelihood(points: Points, z: Floats, seeds: Floats, same: Any, settings: KernelSettings) -> float:
    """Return minus the logarithm of the likelihood of z [n]."""
    shared, own = covariance(points, points, [settings.shared, settings.own])
    full = shared + own * same + np.diag(settings.noise / seeds + 1e-8)
    factor = cholesky(full, lower=True)
    return float(0.5 * z @ cho_solve((factor, True), z) + np.log(np.diag(factor)).sum())
