"""TPE equals Optuna's where Optuna's can search the same space, and knows more where it cannot."""

import warnings
from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tests.search.planted_optimum import complete, conditional_space, planted, play, searcher_for
from tuner.registry import Scalar
from tuner.search.distributions import distribution
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import in_memory_study
from tuner.search.space import Dimension, SearchSpace
from tuner.search.tpe import Group, best_by_fronts

FLAT = (
    Dimension("a", "float", 0.0, 1.0),
    Dimension("b", "float", 1e-4, 1.0, log=True),
    Dimension("c", "categorical", choices=(None, True, "x")),
    Dimension("d", "int", 1, 30),
    Dimension("e", "int", 1, 100, log=True),
)


def history(directions: tuple[str, ...], count: int) -> list[FinishedTrial]:
    """Return trials of every kind that a study holds, values with ties among them."""
    searcher = searcher_for("random", space=SearchSpace(FLAT), seed=11)
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        params = searcher.suggest(number, fixed={})
        values = tuple(round(float(v), 1) for v in rng.normal(size=len(directions)))
        kind = number % 6
        if kind == 3 and len(directions) == 1:
            trials.append(FinishedTrial(number, "PRUNED", params, last=(int(rng.integers(1, 5)), values[0])))
        elif kind == 4:
            bad = {"memory": 1.0, "finite": -1.0 if number % 4 else 1.0}
            trials.append(FinishedTrial(number, "PRUNED", params, feasible=bad))
        elif kind == 5 and number % 12 == 5:
            trials.append(FinishedTrial(number, "RUNNING", params))
        else:
            trials.append(FinishedTrial(number, "COMPLETE", params, values))
    return trials


def optunas_suggestion(directions: tuple[str, ...], trials: list[FinishedTrial], seed: int) -> Mapping[str, Scalar]:
    """Return what Optuna's own sampler draws from the same trials and the same random numbers."""
    study = in_memory_study(directions)
    space = {d.name: distribution(d) for d in FLAT}
    for trial in trials:
        attributes = {f"constraints:{k}": v for k, v in trial.feasible.items()} if trial.state != "RUNNING" else {}
        study._storage.create_new_trial(
            study._study_id,
            create_trial(
                state=TrialState[trial.state],
                values=list(trial.values) if trial.values else None,
                params=trial.params,
                distributions=space,
                intermediate_values={trial.last[0]: trial.last[1]} if trial.last else {},
                system_attrs=attributes,
            ),
        )
    sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    asked = study._storage.get_trial(study._storage.create_new_trial(study._study_id))
    return sampler.sample_relative(study, asked, space)


@pytest.mark.parametrize("directions", [("maximize",), ("minimize",), ("maximize", "minimize")], ids="-".join)
@pytest.mark.parametrize("count", [12, 60, 400])
def test_equal_to_optunas_own(directions: tuple[str, ...], count: int) -> None:
    """The split, the kernels and the weights are Optuna's; a change in either must be seen here."""
    trials = history(directions, count)
    group = Group(FLAT, directions)
    for trial in trials:
        if trial.state != "RUNNING":
            group.ledger.add(trial)
    running = [t for t in trials if t.state == "RUNNING"]

    for seed in range(5):
        ours = group.sample(np.random.RandomState(seed), {}, running, 24)

        theirs = optunas_suggestion(directions, trials, seed)
        assert ours.keys() == theirs.keys()
        assert ours["c"] is theirs["c"]
        assert [ours[k] for k in "abde"] == pytest.approx([theirs[k] for k in "abde"], rel=1e-12)


def test_best_of_fronts_takes_whole_fronts_first() -> None:
    """With several objectives the good trials are those that nothing dominates."""
    losses = np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 2.0], [4.0, 4.0]])

    assert best_by_fronts(losses, 0).tolist() == []
    assert best_by_fronts(losses, 3).tolist() == [0, 1, 2]
    assert best_by_fronts(losses, 4).tolist() == [0, 1, 2, 3]
    assert best_by_fronts(losses, 5).tolist() == [0, 1, 2, 3, 4]
    assert len(best_by_fronts(losses, 2)) == 2


def test_a_fixed_loss_brings_its_own_learning_rate() -> None:
    """With `trials_per_loss` only `loss` is fixed: the rest must be drawn for that loss, not for the best of all."""
    space = SearchSpace(
        (
            Dimension("loss", "categorical", choices=("slow", "fast")),
            Dimension("train.lr", "float", 1e-5, 1e-1, log=True),
        )
    )
    wanted = {"slow": -4.5, "fast": -1.5}
    searcher = searcher_for("tpe", space=space)
    drawn: dict[str, list[float]] = {"slow": [], "fast": []}
    for slot in range(80):
        loss = ("slow", "fast")[slot % 2]
        point = searcher.suggest(slot, fixed={"loss": loss})
        drawn[loss].append(float(np.log10(point["train.lr"])))
        value = -((drawn[loss][-1] - wanted[loss]) ** 2) - 0.1 * (loss == "slow")
        searcher.observe([complete(slot, point, value)])

    for loss, target in wanted.items():
        assert fmean(drawn[loss][20:]) == pytest.approx(target, abs=0.6)


def test_as_good_as_optunas_group_decomposition() -> None:
    """Sampling only the chosen loss's group must not cost quality against Optuna's own conditional TPE."""
    space = conditional_space()
    ours, theirs = [], []
    for seed in range(6):
        ours.append(max(planted(t.params) for t in play(searcher_for("tpe", seed=seed), 50)))
        theirs.append(_best_of_optuna(space, planted, seed, 50))

    assert fmean(ours) > fmean(theirs) - 0.005


def _best_of_optuna(
    space: SearchSpace, score: Callable[[Mapping[str, Scalar]], float], seed: int, trials: int
) -> float:
    def objective(trial: optuna.Trial) -> float:
        params: dict[str, Scalar] = {}
        for dimension in space:
            if dimension in space.active(params):
                params[dimension.name] = trial._suggest(dimension.name, distribution(dimension))
        return score(params)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = in_memory_study(("maximize",))
        study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study.optimize(objective, n_trials=trials)
    optuna.logging.set_verbosity(verbosity)
    return study.best_value


def test_the_work_does_not_grow_with_the_losses_that_compete() -> None:
    """One group more or less must be sampled whether 3 or 40 losses compete; each costs time at 10 000 trials."""
    sampled: list[str] = []
    for count in (3, 40):
        losses = tuple(f"loss_{i}" for i in range(count))
        options = tuple(Dimension(f"loss.{name}.gamma", "float", 0, 1, when=("loss", name)) for name in losses)
        searcher = searcher_for("tpe", space=SearchSpace((Dimension("loss", "categorical", choices=losses), *options)))
        play(searcher, 30, lambda number, params: complete(number, params, 0.5))
        groups = searcher._sampler._groups
        for key, group in groups.items():
            group.sample = _counted(group.sample, sampled, f"{count}: {key}")
        searcher.suggest(50, fixed={"loss": "loss_1"})

    assert len([line for line in sampled if line.startswith("40")]) <= 2
    assert len(sampled) <= 4


def _counted(sample: Callable[..., object], record: list[str], name: str) -> Callable[..., object]:
    def counted(*args: object) -> object:
        record.append(name)
        return sample(*args)

    return counted
