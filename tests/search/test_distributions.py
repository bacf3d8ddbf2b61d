"""A dimension in Optuna's words and on the unit interval."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import distribution_to_json, json_to_distribution

from tests.search.planted_optimum import conditional_space
from tuner.search.distributions import distribution, distributions, external, from_unit, internal, single, to_unit
from tuner.search.space import Dimension

DIMENSIONS = [
    pytest.param(Dimension("x", "float", -1.0, 3.0), id="float"),
    pytest.param(Dimension("x", "float", 1e-5, 1e-1, log=True), id="float log"),
    pytest.param(Dimension("x", "int", 2, 9), id="int"),
    pytest.param(Dimension("x", "int", 1, 128, log=True), id="int log"),
    pytest.param(Dimension("x", "categorical", choices=(None, True, 1, "a", 0.5)), id="categorical"),
    pytest.param(Dimension("x", "float", 0.5, 0.5), id="single float"),
    pytest.param(Dimension("x", "categorical", choices=("only",)), id="single choice"),
]


@pytest.mark.parametrize("dimension", DIMENSIONS)
@given(share=st.floats(0, 1, exclude_max=True))
def test_every_share_is_a_value_and_every_value_goes_both_ways(dimension: Dimension, share: float) -> None:
    """Internal numbers are what the database holds: a value that does not come back is another trial."""
    value = from_unit(dimension, share)
    again = external(dimension, internal(dimension, value))

    assert dimension.contains(value)
    assert again == value
    assert type(again) is type(value)
    if dimension.kind != "categorical" and not single(dimension):
        assert from_unit(dimension, min(to_unit(dimension, value), 1 - 1e-12)) == pytest.approx(value)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_optuna_reads_its_own_form_back(dimension: Dimension) -> None:
    """`optuna.load_study` and optuna-dashboard open the storage: what is stored must be Optuna's."""
    stored = distribution(dimension)

    assert json_to_distribution(distribution_to_json(stored)) == stored
    assert json.loads(distribution_to_json(stored))["name"].endswith("Distribution")


def test_integers_are_drawn_evenly() -> None:
    """Both ends of an integer range are as likely as the middle."""
    dimension = Dimension("x", "int", 1, 4)
    drawn = [from_unit(dimension, (i + 0.5) / 400) for i in range(400)]

    assert [drawn.count(value) for value in (1, 2, 3, 4)] == [100, 100, 100, 100]


def test_only_what_a_trial_has_is_stored() -> None:
    """A parameter of another loss must not appear with a trial."""
    params = {"loss": "focal", "train.lr": 1e-3, "train.batch_size": 8, "loss.focal.gamma": 2.0}

    assert list(distributions(conditional_space(), params)) == [
        "loss",
        "train.lr",
        "train.batch_size",
        "loss.focal.gamma",
    ]
