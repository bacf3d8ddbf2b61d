"""Dimensions and spaces: what belongs to them, and what is said about what does not."""

import pytest

from tests.search.planted_optimum import conditional_space
from tuner.search.grid import combinations
from tuner.search.space import Dimension, SearchSpace, describe

LR = Dimension("train.lr", "float", 1e-5, 1e-1, log=True)
WIDTH = Dimension("model.width", "int", 8, 64)
BATCH = Dimension("train.batch_size", "categorical", choices=(8, 16, 32))
MIXED = Dimension("x", "categorical", choices=(None, True, 1, "a"))


@pytest.mark.parametrize(
    ("dimension", "value", "nearest"),
    [
        pytest.param(LR, 1e-3, 1e-3, id="inside"),
        pytest.param(LR, 5.0, 1e-1, id="above"),
        pytest.param(LR, 0, 1e-5, id="below"),
        pytest.param(LR, None, pytest.approx(1e-3), id="no number: geometric middle"),
        pytest.param(WIDTH, "wide", 36, id="no number: middle"),
        pytest.param(WIDTH, 20.4, 20, id="rounded"),
        pytest.param(BATCH, 24.1, 32, id="nearest choice"),
        pytest.param(BATCH, 16.0, 16, id="equal choice of another type"),
        pytest.param(BATCH, "many", 8, id="no nearness: first choice"),
        pytest.param(MIXED, True, True, id="its own type first"),
        pytest.param(MIXED, None, None, id="null is a choice"),
        pytest.param(MIXED, False, None, id="a boolean is not near a number"),
    ],
)
def test_nearest(dimension: Dimension, value: object, nearest: object) -> None:
    """Published defaults outside a narrowed range are moved, never dropped."""
    found = dimension.nearest(value)

    assert found == nearest
    assert dimension.contains(found)


def test_contains_minds_types() -> None:
    """True is not 1, and 2.5 is no number of channels."""
    assert not BATCH.contains(True)
    assert not WIDTH.contains(True)
    assert not WIDTH.contains(20.5)
    assert not WIDTH.contains("20")
    assert LR.contains(1e-5)


@pytest.mark.parametrize(
    ("dimension", "points"),
    [
        pytest.param(Dimension("x", "float", 0, 1, steps=3), (0.0, 0.5, 1.0), id="float"),
        pytest.param(Dimension("x", "float", 0.01, 1, log=True, steps=3), pytest.approx((0.01, 0.1, 1.0)), id="log"),
        pytest.param(Dimension("x", "int", 1, 3, steps=9), (1, 2, 3), id="integers once each"),
        pytest.param(Dimension("x", "float", 2, 5, steps=1), (2.0,), id="one step"),
        pytest.param(Dimension("x", "float", 0, 1), (), id="no steps"),
        pytest.param(BATCH, (8, 16, 32), id="choices"),
    ],
)
def test_grid_points(dimension: Dimension, points: tuple) -> None:
    """Both ends belong to a grid."""
    assert dimension.grid() == points
    assert all(dimension.contains(point) for point in dimension.grid())


def test_rounding_does_not_carry_a_grid_over_the_edge() -> None:
    """The product low * (high / low) may be larger than high; such a point would be refused by its own space."""
    for low in (0.003, 0.007, 1e-6, 3.3):
        dimension = Dimension("x", "float", low, low * 17, log=True, steps=4)

        assert all(dimension.contains(point) for point in dimension.grid())


def test_a_trial_has_what_its_choices_bring() -> None:
    """Conditional parameters exist only with the choice that they belong to."""
    space = conditional_space()

    assert [d.name for d in space.active({"loss": "tversky"})][-2:] == ["loss.tversky.alpha", "loss.tversky.rounds"]
    assert [d.name for d in space.branch("loss", "focal")] == ["loss.focal.gamma", "loss.focal.weighting"]
    assert space.switches == ("loss",)
    assert len(space) == 7
    assert [d.name for d in space.shared] == ["loss", "train.lr", "train.batch_size"]


def test_problems_are_named() -> None:
    """A point queued by hand is refused with the reason, not trained as something else."""
    problems = conditional_space().problems(
        {"loss": "tversky", "train.lr": 1.0, "loss.focal.gamma": 2.0, "train.momentum": 0.9}
    )

    assert list(map(str, problems)) == [
        "train.lr: 1.0 is outside 1e-05 to 0.01 (log)",
        "loss.focal.gamma: exists only when loss is focal",
        "train.momentum: is not searched",
    ]


def test_a_switch_may_itself_be_conditional() -> None:
    """Combinations are counted along the branches, not over the whole product."""
    space = SearchSpace(
        (
            Dimension("loss", "categorical", choices=("dice", "sum")),
            Dimension("loss.sum.base", "categorical", choices=("dice", "focal"), when=("loss", "sum")),
            Dimension("loss.sum.gamma", "float", 0, 1, when=("loss.sum.base", "focal")),
        )
    )

    assert combinations(space) == [
        {"loss": "dice"},
        {"loss": "sum", "loss.sum.base": "dice"},
        {"loss": "sum", "loss.sum.base": "focal"},
    ]


def test_json_leaves_out_what_does_not_apply() -> None:
    """The stored space is read by other programs."""
    assert LR.as_dict() == {"name": "train.lr", "kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
    assert Dimension("x", "categorical", choices=(1, None), when=("loss", "focal")).as_dict() == {
        "name": "x",
        "kind": "categorical",
        "choices": [1, None],
        "when": {"loss": "focal"},
    }
    assert Dimension("x", "int", 1, 9, steps=3).as_dict()["steps"] == 3
    assert describe(BATCH) == "8, 16, 32"
