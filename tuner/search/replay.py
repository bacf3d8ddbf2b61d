"""Replays a search on recorded learning curves: any sampler and pruner, in seconds, at the cost that training had.

A proposal is mapped to the nearest recorded configuration of the same loss that the search has not taken yet, and one
of its seeds is drawn. Parallel workers are simulated by a queue of events: every epoch ends at its recorded time, and a
sampler or pruner knows what has ended by then. The cost is the sum of the recorded seconds of all epochs run.

The regret at a cost is that of the configuration that would be recommended then, the complete trial with the best
value: how far its mean over all recorded seeds lies below the best mean. So a lucky seed is worth nothing. Before a
trial is complete it is that of a configuration drawn at random. A training that diverged counts as the worst value.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from tuner.errors import SpecError, UnknownNameError
from tuner.registry import Scalar
from tuner.search.catalog import PRUNERS, SAMPLERS
from tuner.search.curve_table import Curve
from tuner.search.distributions import single, to_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.pruners import Peers, Pruner, make_pruner
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Floats

LOG_RATIO = 20.0
"""An interval of positive numbers whose ends differ by more is searched on a logarithmic scale."""
POINTS = 50
"""Costs at which the regret is told."""
LOW, HIGH = 0.1, 0.9
"""Quantiles of the repeats between which the band lies."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One recorded configuration with all its trainings."""

    name: str
    loss: str
    params: dict[str, Scalar]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What was recorded of one task."""

    name: str
    configurations: tuple[Configuration, ...]
    space: SearchSpace
    epochs: int
    means: Floats = field(repr=False)
    """Mean over seeds of the value of each configuration."""
    noise: float = math.nan
    """Standard deviation of a value between seeds, pooled over configurations."""

    @property
    def best(self) -> int:
        """The place of the configuration with the best mean."""
        return int(np.argmax(self.means))


def read_tasks(curves: Iterable[Curve]) -> dict[str, Task]:
    """Group the complete trainings of a table by task. Raises SpecError when a task has fewer than two of them."""
    grouped: dict[str, dict[str, list[Curve]]] = {}
    for curve in curves:
        if curve.is_complete and curve.values:
            grouped.setdefault(curve.task, {}).setdefault(curve.configuration, []).append(curve)
    return {name: _task(name, found) for name, found in grouped.items()}


def _task(name: str, found: Mapping[str, Sequence[Curve]]) -> Task:
    if len(found) < 2:
        raise SpecError(
            [f"task {name}: {len(found)} configuration was trained to the end; a replay needs at least two"]
        )
    configurations = tuple(
        Configuration(key, curves[0].loss, {"loss": curves[0].loss, **curves[0].params}, tuple(curves))
        for key, curves in found.items()
    )
    worst = min((c.best for group in found.values() for c in group if not math.isnan(c.best)), default=0.0)
    values = [[worst if c.diverged else c.best for c in configuration.curves] for configuration in configurations]
    spread = [(sum((v - np.mean(vs)) ** 2 for v in vs), len(vs) - 1) for vs in values if len(vs) > 1]
    noise = math.sqrt(sum(s for s, _ in spread) / sum(n for _, n in spread)) if spread else math.nan
    epochs = max(c.epochs for group in found.values() for c in group)
    means = np.array([float(np.mean(vs)) for vs in values])
    return Task(name, configurations, space_of(configurations), epochs, means, noise)


def space_of(configurations: Sequence[Configuration]) -> SearchSpace:
    """Return the smallest space that holds the configurations: intervals of numbers, lists of what else occurs."""
    values: dict[str, list[Scalar]] = {}
    for configuration in configurations:
        for name, value in configuration.params.items():
            values.setdefault(name, []).append(value)
    losses = set(values["loss"])
    dimensions = [_dimension(name, found, losses) for name, found in values.items()]
    return SearchSpace(tuple(sorted(dimensions, key=lambda d: (d.when is not None, d.name != "loss", d.name))))


def _dimension(name: str, values: Sequence[Scalar], losses: Iterable[Scalar]) -> Dimension:
    parts = name.split(".")
    when = ("loss", parts[1]) if len(parts) > 2 and parts[0] == "loss" and parts[1] in losses else None
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if name == "loss" or len(numbers) < len(values) or len({*numbers}) < 2:
        choices = {(type(v).__name__, v): v for v in values}
        return Dimension(name, "categorical", choices=tuple(choices[k] for k in sorted(choices, key=str)), when=when)
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low > LOG_RATIO
    return Dimension(
        name, "int" if all(isinstance(v, int) for v in numbers) else "float", low, high, log=log, when=when
    )


class Nearest:
    """Finds the recorded configuration of a loss that is nearest to a point."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._by_loss: dict[str, list[int]] = {}
        for i, configuration in enumerate(task.configurations):
            self._by_loss.setdefault(configuration.loss, []).append(i)

    def find(self, params: Mapping[str, Scalar], taken: Iterable[int]) -> int | None:
        """Return the place of the nearest one not taken; of any loss when those of the point's are used up."""
        gone = set(taken)
        left = [i for i in self._by_loss.get(str(params.get("loss")), ()) if i not in gone]
        left = left or [i for i in range(len(self._task.configurations)) if i not in gone]
        return min(left, key=lambda i: (self._far(params, self._task.configurations[i].params), i)) if left else None

    def _far(self, one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> float:
        total = 0.0
        for dimension in self._task.space:
            name = dimension.name
            if single(dimension) or name not in one or name not in other:
                continue
            if dimension.kind == "categorical":
                total += float(one[name] != other[name])
            else:
                total += (to_unit(dimension, one[name]) - to_unit(dimension, other[name])) ** 2
        return total


@dataclass(slots=True)
class _Trial:
    number: int
    configuration: int
    curve: Curve
    bracket: int
    epoch: int = 0
    state: str = "RUNNING"
    bests: list[float] = field(default_factory=list)
    """The best value up to each epoch."""


@dataclass(slots=True)
class Run:
    """What one search did: its recommendation after each complete trial, and what it cost until then."""

    costs: list[float] = field(default_factory=list)
    recommended: list[int] = field(default_factory=list)
    cost: float = 0.0
    complete: int = 0
    pruned: int = 0


class Search:
    """One replayed search of our samplers and pruners."""

    def __init__(
        self, task: Task, *, sampler: str, sampler_options: Mapping[str, Any], pruner: str, parallel: int, seed: int
    ) -> None:
        self.task, self.parallel = task, parallel
        self.rng = np.random.default_rng([seed, 77])
        self.nearest = Nearest(task)
        self.sampler = make_sampler(sampler, task, sampler_options, seed)
        self.pruner: Pruner = make_pruner(pruner, {}, epochs=task.epochs)
        self.trials: list[_Trial] = []
        self.finished = 0

    def run(self, trials: int) -> Run:
        """Run so many trials, or as many as there are configurations."""
        found, ticket = Run(), count()
        budget = min(trials, len(self.task.configurations))
        best: tuple[float, int] | None = None
        events: list[tuple[float, int, _Trial | None]]
        events = [(0.0, next(ticket), None) for _ in range(min(self.parallel, budget))]
        while events:
            now, _, trial = heapq.heappop(events)
            if trial is not None:
                found.cost += trial.curve.seconds[trial.epoch]
                self._advance(trial)
                if trial.state == "RUNNING":
                    heapq.heappush(events, (now + trial.curve.seconds[trial.epoch], next(ticket), trial))
                    continue
                self.finished += 1
                self.sampler.observe([self._seen(trial)])
                if trial.state == "COMPLETE":
                    found.complete += 1
                    if best is None or trial.bests[-1] > best[0]:
                        best = (trial.bests[-1], trial.configuration)
                        found.costs.append(found.cost)
                        found.recommended.append(trial.configuration)
                else:
                    found.pruned += 1
            if len(self.trials) < budget:
                trial = self._next()
                heapq.heappush(events, (now + trial.curve.seconds[0], next(ticket), trial))
        return found

    def _next(self) -> _Trial:
        slot = len(self.trials)
        running = [self._seen(t) for t in self.trials if t.state == "RUNNING"]
        params = self.sampler.suggest(slot, fixed={}, running=running)
        place = self.nearest.find(params, (t.configuration for t in self.trials))
        assert place is not None
        curves = self.task.configurations[place].curves
        trial = _Trial(slot, place, curves[int(self.rng.integers(len(curves)))], self.pruner.bracket(slot))
        self.trials.append(trial)
        return trial

    def _advance(self, trial: _Trial) -> None:
        """Let a trial finish its epoch, and judge it."""
        value = trial.curve.values[trial.epoch]
        trial.epoch += 1
        if math.isnan(value):
            trial.state = "DIVERGED"
            return
        trial.bests.append(max(value, trial.bests[-1]) if trial.bests else value)
        if trial.epoch == len(trial.curve.values):
            trial.state = "COMPLETE"
        elif self.pruner.should_check(trial.epoch, 0, bracket=trial.bracket):
            why = self.pruner.decide(trial.epoch, self._peers(trial))
            trial.state = "PRUNED" if why else "RUNNING"

    def _peers(self, trial: _Trial) -> Peers:
        """Count as the storage does: by the best value so far, at the same epoch, in the same bracket."""
        at, mine = trial.epoch - 1, trial.bests[-1]
        others = [t for t in self.trials if t is not trial and t.bracket == trial.bracket and len(t.bests) > at]
        same = [t for t in others if t.curve.loss == trial.curve.loss]
        better, same_better = (sum(t.bests[at] > mine for t in group) for group in (others, same))
        return Peers(self.finished, len(same), same_better, len(others), better)

    def _seen(self, trial: _Trial) -> FinishedTrial:
        params = self.task.configurations[trial.configuration].params
        if trial.state == "COMPLETE":
            return FinishedTrial(trial.number, "COMPLETE", params, (trial.bests[-1],))
        if trial.state == "PRUNED":
            last = (trial.epoch, trial.curve.values[trial.epoch - 1])
            return FinishedTrial(trial.number, "PRUNED", params, last=last)
        if trial.state == "DIVERGED":
            return FinishedTrial(trial.number, "PRUNED", params, feasible={"memory": -1.0, "finite": 1.0})
        return FinishedTrial(trial.number, "RUNNING", params)


def make_sampler(name: str, task: Task, options: Mapping[str, Any], seed: int) -> Any:
    """Make one of our samplers, or one of Optuna's (`optuna_tpe` and the like) to compare with."""
    if name in OPTUNA_SAMPLERS:
        from tuner.search.optuna_baseline import OptunaBaseline

        return OptunaBaseline(name, task.space, seed)
    if name not in SAMPLERS:
        raise UnknownNameError(kind="sampler", name=name, known=[*SAMPLERS, *OPTUNA_SAMPLERS], where="--sampler")
    return SeededSampler(task.space, ("maximize",), sampler=name, options=options, seed=seed)


OPTUNA_SAMPLERS = ("optuna_tpe", "optuna_tpe_multivariate", "optuna_gp")
"""Optuna's own, as it ships them: the default TPE; multivariate, by group, with constant liar; Gaussian process."""


def replay(
    task: Task,
    *,
    sampler: str = "tpe",
    sampler_options: Mapping[str, Any] | None = None,
    pruner: str = "median",
    parallel: int = 1,
    trials: int | None = None,
    repeats: int = 50,
    seed: int = 0,
) -> dict[str, Any]:
    """Replay a search several times, with other seeds; return the document of `tuner bench replay --json`.

    Args:
        task: What was recorded.
        sampler: A name in our catalogue, or in `OPTUNA_SAMPLERS`.
        sampler_options: Those of the sampler; what is left out takes its default.
        pruner: A name in our catalogue.
        parallel: Workers.
        trials: Of one search; None, or more than there are configurations: all of them.
        repeats: Searches.
        seed: Of the first search; the others have the next ones.

    Raises:
        UnknownNameError: There is no such sampler or pruner.
        SpecError: The sampler cannot search this space.
    """
    PRUNERS.find(pruner, where="--pruner")
    budget = len(task.configurations) if trials is None else min(trials, len(task.configurations))
    runs = [
        Search(
            task,
            sampler=sampler,
            sampler_options=sampler_options or {},
            pruner=pruner,
            parallel=parallel,
            seed=seed + i,
        ).run(budget)
        for i in range(repeats)
    ]
    grid = np.linspace(0.0, max(run.cost for run in runs), POINTS + 1)[1:]
    regrets = np.array([[regret_at(task, run, cost) for cost in grid] for run in runs])
    mean = regrets.mean(axis=0)
    low, high = np.quantile(regrets, LOW, axis=0), np.quantile(regrets, HIGH, axis=0)
    best = float(task.means[task.best])
    reach = {"one_percent": 0.01 * abs(best), "noise": task.noise}
    return {
        "task": task.name,
        "sampler": sampler,
        "pruner": pruner,
        "parallel": parallel,
        "repeats": repeats,
        "trials": budget,
        "configurations": len(task.configurations),
        "cost_unit": "seconds of training",
        "curve": [
            {"cost": float(c), "regret_mean": float(m), "regret_low": float(lo), "regret_high": float(hi)}
            for c, m, lo, hi in zip(grid, mean, low, high, strict=True)
        ],
        "final": {
            "cost": float(np.mean([run.cost for run in runs])),
            "regret_mean": float(mean[-1]),
            "regret_low": float(low[-1]),
            "regret_high": float(high[-1]),
            "complete": float(np.mean([run.complete for run in runs])),
            "pruned": float(np.mean([run.pruned for run in runs])),
            "best_mean": best,
            "best_configuration": task.configurations[task.best].name,
            "noise": None if math.isnan(task.noise) else task.noise,
            "seconds_to": {name: _seconds_to(grid, mean, limit) for name, limit in reach.items()},
        },
    }


def regret_at(task: Task, run: Run, cost: float) -> float:
    """Return the regret of what a run would recommend once it has cost so much."""
    best = float(task.means[task.best])
    known = [i for i, spent in zip(run.recommended, run.costs, strict=True) if spent <= cost + 1e-9]
    return best - float(task.means[known[-1]] if known else task.means.mean())


def _seconds_to(grid: Floats, mean: Floats, limit: float) -> float | None:
    """Return the cost from which on the mean regret stays within a limit; None when it does not."""
    above = np.flatnonzero(~(mean <= limit))
    first = int(above[-1]) + 1 if len(above) else 0
    return float(grid[first]) if first < len(grid) else None
