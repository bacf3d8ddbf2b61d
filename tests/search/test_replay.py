"""Replay on tables of curves: what is charged, what is recommended, and what a lucky seed is worth."""

import gzip
import math
from pathlib import Path

import pytest

from tuner.errors import ConfigError, SpecError, UnknownNameError
from tuner.search.curve_table import Curve, read_curves, write_curves
from tuner.search.replay import Rule, Search, read_tasks, regrets_at, replay

EPOCHS = 6


def curve(name: str, loss: str, lr: float, seed: int, best: float, seconds: float = 2.0) -> Curve:
    values = tuple(round(best * epoch / EPOCHS, 6) for epoch in range(1, EPOCHS + 1))
    return Curve("toy", name, loss, {"loss": loss, "train.lr": lr}, seed, EPOCHS, values, (seconds,) * EPOCHS)


def toy() -> list[Curve]:
    """Twenty configurations; the luckiest single seed belongs to a poor one."""
    curves = []
    for i in range(20):
        loss, lr = ("dice", "focal")[i % 2], 1e-4 * 1.3**i
        mean = 0.5 if i == 1 else 0.5 + 0.02 * i - (0.3 if loss == "focal" else 0.0)
        luck = 0.45 if i == 1 else 0.01
        curves += [curve(f"c{i:02d}", loss, lr, 0, mean + luck), curve(f"c{i:02d}", loss, lr, 1, mean - luck)]
    return curves


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Compressed or not, with a training that diverged."""
    diverged = Curve("toy", "d", "dice", {"loss": "dice", "train.lr": 0.1}, 0, EPOCHS, (0.1, math.nan), (1.0, 1.0))
    for name in ("table.csv", "table.csv.gz"):
        write_curves(tmp_path / name, [*toy(), diverged])
        found = read_curves(tmp_path / name)
        assert found[:-1] == toy()
        assert found[-1].diverged
        assert found[-1].is_complete
    assert gzip.decompress((tmp_path / "table.csv.gz").read_bytes()) == (tmp_path / "table.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task,value\n", "columns configuration"),
        ("task,configuration,loss,params,seed,epoch,epochs,value,seconds\nt,c,dice,{,0,1,2,0.5,1\n", "line 2"),
        ("task,configuration,loss,params,seed,epoch,epochs,value,seconds\nt,c,dice,{},0,2,2,0.5,1\n", "are missing"),
        ("task,configuration,loss,params,seed,epoch,epochs,value,seconds\n", "holds no training"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    """It may come from anywhere."""
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises((SpecError, ConfigError), match=told):
        read_curves(path)


def test_the_regret_is_that_of_the_mean_over_seeds() -> None:
    """The lucky seed of a poor configuration is recommended, and costs what its mean is worse."""
    task = read_tasks(toy())["toy"]
    assert task.configurations[task.best].name == "c18"
    assert task.noise == pytest.approx(math.sqrt((2 * 0.45**2 + 19 * 2 * 0.01**2) / 20))
    lucky = next(
        run
        for seed in range(40)
        if (run := Search(task, Rule("random", "none"), seed=seed).run(20))
        and task.configurations[run.recommended[-1]].name == "c01"
    )
    assert regrets_at(task, lucky, [math.inf])[0] == pytest.approx(0.86 - 0.5)


@pytest.mark.parametrize("parallel", [1, 4, 16])
def test_the_cost_is_that_of_the_epochs_run(parallel: int) -> None:
    """Whatever runs side by side; each configuration is taken once."""
    task = read_tasks(toy())["toy"]
    search = Search(task, Rule("tpe", "none", parallel), seed=1)
    run = search.run(20)

    assert run.cost == pytest.approx(20 * EPOCHS * 2.0)
    assert sorted(trial.configuration for trial in search.trials) == list(range(20))


def test_pruning_saves_epochs_and_the_same_seed_gives_the_same() -> None:
    """A pruned trial costs what it ran."""
    task = read_tasks(toy())["toy"]
    whole = replay(task, Rule("random", "none"), repeats=5)
    pruned = replay(task, Rule("random", "median", 4), repeats=5)

    assert pruned["final"]["cost"] < whole["final"]["cost"]
    assert pruned["final"]["pruned"] > 0
    assert pruned == replay(task, Rule("random", "median", 4), repeats=5)
    assert whole["curve"][0]["regret_mean"] > whole["curve"][-1]["regret_mean"]
    assert whole["cost_unit"] == "seconds of training"


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("optuna_tpe_multivariate", "optuna_hyperband"),
        ("optuna_tpe", "optuna_asha"),
        ("random", "optuna_median"),
        ("optuna_random", "auto"),
    ],
)
def test_optunas_own_rules_can_be_compared_with(sampler: str, pruner: str) -> None:
    """Its samplers with our pruners, and the other way round; an unknown one is told with the known."""
    task = read_tasks(toy())["toy"]

    assert replay(task, Rule(sampler, pruner, 2), trials=12, repeats=1)["trials"] == 12
    assert replay(task, Rule(sampler, pruner), repeats=2) == replay(task, Rule(sampler, pruner), repeats=2)
    with pytest.raises(UnknownNameError, match="tpy"):
        replay(task, Rule("tpy"))


def test_optunas_tpe_learns_from_what_it_is_told() -> None:
    """A sampler that never saw a result would be a weak one to be better than."""
    task = read_tasks(toy())["toy"]
    search = Search(task, Rule("optuna_tpe", "none"), seed=0)
    search.run(20)
    assert search.optuna is not None
    losses = [search.optuna.ask()["loss"] for _ in range(12)]

    assert losses.count("dice") > 8


def test_the_recommendation_is_the_best_expected_mean() -> None:
    """Where the sampler estimates one, a single lucky value of a poor configuration is not believed."""
    task = read_tasks(toy())["toy"]
    found = {
        how: replay(task, Rule("random", "none", recommend=how), repeats=20)["final"]["regret_mean"]
        for how in ("value", "estimate")
    }

    assert found["estimate"] < found["value"]
