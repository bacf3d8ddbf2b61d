"""Replays a search on recorded learning curves: any sampler and pruner, in seconds, at the cost that training had.

A proposal is mapped to the nearest recorded configuration of the same loss that the search has not taken yet, and one
of its seeds is drawn. Parallel workers are simulated by a queue of events: every epoch ends at its recorded time, and a
sampler or pruner knows what has ended by then. The cost is the sum of the recorded seconds of all epochs run.

The regret at a cost is that of the configuration that would be recommended then, the complete trial with the best
value, or with the best expected mean where the sampler estimates one: how far its mean over all recorded seeds lies
below the best mean. So a lucky seed is worth nothing. Before a trial is complete it is that of a configuration drawn
at random. A training that diverged counts as the worst value.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import SpecError, UnknownNameError
from tuner.registry import Scalar
from tuner.search.catalog import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS, SAMPLERS
from tuner.search.curve_table import Curve
from tuner.search.distributions import single, to_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.pruners import Peers, make_pruner
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace
from tuner.search.task_prior import TaskPrior
from tuner.search.trial_table import Floats

if TYPE_CHECKING:
    from tuner.search.optuna_baseline import OptunaStudy

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
    values = values_of_seeds(configurations)
    noise = pooled_deviation(values)
    epochs = max(c.epochs for group in found.values() for c in group)
    means = np.array([float(np.mean(vs)) for vs in values])
    return Task(name, configurations, space_of(c.params for c in configurations), epochs, means, noise)


def values_of_seeds(configurations: Sequence[Configuration]) -> list[list[float]]:
    """Return the best value of every training, by configuration; one that diverged has the worst of all."""
    worst = min((c.best for k in configurations for c in k.curves if not math.isnan(c.best)), default=0.0)
    return [[worst if c.diverged else c.best for c in k.curves] for k in configurations]


def pooled_deviation(groups: Iterable[Sequence[float]]) -> float:
    """Return the standard deviation within groups of values; nan where no group has two."""
    spread = [(sum((v - np.mean(vs)) ** 2 for v in vs), len(vs) - 1) for vs in groups if len(vs) > 1]
    return math.sqrt(sum(s for s, _ in spread) / sum(n for _, n in spread)) if spread else math.nan


def space_of(points: Iterable[Mapping[str, Scalar]]) -> SearchSpace:
    """Return the smallest space that holds the points: intervals of numbers, lists of what else occurs."""
    values: dict[str, list[Scalar]] = {}
    for point in points:
        for name, value in point.items():
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
        params = {d.name: d.nearest(params[d.name]) for d in self._task.space if d.name in params}
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


@dataclass(frozen=True, slots=True)
class Rule:
    """How a search is done.

    Args:
        sampler: A name in our catalogue, or one of Optuna's (`optuna_tpe` and the like).
        pruner: A name in our catalogue, or one of Optuna's (`optuna_median` and the like).
        parallel: Workers.
        sampler_options: Those of the sampler; what is left out takes its default.
        pruner_options: The same for a pruner of ours.
        queue: Points that are tried first; a point may fix a part only.
        prior: What other tasks tell the sampler `auto`; None: what ships with the package.
        recommend: `value`, the complete trial with the best value; `estimate`, that with the best expected mean.
            None: the latter where the sampler estimates one, as ours does in the product.
    """

    sampler: str = DEFAULT_SAMPLER
    pruner: str = DEFAULT_PRUNER
    parallel: int = 1
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    pruner_options: Mapping[str, Any] = field(default_factory=dict)
    queue: Sequence[Mapping[str, Scalar]] = ()
    prior: TaskPrior | None = None
    recommend: str | None = None


class Search:
    """One replayed search."""

    def __init__(self, task: Task, rule: Rule, *, seed: int) -> None:
        self.task, self.rule = task, rule
        self.rng = np.random.default_rng([seed, 77])
        self.nearest = Nearest(task)
        self.trials: list[_Trial] = []
        self.finished = 0
        theirs = rule.sampler in OPTUNA_SAMPLERS, rule.pruner in OPTUNA_PRUNERS
        self.optuna = _optuna_study(task, rule, seed) if any(theirs) else None
        self.sampler = None if theirs[0] else make_sampler(rule, task, seed)
        self.pruner = make_pruner("none" if theirs[1] else rule.pruner, rule.pruner_options, epochs=task.epochs)
        self.estimator = _estimator(rule, task, seed, self.sampler)

    def run(self, trials: int) -> Run:
        """Run so many trials, or as many as there are configurations."""
        found, ticket = Run(), count()
        budget = min(trials, len(self.task.configurations))
        events: list[tuple[float, int, _Trial | None]]
        events = [(0.0, next(ticket), None) for _ in range(min(self.rule.parallel, budget))]
        while events:
            now, _, trial = heapq.heappop(events)
            if trial is not None:
                found.cost += trial.curve.seconds[trial.epoch]
                self._advance(trial)
                if trial.state == "RUNNING":
                    heapq.heappush(events, (now + trial.curve.seconds[trial.epoch], next(ticket), trial))
                    continue
                self._finish(trial)
                found.complete += trial.state == "COMPLETE"
                found.pruned += trial.state != "COMPLETE"
                best = self._recommended()
                if best is not None and (not found.recommended or best != found.recommended[-1]):
                    found.costs.append(found.cost)
                    found.recommended.append(best)
            if len(self.trials) < budget:
                trial = self._next()
                heapq.heappush(events, (now + trial.curve.seconds[0], next(ticket), trial))
        return found

    def _finish(self, trial: _Trial) -> None:
        self.finished += 1
        seen = self._seen(trial)
        if self.sampler is not None:
            self.sampler.observe([seen])
        if self.estimator is not None and self.estimator is not self.sampler:
            self.estimator.observe([seen])
        if self.optuna is not None:
            self.optuna.finish(trial.number, trial.state, trial.bests[-1] if trial.state == "COMPLETE" else None)

    def _recommended(self) -> int | None:
        """Return the configuration that would be recommended now."""
        complete = {t.number: t for t in self.trials if t.state == "COMPLETE"}
        if not complete:
            return None
        values = {number: t.bests[-1] for number, t in complete.items()}
        if self.estimator is not None:
            values = self.estimator.estimates() or values
        return complete[max(values, key=lambda number: (values[number], -number))].configuration

    def _next(self) -> _Trial:
        slot = len(self.trials)
        place = self.nearest.find(self._suggest(slot), {t.configuration for t in self.trials})
        assert place is not None
        configuration = self.task.configurations[place]
        if self.optuna is not None:
            self.optuna.start(configuration.params)
        curves = configuration.curves
        trial = _Trial(slot, place, curves[int(self.rng.integers(len(curves)))], self.pruner.bracket(slot))
        self.trials.append(trial)
        return trial

    def _suggest(self, slot: int) -> Mapping[str, Scalar]:
        fixed = self.rule.queue[slot] if slot < len(self.rule.queue) else {}
        asked = self.optuna.ask() if self.optuna is not None else {}
        if self.sampler is None:
            return {**asked, **fixed}
        running = [self._seen(t) for t in self.trials if t.state == "RUNNING"]
        return self.sampler.suggest(slot, fixed=fixed, running=running)

    def _advance(self, trial: _Trial) -> None:
        """Let a trial finish its epoch, and judge it."""
        value = trial.curve.values[trial.epoch]
        trial.epoch += 1
        if math.isnan(value):
            trial.state = "DIVERGED"
            return
        trial.bests.append(max(value, trial.bests[-1]) if trial.bests else value)
        stops = self.optuna is not None and self.optuna.report(trial.number, trial.epoch, value)
        if trial.epoch == len(trial.curve.values):
            trial.state = "COMPLETE"
        elif stops:
            trial.state = "PRUNED"
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


OPTUNA_SAMPLERS = ("optuna_tpe", "optuna_tpe_multivariate", "optuna_gp", "optuna_random")
"""Optuna's own: the default TPE; multivariate, by group, with constant liar; Gaussian process; random."""
OPTUNA_PRUNERS = ("optuna_median", "optuna_hyperband", "optuna_asha")
"""Optuna's own, with its defaults."""


def make_sampler(rule: Rule, task: Task, seed: int) -> SeededSampler:
    """Make one of our samplers. Raises UnknownNameError, SpecError."""
    if rule.sampler not in SAMPLERS:
        raise UnknownNameError(
            kind="sampler", name=rule.sampler, known=[*SAMPLERS, *OPTUNA_SAMPLERS], where="--sampler"
        )
    if rule.sampler == "auto" and rule.prior is not None:
        from tuner.search.auto import Auto

        return SeededSampler.around(task.space, Auto(task.space, "maximize", seed, rule.prior))
    return SeededSampler(task.space, ("maximize",), sampler=rule.sampler, options=rule.sampler_options, seed=seed)


def _optuna_study(task: Task, rule: Rule, seed: int) -> "OptunaStudy":
    from tuner.search.optuna_baseline import OptunaStudy

    sampler = rule.sampler if rule.sampler in OPTUNA_SAMPLERS else None
    pruner = rule.pruner if rule.pruner in OPTUNA_PRUNERS else None
    return OptunaStudy(sampler, pruner, task.space, epochs=task.epochs, seed=seed)


def _estimator(rule: Rule, task: Task, seed: int, sampler: SeededSampler | None) -> SeededSampler | None:
    """Return what estimates means; None where the best value is recommended."""
    if rule.sampler == "auto" and rule.recommend != "value":
        return sampler
    if rule.recommend == "estimate":
        from tuner.search.auto import Auto

        return SeededSampler.around(task.space, Auto(task.space, "maximize", seed, TaskPrior()))
    return None


def replay(
    task: Task, rule: Rule | None = None, *, trials: int | None = None, repeats: int = 50, seed: int = 0
) -> dict[str, Any]:
    """Replay a search several times, with other seeds; return the document of `tuner bench replay --json`.

    Args:
        task: What was recorded.
        rule: How it is searched; None: as the product does by default.
        trials: Of one search; None, or more than there are configurations: all of them.
        repeats: Searches.
        seed: Of the first search; the others have the next ones.

    Raises:
        UnknownNameError: There is no such sampler or pruner.
        SpecError: The sampler cannot search this space.
    """
    rule = rule or Rule()
    if rule.pruner not in OPTUNA_PRUNERS and rule.pruner not in PRUNERS:
        raise UnknownNameError(kind="pruner", name=rule.pruner, known=[*PRUNERS, *OPTUNA_PRUNERS], where="--pruner")
    budget = len(task.configurations) if trials is None else min(trials, len(task.configurations))
    runs = [Search(task, rule, seed=seed + i).run(budget) for i in range(repeats)]
    return summarize(task, rule, runs, budget)


def summarize(task: Task, rule: Rule, runs: Sequence[Run], budget: int) -> dict[str, Any]:
    """Return what several searches by one rule came to."""
    grid = np.linspace(0.0, max(run.cost for run in runs), POINTS + 1)[1:]
    regrets = np.array([regrets_at(task, run, grid) for run in runs])
    mean = regrets.mean(axis=0)
    low, high = np.quantile(regrets, LOW, axis=0), np.quantile(regrets, HIGH, axis=0)
    best = float(task.means[task.best])
    reach = {"one_percent": 0.01 * abs(best), "noise": task.noise}
    return {
        "task": task.name,
        "sampler": rule.sampler,
        "pruner": rule.pruner,
        "parallel": rule.parallel,
        "repeats": len(runs),
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
            "seconds_to": {name: seconds_to(task, runs, limit) for name, limit in reach.items()},
        },
    }


def regrets_at(task: Task, run: Run, costs: Sequence[float] | Floats) -> Floats:
    """Return the regret of what a run would recommend once it has cost so much, for several costs."""
    return regrets_of(task, run, task.means[run.recommended], costs)


def regrets_of(task: Task, run: Run, worth: Sequence[float] | Floats, costs: Sequence[float] | Floats) -> Floats:
    """Return the same where each recommendation of the run is worth so much."""
    known = np.searchsorted(np.asarray(run.costs), np.asarray(costs) + 1e-9, side="right")
    values = np.array([task.means.mean(), *worth])
    found: Floats = task.means[task.best] - values[known]
    return found


def seconds_to(task: Task, runs: Sequence[Run], limit: float) -> float | None:
    """Return the cost from which on the mean regret of several runs stays within a limit; None when it does not."""
    costs = np.unique([cost for run in runs for cost in run.costs])
    if not len(costs):
        return None
    mean = np.mean([regrets_at(task, run, costs) for run in runs], axis=0)
    above = np.flatnonzero(~(mean <= limit))
    first = int(above[-1]) + 1 if len(above) else 0
    return float(costs[first]) if first < len(costs) else None
