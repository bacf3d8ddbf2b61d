"""The numbers behind tables, caveats and the time that is left, checked by hand."""

from typing import Any

import pytest

from tuner.analysis.leaderboard import best_default, caveats, families, leaderboard, remaining_seconds
from tuner.search.space import Dimension, SearchSpace

DICE = {"metric": "dice", "direction": "maximize"}
SPACE = SearchSpace(
    (
        Dimension("loss", "categorical", choices=("dice", "focal")),
        Dimension("train.lr", "float", 1e-4, 1e-2, log=True),
        Dimension("loss.focal.gamma", "float", 0.0, 4.0, when=("loss", "focal")),
    )
)


def row(number: int, value: float | None = None, state: str = "COMPLETE", **changes: Any) -> dict[str, Any]:
    """Return a trial as the store lists it."""
    fields: dict[str, Any] = {
        "number": number,
        "slot": number,
        "state": state,
        "value": value,
        "loss": "dice",
        "params": {"loss": "dice", "train.lr": 1e-3},
        "duration_s": 10.0,
        "finished": None if state == "RUNNING" else "2026-01-01T00:00:00Z",
    }
    return fields | changes


def test_the_leaderboard_ranks_losses_by_their_best_trial() -> None:
    """Best first, with median, default, and what became of the others."""
    rows = [
        row(0, 0.5),
        row(1, 0.6, loss="focal"),
        row(2, 0.9),
        row(3, 0.7),
        row(4, None, "PRUNED", loss="focal"),
        row(5, None, "FAIL", loss="tversky"),
        row(6, None, "WAITING", loss=None),
    ]

    dice, focal, tversky = leaderboard(rows, "maximize", defaults=2)

    assert (dice.loss, dice.family, dice.best, dice.best_trial, dice.median) == ("dice", "region", 0.9, 2, 0.7)
    assert (dice.default, focal.default, tversky.default) == (0.5, 0.6, None)
    assert (focal.finished, focal.complete, focal.pruned) == (2, 1, 1)
    assert (tversky.best, tversky.failed) == (None, 1)
    assert [standing.loss for standing in families([dice, focal, tversky], "maximize")] == ["dice", "focal"]
    best = best_default([dice, focal, tversky], "maximize")
    assert best is not None
    assert best.loss == "focal"


def test_smaller_is_better_where_the_metric_says_so() -> None:
    """A leaderboard of HD95 begins with the smallest distance."""
    standings = leaderboard([row(0, 9.0), row(1, 4.0, loss="focal")], "minimize")

    assert [standing.loss for standing in standings] == ["focal", "dice"]


def test_caveats_name_the_edge_and_the_few_trials() -> None:
    """A configuration that is exported goes with what speaks against it."""
    best = row(0, 0.80, params={"loss": "focal", "train.lr": 1e-2, "loss.focal.gamma": 2.0}, loss="focal")

    said = caveats(SPACE, DICE, [best, row(1, 0.79)], best, protocol="test")

    assert any("train.lr = 0.01 lies on the upper edge" in text for text in said)
    assert any("few trials: 2 finished" in text for text in said)
    assert any("not confirmed: how much a value moves" in text for text in said)
    assert any("validated on the test cases" in text for text in said)
    assert not any("gamma" in text for text in said)


def test_a_large_lead_in_a_long_search_is_no_confirmation() -> None:
    """The best of many values is chosen for its luck as well; a smooth curve does not tell of that."""
    rows = [row(number, 0.5 + number / 1000) for number in range(30)] + [row(30, 0.9)]

    (said,) = caveats(SPACE, DICE, rows, rows[-1])

    assert said.startswith("not confirmed")


def test_the_export_names_the_best_value_of_another_trial() -> None:
    """Values are facts; which configuration is better is not said."""
    rows = [row(0, 0.5), row(1, 0.9, loss="focal")]

    said = caveats(SPACE, DICE, rows, rows[0])

    assert "the best value seen is another trial's: dice 0.9, trial 1 (focal)" in said


def test_the_time_left_is_shared_by_the_workers() -> None:
    """Four waiting trials of 10 s and one that runs for 4 s already, two workers: (40 + 6) / 2."""
    rows = [row(0, 0.5), row(1, 0.5), row(2, state="RUNNING", duration_s=4.0)]

    assert remaining_seconds(rows, left=5, workers=2) == pytest.approx(23.0)
    assert remaining_seconds([rows[2]], left=5, workers=2) is None
    assert remaining_seconds(rows[:2], left=0, workers=2) == 0.0
