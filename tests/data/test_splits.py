"""Dividing cases into training and validation."""

import pytest

from tuner.data.splits import choose_cases, validation_problem
from tuner.errors import DataError

CASES = tuple(f"case{number:04d}" for number in range(18))


def _choose(validation: object, training: tuple[str, ...] = CASES, test: tuple[str, ...] = ("t1",), seed: int = 0):
    return choose_cases(validation, training=training, test=test, seed=seed, dataset="synapse")


@pytest.mark.parametrize(
    ("share", "cases", "expected"), [(0.2, 18, 4), (0.2, 2, 1), (0.01, 18, 1), (0.99, 3, 2), (0.5, 5, 2)]
)
def test_share(share: float, cases: int, expected: int) -> None:
    """At least one case validates and at least one trains."""
    train, validation, protocol = _choose(share, CASES[:cases])

    assert len(validation) == expected
    assert sorted(train + validation) == sorted(CASES[:cases])
    assert protocol == "share"


def test_share_depends_on_the_seed_only() -> None:
    """The same study divides alike on every machine; another seed divides otherwise."""
    assert _choose(0.2) == _choose(0.2)
    assert len({_choose(0.2, seed=seed)[1] for seed in range(10)}) > 5


def test_another_case_moves_no_other() -> None:
    """A patient that is added later must not reshuffle who validates."""
    before, after = set(_choose(0.2)[1]), set(_choose(0.2, (*CASES, "case9999"))[1])

    assert len(before - after - {"case9999"}) <= 1


def test_list_of_cases() -> None:
    """Who knows which cases to validate on says so."""
    train, validation, protocol = _choose(["case0003", "case0001"])

    assert validation == ("case0001", "case0003")
    assert len(train) == 16
    assert protocol == "cases"


def test_test_protocol() -> None:
    """All training cases train, the test cases validate, and the protocol says so."""
    assert _choose("test") == (CASES, ("t1",), "test")


@pytest.mark.parametrize(
    ("validation", "training", "message"),
    [
        pytest.param(0.2, CASES[:1], "has 1 training case; a validation by case needs 2.*validation: test", id="one"),
        pytest.param(0.2, (), "has 0 training cases", id="none"),
        pytest.param(["case_0003"], CASES, "Did you mean 'case0003'", id="unknown"),
        pytest.param(list(CASES), CASES, "all 18 training cases", id="all"),
        pytest.param(1.5, CASES, "1.5 is not a share", id="share"),
        pytest.param("case0001", CASES, r"\[NAME\]", id="text"),
    ],
)
def test_refused(validation: object, training: tuple[str, ...], message: str) -> None:
    """Too little data is refused with what would do."""
    with pytest.raises(DataError, match=message):
        _choose(validation, training)


def test_no_test_cases() -> None:
    """`test` without test cases must not validate on nothing."""
    with pytest.raises(DataError, match="no test cases"):
        _choose("test", test=())


@pytest.mark.parametrize("value", [0, 1, 0.0, -0.1, True, None, "all", [], [1], ["a", "a"], {"a": 1}])
def test_illegal_values(value: object) -> None:
    """Study files are refused before any data is looked at."""
    assert validation_problem(value)


@pytest.mark.parametrize("value", [0.2, 0.999, "test", ["a"], ("a", "b")])
def test_legal_values(value: object) -> None:
    """The three forms of the study file."""
    assert validation_problem(value) is None
