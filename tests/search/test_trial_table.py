"""The columns that models read: in order of number, complete, and fair to pruned trials."""

import pytest

from tests.search.planted_optimum import complete, infeasible
from tuner.search.finished_trial import FinishedTrial
from tuner.search.space import Dimension, SearchSpace
from tuner.search.trial_table import Branches, TrialTable

AXES = (Dimension("x", "float", 0.0, 1.0), Dimension("c", "categorical", choices=(1, True, None)))


def point(x: float) -> dict:
    return {"x": x, "c": True}


def test_order_of_arrival_leaves_no_trace() -> None:
    """Older trials weigh less: their order must be that of their numbers in every worker."""
    forward, backward = TrialTable(AXES, ("maximize",)), TrialTable(AXES, ("maximize",))
    trials = [complete(n, point(n / 10), float(n)) for n in range(6)]
    for trial in trials:
        forward.add(trial)
    for trial in reversed(trials):
        backward.add(trial)

    assert forward.columns()[0].tolist() == backward.columns()[0].tolist() == list(range(6))
    assert forward.columns()[1].tolist() == backward.columns()[1].tolist()


def test_true_and_one_are_two_choices() -> None:
    """Python says True == 1; a search over both would otherwise learn about the wrong one."""
    ledger = TrialTable(AXES, ("maximize",))
    for number, choice in enumerate(AXES[1].choices):
        ledger.add(complete(number, {"x": 0.5, "c": choice}, 0.0))

    assert ledger.columns()[1][:, 1].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"x": 0.5}, id="lacks a dimension"),
        pytest.param({"x": 1.5, "c": 1}, id="outside the range"),
        pytest.param({"x": 0.5, "c": "other"}, id="not a choice"),
    ],
)
def test_points_of_another_space_are_passed_over(params: dict) -> None:
    """A point that a person queued by hand may lie outside; it must not end the search."""
    ledger = TrialTable(AXES, ("maximize",))
    ledger.add(complete(0, params, 1.0))

    assert len(ledger) == 0


def test_models_without_pruning_see_pruned_trials_at_their_value() -> None:
    """GP ignores pruned trials; shown as they are, they teach it where not to look."""
    ledger = TrialTable(AXES, ("maximize",))
    ledger.add(complete(0, point(0.1), 0.9))
    ledger.add(FinishedTrial(1, "PRUNED", point(0.2), last=(5, 0.3)))
    ledger.add(infeasible(2, point(0.3)))
    ledger.add(FinishedTrial(3, "PRUNED", point(0.4), last=(5, float("nan"))))

    assert ledger.clipped_losses(0.0)[:, 0].tolist() == [-0.9, -0.3, 0.0, 0.0]


def test_a_failure_gets_the_worst_loss_of_the_study() -> None:
    """The only other trial of its loss may be the best of all: next to it a failure must not look good."""
    space = SearchSpace((Dimension("loss", "categorical", choices=("a", "b")), AXES[0]))
    branches = Branches(space, ("maximize",), numeric=False)
    for trial in (complete(0, {"loss": "a", "x": 0.1}, 0.2), complete(1, {"loss": "b", "x": 0.1}, 0.9)):
        branches.observe(trial)
    branches.observe(infeasible(2, {"loss": "b", "x": 0.4}))

    assert branches.losses(branches.ledger({"loss": "b"})).tolist() == [[-0.9], [-0.2]]


def test_nothing_but_failures_is_no_reason_to_fail() -> None:
    """The first trials of a study may all run out of memory."""
    space = SearchSpace(AXES)
    branches = Branches(space, ("maximize", "minimize"), numeric=False)
    branches.observe(infeasible(0, point(0.3)))

    assert branches.losses(branches.ledger({})).tolist() == [[0.0, 0.0]]
