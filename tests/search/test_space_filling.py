"""The samplers without a model: each grid point once, each Sobol point once, whoever asks."""

from collections import Counter
from collections.abc import Mapping

import pytest

from tests.search.planted_optimum import complete, conditional_space, play, searcher_for
from tuner.errors import SpecError
from tuner.registry import Scalar
from tuner.search.finished_trial import FinishedTrial
from tuner.search.grid import combinations, grid_size
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace


def flat(number: int, params: Mapping[str, Scalar]) -> FinishedTrial:
    return complete(number, params, 0.5)


TWO_SWITCHES = SearchSpace(
    (
        Dimension("loss", "categorical", choices=("dice", "focal")),
        Dimension("model.name", "categorical", choices=("unet", "resunet", "transunet")),
        Dimension("loss.focal.gamma", "float", 0.0, 4.0, steps=5, when=("loss", "focal")),
        Dimension("model.unet.width", "int", 8, 64, steps=4, log=True, when=("model.name", "unet")),
        Dimension("train.lr", "float", 1e-4, 1e-2, log=True, steps=3),
    )
)


def test_a_grid_holds_valid_combinations_only() -> None:
    """The plain product of all lists would repeat every point of one loss for each value of another's option."""
    assert len(combinations(TWO_SWITCHES)) == 6
    assert grid_size(TWO_SWITCHES) == (1 + 5) * (4 + 1 + 1) * 3


def test_a_grid_visits_every_point_once() -> None:
    """As many trials as points: none missing, none twice, whatever the order."""
    size = grid_size(TWO_SWITCHES)
    points = [tuple(t.params.items()) for t in play(searcher_for("grid", space=TWO_SWITCHES), size, flat)]

    assert len(set(points)) == size
    assert Counter(dict(point)["loss"] for point in points) == {"focal": 90, "dice": 18}


def test_a_grid_that_begins_later_still_visits_every_point() -> None:
    """Published defaults take the first places of the budget; the points wrap around."""
    size = grid_size(TWO_SWITCHES)
    searcher = searcher_for("grid", space=TWO_SWITCHES)

    assert len({tuple(searcher.suggest(slot, fixed={}).items()) for slot in range(7, 7 + size)}) == size


def test_the_beginning_of_a_grid_is_spread() -> None:
    """A grid that is stopped early must not have seen one corner only."""
    trials = play(searcher_for("grid", space=TWO_SWITCHES), 12, flat)

    for name, choices in (("loss", 2), ("model.name", 3), ("train.lr", 3)):
        assert len({t.params[name] for t in trials}) == choices


def test_a_grid_needs_steps() -> None:
    """The user is told which keys lack them, all at once."""
    with pytest.raises(SpecError) as refused:
        SeededSampler(conditional_space(), ("maximize",), sampler="grid", options={}, seed=0)

    assert len(refused.value.problems) == 4
    assert "search.train.lr" in str(refused.value.problems[0])
    assert "steps: N" in str(refused.value.problems[0])
    assert grid_size(conditional_space()) == 0


def test_fixing_the_loss_keeps_sobol_points_apart() -> None:
    """A queue that fixes the loss of some trials must not send two workers to one point."""
    searcher = searcher_for("qmc")
    points = [searcher.suggest(slot, fixed={"loss": "focal"} if slot % 2 else {})["train.lr"] for slot in range(40)]

    assert len(set(points)) == 40


def test_random_points_do_not_depend_on_history() -> None:
    """The honest baseline draws without looking."""
    blind, seeing = searcher_for("random"), searcher_for("random")
    play(seeing, 10)

    assert blind.suggest(50, fixed={}) == seeing.suggest(50, fixed={})
