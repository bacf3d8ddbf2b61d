"""Sampler `auto`: a Gaussian process that begins with what LossBench's tasks tell, for one objective; else TPE.

The next point is the one with the largest expected improvement over the best mean among the trials; running trials
count as if they had ended as expected. What is compared: for each combination of the switches, as for each loss,
points spread evenly over the space, and then points around the best of those. One suggestion in five is of the loss
that was tried least, whatever is expected of it: that may be wrong. Where training seeds are searched, one in four is
of a leader with a seed that it was not trained with: what is recommended has to be good on average.
"""

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tuner.registry import Scalar
from tuner.search.distributions import from_unit, single, to_unit
from tuner.search.finished_trial import FinishedTrial
from tuner.search.grid import combinations, switches
from tuner.search.kernel import SEED, Encoder
from tuner.search.sampler import suggestion_rng
from tuner.search.space import Dimension, SearchSpace
from tuner.search.task_prior import TaskPrior, shipped_prior
from tuner.search.tpe import Tpe
from tuner.search.transfer_model import Fit, Judged, OtherTasks, TaskRows, fit, join
from tuner.search.trial_table import Floats

POOL = 256
"""Points that are compared, over all combinations of the switches."""
MIN_EACH, MAX_BLOCKS = 8, 64
NEAR, CENTRES, WIDTH = 12, 3, 0.08
"""Points around each of the best, of how many, and their standard deviation as a share of an interval."""
OTHER_CHOICE = 0.3
"""How often a choice is drawn anew for such a point."""
MAX_TRIALS, MAX_OTHER = 300, 600
"""Trials of the study that are modelled (the best half and the newest of the others), and results of other data."""
HEARING_EVERY = 5
"""One suggestion in so many is of the loss that was tried least."""
REPEAT_EVERY, REPEAT_AFTER, LEADERS = 4, 8, 2
"""With seeds that are searched: one suggestion in so many, after so many complete trials, repeats one of so many."""
PRUNED_NOISE = 4.0
"""Variance of the final value of a trial that was ended early, as a multiple of that between seeds."""


class Auto:
    """Expected improvement under a process that other tasks have taught."""

    def __init__(self, space: SearchSpace, direction: str, seed: int, prior: TaskPrior) -> None:
        self.space, self._seed = space, seed
        self._sign = 1.0 if direction == "maximize" else -1.0
        self._encoder = Encoder(space, prior.settings, prior.intervals)
        self._prior = prior
        self._switches = switches(space)
        self._trials: dict[int, FinishedTrial] = {}
        self._tried: Counter[Scalar] = Counter()
        self._numbers: list[int] = []
        self._ranked: list[tuple[float, int]] = []
        """Complete trials by value, the best first."""
        self._other: list[FinishedTrial] = []
        self._tasks: OtherTasks | None = None
        self._judged: dict[int, Judged] = {}
        self._pools: dict[tuple[tuple[str, Scalar], ...], tuple[list[dict[str, Scalar]], Judged]] = {}
        self._fitted: tuple[Fit, Judged | None] | None = None

    def observe(self, trials: Iterable[FinishedTrial]) -> None:
        """Learn finished trials."""
        for trial in trials:
            self._fitted = None
            self._trials[trial.number] = trial
            self._tried[trial.params.get("loss")] += 1
            insort(self._numbers, trial.number)
            if _is_complete(trial):
                insort(self._ranked, (-self._sign * _value(trial), trial.number))

    def observe_other(self, results: Sequence[FinishedTrial]) -> None:
        """Learn results of other data: they are one more task, on a scale of its own."""
        self._other = list(results)
        self._tasks = self._fitted = None

    def suggest(self, slot: int, fixed: Mapping[str, Scalar], running: Sequence[FinishedTrial]) -> dict[str, Scalar]:
        """Return a complete point."""
        repeat = self._repeat(slot, running) if not fixed else None
        if repeat is not None:
            return repeat
        rng = suggestion_rng(self._seed, slot)
        found, told = self._fit()
        if running:
            ordered = sorted(running, key=lambda t: t.number)
            found = found.with_running(self._judge([t.params for t in ordered]))
        pool, judged = self._pool(fixed)
        mean, spread = found.predict(judged)
        tried = found.predict(told)[0] if told is not None else mean
        best = float(tried.max())
        gain = _expected_improvement(mean, spread, best)
        if slot % HEARING_EVERY == HEARING_EVERY - 1:
            gain = np.where(self._least_tried(pool, running), gain + 1e-300, 0.0)
        order = np.argsort(-np.round(gain / max(gain.max(), 1e-300), 9), kind="stable")
        centres = [pool[i] for i in order[:CENTRES]]
        near = [point for centre in centres for point in self._around(centre, fixed, rng)]
        mean, spread = found.predict(self._judge(near))
        gain = _expected_improvement(mean, spread, best)
        return near[int(np.argmax(np.round(gain / max(gain.max(), 1e-300), 9)))]

    def _repeat(self, slot: int, running: Sequence[FinishedTrial]) -> dict[str, Scalar] | None:
        """Return a leader with another seed, where this suggestion is to repeat one and there is a seed left."""
        seeds = self.space.find(SEED)
        due = slot % REPEAT_EVERY == REPEAT_EVERY - 2 and len(self._ranked) >= REPEAT_AFTER
        if seeds is None or not seeds.choices or not due:
            return None
        means = self.estimates()
        leaders: list[dict[str, Scalar]] = []
        for number in sorted(means, key=lambda n: (-self._sign * means[n], n)):
            point = {**self._trials[number].params, SEED: None}
            if point not in leaders:
                leaders.append(point)
            if len(leaders) == LEADERS:
                break
        known = [t.params for t in (*self._trials.values(), *running)]
        for point in leaders:
            tried = {params[SEED] for params in known if {**params, SEED: None} == point}
            left = [seed for seed in seeds.choices if seed not in tried]
            if left:
                return self._order({**point, SEED: left[0]})
        return None

    def _least_tried(self, pool: Sequence[Mapping[str, Scalar]], running: Sequence[FinishedTrial]) -> NDArray[np.bool_]:
        """Return which points are of those losses that have the fewest trials."""
        tried = self._tried + Counter(t.params.get("loss") for t in running)
        counts = np.array([tried[point.get("loss")] for point in pool])
        found: NDArray[np.bool_] = counts == counts.min()
        return found

    def expected(self) -> tuple[list[dict[str, Scalar]], Floats, Floats]:
        """Return points [m] spread over the space, and mean and covariance [m, m] of their z before any trial."""
        self._fit()
        assert self._tasks is not None
        points, judged = self._pool({})
        return points, judged.mean, self._tasks.covariance(judged, judged)

    def estimates(self) -> dict[int, float]:
        """Return the mean over seeds to be expected of each complete trial, by number, in the objective's sense."""
        found, told = self._fit()
        numbers = [number for number, trial in self._kept() if _is_complete(trial)]
        if not numbers or told is None:
            return {}
        mean, _ = found.predict(self._judge_trials(numbers))
        return {number: self._sign * float(m) for number, m in zip(numbers, mean, strict=True)}

    def _kept(self) -> list[tuple[int, FinishedTrial]]:
        """Return the trials that are modelled, in order."""
        if len(self._numbers) <= MAX_TRIALS:
            return [(number, self._trials[number]) for number in self._numbers]
        chosen = {number for _, number in self._ranked[: MAX_TRIALS // 2]}
        newest = [n for n in self._numbers[-MAX_TRIALS:] if n not in chosen][len(chosen) - MAX_TRIALS :]
        return [(number, self._trials[number]) for number in sorted(chosen.union(newest))]

    def _fit(self) -> tuple[Fit, Judged | None]:
        """Return the process, and the complete trials (None: there is none)."""
        if self._fitted is not None:
            return self._fitted
        if self._tasks is None:
            self._tasks = self._other_tasks()
            self._judged, self._pools = {}, {}
        known = self._kept()
        values, noise, modelled = self._values(known)
        told = self._judge_trials([known[i][0] for i in modelled])
        found = fit(self._tasks, told, values, noise)
        complete = [place for place, i in enumerate(modelled) if _is_complete(known[i][1])]
        self._fitted = found, told.take(complete) if complete else None
        return self._fitted

    def _values(self, known: Sequence[tuple[int, FinishedTrial]]) -> tuple[Floats, Floats, list[int]]:
        """Return what each trial is worth, higher is better, with its noise; and the places of these trials."""
        complete = [self._sign * _value(t) for _, t in known if _is_complete(t)]
        reported = [self._sign * t.last[1] for _, t in known if _is_reported(t) and t.last is not None]
        shown = [v for v in (*complete, *reported) if math.isfinite(v)]
        worst = min(shown, default=0.0)
        middle = float(np.median(complete)) if complete else worst
        values, noise, places = [], [], []
        for place, (_, trial) in enumerate(known):
            if _is_complete(trial):
                values.append(self._sign * _value(trial))
                noise.append(1.0)
            elif _is_reported(trial) and trial.last is not None and math.isfinite(trial.last[1]):
                last = self._sign * trial.last[1]
                values.append(max(last, 0.5 * (last + middle)) if last < middle else last)
                noise.append(PRUNED_NOISE)
            elif shown:
                values.append(worst)
                noise.append(1.0)
            else:
                continue
            places.append(place)
        return np.array(values), np.array(noise), places

    def _other_tasks(self) -> OtherTasks:
        rows = [task.rows for task in self._prior.tasks]
        tasks = [
            TaskRows(
                self._encoder.encode([row.params for row in task]),
                np.array([row.value for row in task]),
                np.array([float(row.seeds) for row in task]),
            )
            for task in rows
        ]
        given = [t for t in self._other if _is_complete(t)][-MAX_OTHER:]
        if len(given) > 1:
            values = np.array([self._sign * _value(t) for t in given])
            tasks.append(TaskRows(self._encoder.encode([t.params for t in given]), values, np.ones(len(given))))
        return OtherTasks(tasks, self._prior.settings)

    def _judge(self, points: Sequence[Mapping[str, Scalar]]) -> Judged:
        assert self._tasks is not None
        return self._tasks.judge(self._encoder.encode(points))

    def _judge_trials(self, numbers: Sequence[int]) -> Judged:
        """Return trials, each judged by itself, so that its digits are the same whenever it is learnt."""
        for number in numbers:
            if number not in self._judged:
                self._judged[number] = self._judge([self._trials[number].params])
        if not numbers:
            return self._judge([])
        return join(*[self._judged[n] for n in numbers])

    def _pool(self, fixed: Mapping[str, Scalar]) -> tuple[list[dict[str, Scalar]], Judged]:
        """Return points spread over the space that have the fixed values."""
        key = tuple(sorted(fixed.items()))
        if key not in self._pools:
            if len(self._pools) > MAX_BLOCKS:
                self._pools.clear()
            blocks = combinations(self.space, fixed)
            rng = suggestion_rng(self._seed, 0, 5)
            if len(blocks) > MAX_BLOCKS:
                blocks = [blocks[i] for i in rng.permutation(len(blocks))[:MAX_BLOCKS]]
            each = max(MIN_EACH, POOL // len(blocks))
            points = [point for block in blocks for point in self._spread(block, fixed, each, rng)]
            self._pools[key] = points, self._judge(points)
        return self._pools[key]

    def _spread(
        self, block: Mapping[str, Scalar], fixed: Mapping[str, Scalar], count: int, rng: np.random.RandomState
    ) -> list[dict[str, Scalar]]:
        given = {**block, **fixed}
        free = [d for d in self.space.active(given) if d.name not in given]
        if not free:
            return [self._order(given)]
        # a Latin hypercube: each parameter takes every part of its interval once
        shares = np.stack([(rng.permutation(count) + rng.random_sample(count)) / count for _ in free], axis=1)
        return [
            self._order({**given, **{d.name: from_unit(d, float(s)) for d, s in zip(free, row, strict=True)}})
            for row in shares
        ]

    def _around(
        self, centre: Mapping[str, Scalar], fixed: Mapping[str, Scalar], rng: np.random.RandomState
    ) -> list[dict[str, Scalar]]:
        """Return points near another one, with the same switches."""
        active = self.space.active(centre)
        kept = {d.name for d in active if d.name in fixed or d.name in self._switches or single(d)}
        return [
            {d.name: centre[d.name] if d.name in kept else _moved(d, centre[d.name], rng) for d in active}
            for _ in range(NEAR)
        ]

    def _order(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {d.name: params[d.name] for d in self.space.active(params)}


def _moved(dimension: Dimension, value: Scalar, rng: np.random.RandomState) -> Scalar:
    if dimension.kind == "categorical":
        other = dimension.choices[int(rng.randint(len(dimension.choices)))]
        return other if rng.random_sample() < OTHER_CHOICE else value
    share = to_unit(dimension, value) + WIDTH * rng.standard_normal()
    share = abs(share) if share < 1 else 2 - share  # mirrored at the ends
    return from_unit(dimension, min(max(share, 0.0), 1.0))


def _expected_improvement(mean: Floats, spread: Floats, best: float) -> Floats:
    z = (mean - best) / spread
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    found: Floats = spread * (z * ndtr(z) + density)
    return np.maximum(found, 0.0)


def _is_complete(trial: FinishedTrial) -> bool:
    return trial.state == "COMPLETE" and bool(trial.values) and trial.violation == 0


def _is_reported(trial: FinishedTrial) -> bool:
    return trial.state == "PRUNED" and trial.last is not None and trial.violation == 0


def _value(trial: FinishedTrial) -> float:
    assert trial.values is not None
    return trial.values[0]


def auto(space: SearchSpace, directions: Sequence[str], seed: int, options: Mapping[str, Any]) -> Auto | Tpe:
    """Make the sampler `auto`."""
    if len(directions) > 1:
        return Tpe(space, directions, seed, startup_trials=10, candidates=24)
    prior = shipped_prior() if options["prior"] else TaskPrior()
    return Auto(space, directions[0], seed, prior)
