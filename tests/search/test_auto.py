"""The sampler `auto`: what other tasks teach, when they mislead, and what it costs."""

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from tests.search.planted_optimum import complete, planted, play
from tuner.search.auto import MAX_TRIALS, Auto
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace
from tuner.search.task_prior import PriorRow, PriorTask, TaskPrior, read_prior, shipped_prior
from tuner.testing.sampler import conditional_space


def other_task(*, sign: float = 1.0) -> TaskPrior:
    """Return a prior of one task on which the same points are good (or, with -1, bad), on another scale."""
    drawn = play(SeededSampler(conditional_space(), ("maximize",), sampler="random", options={}, seed=9), 60)
    rows = tuple(PriorRow(t.params, 3.0 + 0.1 * sign * planted(t.params), 2) for t in drawn)
    return TaskPrior((PriorTask("other", "dice", rows),))


def best_after(prior: TaskPrior, trials: int, seed: int) -> float:
    searcher = SeededSampler.around(conditional_space(), Auto(conditional_space(), "maximize", seed, prior))
    return max(planted(t.params) for t in play(searcher, trials))


def test_what_another_task_tells_is_used_from_the_first_trial_on() -> None:
    """Whatever the scale of its values."""
    taught, untaught = (fmean(best_after(prior, 3, seed) for seed in range(3)) for prior in (other_task(), TaskPrior()))

    assert taught > 0.6
    assert taught > untaught


def test_a_misleading_task_is_dropped() -> None:
    """Where all that was good is bad, trials of the study itself soon tell more."""
    made = Auto(conditional_space(), "maximize", 0, other_task(sign=-1.0))
    first = made._fit()[0]
    trials = play(SeededSampler.around(conditional_space(), made), 10)

    assert first.learnt
    assert not made._fit()[0].learnt
    assert fmean(planted(t.params) for t in trials[6:]) > fmean(planted(t.params) for t in trials[:3]) + 0.3


def test_every_loss_has_its_hearing() -> None:
    """What is expected of a loss may be wrong; one trial in five is of the one that was tried least."""
    trials = play(SeededSampler(conditional_space(), ("maximize",), sampler="auto", options={}, seed=0), 15)

    assert len({t.params["loss"] for t in trials}) == 3


def test_results_of_other_data_are_one_more_task() -> None:
    """They teach as a prior does, and are no trials of the study."""
    rows = other_task().tasks[0].rows
    made = Auto(conditional_space(), "maximize", 0, TaskPrior())
    searcher = SeededSampler.around(conditional_space(), made)
    assert searcher.observe_other([complete(-1000 + i, row.params, row.value) for i, row in enumerate(rows)])

    assert planted(searcher.suggest(0, fixed={})) > 0.6
    assert searcher.estimates() == {}
    plain = SeededSampler(conditional_space(), ("maximize",), sampler="tpe", options={}, seed=0)
    assert not plain.observe_other([])


def test_a_lucky_value_is_shrunk() -> None:
    """One outlier among equals is not expected to be as good again, in the sense of the objective."""
    point = {"loss": "cross_entropy", "train.lr": 1e-5, "train.batch_size": 4}
    for direction, sign in (("maximize", 1.0), ("minimize", -1.0)):
        searcher = SeededSampler(conditional_space(), (direction,), sampler="auto", options={"prior": False}, seed=0)
        values = [0.5, 0.52, 0.48, 0.51, 0.49, 0.7]
        searcher.observe([complete(i, {**point, "train.lr": 1e-5 * 3.0**i}, sign * v) for i, v in enumerate(values)])
        found = searcher.estimates()
        assert max(found, key=lambda number: sign * found[number]) == 5
        assert 0.5 < sign * found[5] < 0.65


def test_another_seed_is_the_same_point_measured_again() -> None:
    """Where repeats are asked for, the mean over them is what is expected, and the luckiest seed gains nothing."""
    space = SearchSpace(
        (
            Dimension("train.lr", "float", 1e-4, 1e-1, log=True),
            Dimension("train.seed", "categorical", choices=(0, 1, 2)),
        )
    )
    searcher = SeededSampler(space, ("maximize",), sampler="auto", options={"prior": False}, seed=0)
    values = {1e-3: (0.5, 0.9, 0.4), 1e-2: (0.7, 0.71, 0.69)}
    rows = [({"train.lr": lr, "train.seed": s}, v) for lr, seen in values.items() for s, v in enumerate(seen)]
    searcher.observe([complete(number, params, value) for number, (params, value) in enumerate(rows)])

    found = searcher.estimates()

    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] > found[1]


def test_leaders_are_repeated_where_seeds_are_searched() -> None:
    """One trial in four is of a leader with another seed, and no point is tried twice."""
    dimensions = (*conditional_space().dimensions, Dimension("train.seed", "categorical", choices=(0, 1, 2)))
    searcher = SeededSampler(SearchSpace(dimensions), ("maximize",), sampler="auto", options={"prior": False}, seed=0)

    points = [t.params for t in play(searcher, 32)]

    without = [tuple(sorted((k, v) for k, v in p.items() if k != "train.seed")) for p in points]
    repeated = {point for point in without if without.count(point) > 1}
    assert len(repeated) >= 2
    assert len({tuple(sorted(p.items())) for p in points}) == 32
    median = np.median([planted(p) for p in points])
    assert all(planted(dict(point)) > median for point in repeated)


def test_the_cost_of_a_suggestion_does_not_grow() -> None:
    """Thousands of trials are not modelled, and a worker that joins late knows the same."""
    rng = np.random.default_rng(0)
    drawn = SeededSampler(conditional_space(), ("maximize",), sampler="random", options={}, seed=0)
    points = [drawn.suggest(slot, fixed={}) for slot in range(300)]
    trials = [complete(i, points[i % 300], planted(points[i % 300]) + 0.01 * rng.normal()) for i in range(3000)]
    along, late = (Auto(conditional_space(), "maximize", 0, TaskPrior()) for _ in range(2))
    for start in range(0, 3000, 700):
        along.observe(trials[start : start + 700])
        along.suggest(start, {}, [])
    late.observe(reversed(trials))

    assert len(late._kept()) == MAX_TRIALS
    assert along.suggest(5000, {}, []) == late.suggest(5000, {}, [])


def test_what_fails_is_avoided() -> None:
    """Trials that ran out of memory or diverged count as the worst seen."""
    searcher = SeededSampler(conditional_space(), ("maximize",), sampler="auto", options={"prior": False}, seed=0)
    trials: list[FinishedTrial] = []
    for slot in range(20):
        params = searcher.suggest(slot, fixed={})
        feasible = params["loss"] != "focal"
        trial = complete(slot, params, planted(params))
        trials.append(trial if feasible else replace(trial, state="PRUNED", values=None, feasible={"memory": 1.0}))
        searcher.observe(trials[-1:])

    assert sum(t.params["loss"] == "focal" for t in trials[10:]) < 5


def test_the_shipped_prior_is_complete() -> None:
    """It comes back as it was written, and knows every loss of every task."""
    prior = shipped_prior()

    assert read_prior(prior.as_dict()) == prior
    assert prior.tasks
    for task in prior.tasks:
        assert len({row.params["loss"] for row in task.rows}) == 14
        assert set(task.facts) == {"classes", "imbalance", "object_share", "thinness", "boundary_per_area"}
        assert task.noise is not None


@pytest.mark.parametrize("running", [0, 15])
def test_parallel_workers_spread_out(running: int) -> None:
    """Points that run already are expected to end as expected, and tell nothing when they are tried again."""
    searcher = SeededSampler.around(conditional_space(), Auto(conditional_space(), "maximize", 0, other_task()))
    beside: list[FinishedTrial] = []
    for slot in range(running + 1):
        params = searcher.suggest(slot, fixed={}, running=beside)
        assert all(params != t.params for t in beside)
        beside.append(FinishedTrial(slot, "RUNNING", params))
