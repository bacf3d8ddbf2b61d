"""What every sampler promises, on a space whose options are conditional on the loss."""

from functools import cache
from statistics import fmean, pstdev

import pytest

from tests.search.planted_optimum import (
    BEST_GAMMA,
    complete,
    conditional_space,
    infeasible,
    judge_for,
    planted,
    play,
    searcher_for,
)
from tuner.errors import SpecError, UnknownNameError
from tuner.search.catalog import SAMPLERS
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler

ALL = list(SAMPLERS)
MODEL_BASED = ["tpe", "gp", "cmaes"]


def trials_of(name: str) -> int:
    """Return a number of trials that takes a sampler about a second."""
    return {"gp": 18, "auto": 30}.get(name, 60)


@cache
def played(name: str, seed: int = 0) -> list[FinishedTrial]:
    """Return a study that several tests look at."""
    return play(searcher_for(name, seed=seed), trials_of(name), judge_for(name))


@pytest.mark.parametrize("name", ALL)
def test_one_worker_repeats_itself(name: str) -> None:
    """The same study file, seed and one worker must give the same trials."""
    count = trials_of(name) // 2

    assert play(searcher_for(name), count, judge_for(name)) == played(name)[:count]


@pytest.mark.parametrize("name", [name for name in ALL if name != "grid"])
def test_another_seed_gives_other_trials(name: str) -> None:
    """Repeating a study under another seed would be worthless if it drew the same points."""
    assert all(a.params != b.params for a, b in zip(played(name, 0), played(name, 1), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_two_workers_never_suggest_equal_points(name: str) -> None:
    """Training a point twice wastes what it costs."""
    trials = play(searcher_for("random"), 20, judge_for(name))
    points = []
    for slot in range(20, 28):
        worker = searcher_for(name)
        worker.observe(trials)
        points.append(worker.suggest(slot, fixed={}))

    assert all(points[i] != points[j] for i in range(len(points)) for j in range(i))


@pytest.mark.parametrize("name", ALL)
def test_a_fixed_number_is_kept(name: str) -> None:
    """A number that a person fixes is not on anybody's grid."""
    searcher = searcher_for(name)
    searcher.observe(play(searcher_for("random"), 20, judge_for(name)))

    assert searcher.suggest(20, fixed={"train.lr": 0.00123})["train.lr"] == 0.00123


def test_a_complete_point_is_not_touched() -> None:
    """A queued default must be trained as published."""
    point = {"loss": "cross_entropy", "train.lr": 0.001, "train.batch_size": 4}

    assert searcher_for("tpe").suggest(0, fixed=point) == point


@pytest.mark.parametrize("name", ALL)
def test_choices_keep_their_types(name: str) -> None:
    """None, booleans and texts stand side by side in one list; a mixed-up type would train something else."""
    seen = [t.params["loss.focal.weighting"] for t in played(name) if t.params["loss"] == "focal"]

    assert all(any(value is choice or value == "inverse" for choice in (None, True)) for value in seen)
    assert len({type(value) for value in seen}) >= 2


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_the_planted_optimum_is_approached(name: str) -> None:
    """A sampler that draws a loss's own options at random has not searched them."""
    distances = []
    for seed in range(3):
        trials = played(name, seed)
        best = max(trials, key=lambda t: planted(t.params))
        assert best.params["loss"] == "focal"
        distances.append(abs(float(best.params["loss.focal.gamma"]) - BEST_GAMMA))

    assert fmean(distances) < 0.4


@pytest.mark.parametrize("name", MODEL_BASED)
def test_models_beat_random_on_average(name: str) -> None:
    """The last third of the trials must be better than random ones, or the model learns nothing."""
    count = trials_of(name)
    learned, drawn = (
        fmean(planted(t.params) for seed in range(3) for t in played(s, seed)[-count // 3 :]) for s in (name, "random")
    )

    assert learned > drawn + 0.05


def test_nsga2_moves_towards_the_front() -> None:
    """Selection must favour points that are good in both objectives."""
    early, late = [], []
    for seed in range(4):
        trials = play(searcher_for("nsga2", seed=seed), 120, judge_for("nsga2"))
        early += [planted(t.params) for t in trials[:16]]
        late += [planted(t.params) for t in trials[-40:]]

    assert fmean(late) > fmean(early)


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_the_range_of_an_option_is_covered(name: str) -> None:
    """Without a model, only coverage finds an optimum: no fifth of gamma's range may stay empty."""
    trials = play(searcher_for(name), 90)
    gammas = [float(t.params["loss.focal.gamma"]) for t in trials if t.params["loss"] == "focal"]

    assert {min(4, int(gamma)) for gamma in gammas} == {0, 1, 2, 3, 4}


def test_qmc_visits_every_loss_equally_often_and_evenly() -> None:
    """One sequence for each loss: its first eight points lie in eight different eighths of every range."""
    trials = play(searcher_for("qmc", seed=3), 24)

    for loss in ("cross_entropy", "focal", "tversky"):
        assert sum(t.params["loss"] == loss for t in trials) == 8
    eighths = {int(float(t.params["loss.focal.gamma"]) / 5 * 8) for t in trials if t.params["loss"] == "focal"}
    assert len(eighths) == 8


@pytest.mark.parametrize("name", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "cmaes"])
def test_an_infeasible_region_is_learned(name: str) -> None:
    """Trials that ran out of memory must teach the sampler which parameters are to blame."""

    def judge(number: int, params: dict) -> FinishedTrial:
        blamed = params["train.batch_size"] == 16 or float(params["train.lr"]) > 2e-3
        return infeasible(number, params) if blamed else complete(number, params, planted(params))

    def share_late(sampler: str, count: int) -> float:
        return fmean(
            t.violation > 0
            for seed in range(2)
            for t in play(searcher_for(sampler, seed=seed), count, judge)[-count // 2 :]
        )

    assert share_late(name, 24 if name == "gp" else 50) < 0.75 * share_late("random", 200)


@pytest.mark.parametrize("name", ["tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_running_trials_repel(name: str) -> None:
    """Workers that start together would crowd around one point if running trials were not shown."""

    def spread(shows: bool) -> float:
        searcher = searcher_for(name, seed=5)
        searcher.observe(play(searcher_for("tpe", seed=5), 30))
        running: list[FinishedTrial] = []
        for slot in range(100, 108):
            point = searcher.suggest(slot, fixed={"loss": "focal"}, running=running if shows else ())
            running.append(FinishedTrial(slot, "RUNNING", point))
        return pstdev(float(t.params["loss.focal.gamma"]) for t in running)

    assert spread(shows=True) > spread(shows=False)


@pytest.mark.parametrize("name", ALL)
def test_unfinished_and_half_filled_trials_do_no_harm(name: str) -> None:
    """A trial that was claimed a moment ago has no parameters yet, or only its loss."""
    searcher = searcher_for(name)
    play(searcher, 15, judge_for(name))
    running = [FinishedTrial(50, "RUNNING", {}), FinishedTrial(51, "RUNNING", {"loss": "focal"})]

    assert searcher.suggest(60, fixed={}, running=running) == searcher.suggest(60, fixed={})


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_several_objectives(name: str) -> None:
    """Pruned trials of such studies carry no report; they must be digested all the same."""
    searcher = SeededSampler(conditional_space(), ("maximize", "minimize"), sampler=name, options={}, seed=1)
    for slot in range(14):
        point = searcher.suggest(slot, fixed={})
        pruned = FinishedTrial(slot, "PRUNED", point)
        searcher.observe([pruned if slot % 4 == 0 else complete(slot, point, planted(point), float(point["train.lr"]))])

    assert conditional_space().problems(searcher.suggest(30, fixed={})) == []


def test_cmaes_refuses_several_objectives() -> None:
    """The user should hear it when the study is made, not from a worker."""
    with pytest.raises(SpecError, match="one objective"):
        SeededSampler(conditional_space(), ("maximize", "minimize"), sampler="cmaes", options={}, seed=0)


def test_unknown_samplers_and_options_are_refused() -> None:
    """A misspelt option that is ignored silently is a search with other settings than its owner believes."""
    with pytest.raises(UnknownNameError, match="Did you mean 'tpe'"):
        SeededSampler(conditional_space(), ("maximize",), sampler="tp", options={}, seed=0)
    with pytest.raises(UnknownNameError, match="candidates"):
        SeededSampler(conditional_space(), ("maximize",), sampler="tpe", options={"candidate": 3}, seed=0)
