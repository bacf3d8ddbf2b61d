"""Finite spaces: how many points there are, and that none is taken twice while another is untried."""

import pytest

from tests.search.planted_optimum import conditional_space, scored
from tuner.search.finite_space import can_repeat, count_points, untried
from tuner.search.points import point_key
from tuner.search.sampler import SeededSampler
from tuner.search.space import Dimension, SearchSpace

FOCAL = ("loss", "focal")
SMALL = SearchSpace(
    (
        Dimension("loss", "categorical", choices=("dice", "focal")),
        Dimension("train.nesterov", "categorical", choices=(True, 1, False)),
        Dimension("loss.focal.gamma", "float", 0.0, 1.5, step=0.5, when=FOCAL),
        Dimension("train.batch_size", "int", 4, 4, steps=1),
    )
)
HALF = SearchSpace((*SMALL.dimensions[:3], Dimension("loss.focal.alpha", "float", 0.0, 1.0, when=FOCAL)))


def scored_small(number: int, params: dict) -> object:
    return scored(number, {**params, "train.lr": 1e-3, "loss.focal.gamma": params.get("loss.focal.gamma", 0.0)})


def drawn(space: SearchSpace, sampler: str, trials: int) -> list[object]:
    """Play a study on a space with the rule, and return the keys of its points."""
    searcher = SeededSampler(space, ("maximize",), sampler=sampler, options={}, seed=3)
    keys: list[object] = []
    for slot in range(trials):

        def suggest(fixed: dict, slot: int = slot) -> dict:
            return searcher.suggest(slot, fixed=fixed)

        params = untried(space, suggest({}), set(keys), seed=3, slot=slot, fixed={}, suggest=suggest)
        keys.append(point_key(space, params))
        searcher.observe([scored_small(slot, params)])
    return keys


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "qmc", "grid"])
def test_every_sampler_takes_each_point_once(sampler: str) -> None:
    """24 points and 24 trials were 16 different points with TPE."""
    points = count_points(SMALL)
    assert points == 15

    keys = drawn(SMALL, sampler, points)

    assert None not in keys
    assert len(set(keys)) == points


def test_a_finite_loss_beside_an_infinite_one_is_not_repeated() -> None:
    """Three points of dice, no end of focal: what is over goes to focal."""
    assert count_points(HALF) is None
    assert count_points(HALF, {"loss": "dice"}) == 3

    keys = drawn(HALF, "tpe", 30)

    assert len(set(keys)) == 30


def test_what_is_fixed_stays_and_a_used_up_space_repeats() -> None:
    """With every point of a fixed loss taken, the trial repeats one; it does not change the loss."""
    taken = {point_key(SMALL, {"loss": "dice", "train.nesterov": v, "train.batch_size": 4}) for v in (True, 1, False)}
    wanted = {"loss": "dice", "train.nesterov": 1, "train.batch_size": 4}

    def ask(fixed: dict) -> dict:
        raise AssertionError(fixed)

    assert untried(SMALL, wanted, taken, seed=0, slot=0, fixed={"loss": "dice"}, suggest=ask) == wanted


def test_the_nearest_point_is_taken_and_large_spaces_are_not_listed() -> None:
    """A million points: of those that are nearest one cannot be chosen in time, an untried one can."""
    few = SearchSpace((Dimension("model.width", "int", 8, 64),))
    many = SearchSpace((Dimension("a", "int", 0, 999), Dimension("b", "int", 0, 999)))

    def ask(fixed: dict) -> dict:
        raise AssertionError(fixed)

    near = untried(few, {"model.width": 20}, {point_key(few, {"model.width": w}) for w in (20, 21, 19, 22)},
                   seed=0, slot=0, fixed={}, suggest=ask)  # fmt: skip
    far = untried(many, {"a": 1, "b": 2}, {point_key(many, {"a": 1, "b": 2})}, seed=0, slot=0, fixed={}, suggest=ask)

    assert near == {"model.width": 18}
    assert point_key(many, far) is not None
    assert far != {"a": 1, "b": 2}
    assert not can_repeat(conditional_space(), {"loss": "cross_entropy", "train.lr": 1e-3, "train.batch_size": 4})
