"""Losses ranked over data sets: ranks, intervals, and when something is claimed."""

from typing import Any

import numpy as np
import pytest

from tuner.analysis.league import MIN_DATA_SETS, DataSetScores, League, rank_losses
from tuner.analysis.score_table import Candidate, Direction, ScoreTable
from tuner.errors import RequestError
from tuner.report.league_document import draw_league, league_blocks
from tuner.report.render import render_html, render_markdown

LOSSES = ("dice", "focal", "tversky")
SHIFTS = {"dice": 0.1, "focal": 0.0, "tversky": 0.05}


def study(
    number: int, *, shifts: dict[str, float] | None = None, spread: float = 0.01, **changes: Any
) -> DataSetScores:
    """Return a confirmed study whose losses differ by shifts."""
    shifts = SHIFTS if shifts is None else shifts
    rng = np.random.default_rng(number)
    values = np.stack([0.7 + shift + spread * rng.standard_normal((3, 8)) for shift in shifts.values()])
    direction: Direction = changes.pop("direction", "maximize")
    table = ScoreTable(
        tuple(Candidate(f"{loss} #{number}", loss=loss) for loss in shifts),
        ("a", "b", "c"),
        tuple(map(str, range(8))),
        values,
        direction=direction,
        metric=changes.pop("metric", "dice"),
    )
    fields = {"study": f"s{number}", "fingerprint": f"{number}", "random_cases": True, "regrets": {"dice": 0.02}}
    return DataSetScores(table=table, **(fields | changes))


def by_loss(league: League) -> dict[str, Any]:
    """Return the losses of a league by name."""
    return {item.loss: item for item in league.losses}


def test_few_data_sets_are_ranked_and_nothing_is_claimed() -> None:
    """Three data sets that all agree: ranks 1, 2, 3, one group."""
    found = rank_losses([study(n) for n in range(3)])

    assert [item.loss for item in found.losses] == ["dice", "tversky", "focal"]
    assert [item.mean_rank for item in found.losses] == [1, 2, 3]
    assert {item.groups for item in found.losses} == {"a"}
    assert (found.claims, found.critical_difference) == ((), None)
    assert "Nothing is claimed from 3 data sets; a claim needs 5." in found.text
    assert by_loss(found)["dice"].regret_of_defaults == pytest.approx(0.02)
    assert by_loss(found)["focal"].regret_of_defaults is None


def test_enough_data_sets_that_agree_make_a_claim() -> None:
    """Ten data sets: first and last differ by two ranks, more than Nemenyi's 1.05 (q 2.343; Demšar's table)."""
    found = rank_losses([study(n) for n in range(10)])

    assert found.critical_difference == pytest.approx(2.343 * (3 * 4 / 60) ** 0.5, abs=1e-3)
    assert [(claim.better, claim.worse) for claim in found.claims] == [("dice", "focal")]
    assert by_loss(found)["dice"].groups != by_loss(found)["focal"].groups


def test_equal_losses_are_seldom_told_apart() -> None:
    """Two hundred leagues of equals: at most 7 % of them claim something."""
    equal = dict.fromkeys(LOSSES, 0.0)
    claims = [
        bool(rank_losses([study(100 * n + k, shifts=equal) for k in range(8)], draws=10).claims) for n in range(200)
    ]

    assert np.mean(claims) <= 0.07


def test_intervals_hold_what_runs_and_data_sets_leave_open() -> None:
    """Losses that differ by less than their runs may change places; ranks lie between 1 and 3."""
    unsure = rank_losses([study(n, spread=0.5) for n in range(4)])

    for item in unsure.losses:
        low, high = item.rank_interval
        assert 1 <= low <= high <= 3
    assert any(item.rank_interval[1] - item.rank_interval[0] > 0.5 for item in unsure.losses)
    assert rank_losses([study(n) for n in range(4)]).losses[0].rank_interval == (1, 1)


def test_lower_may_be_better() -> None:
    """Distances turn the ranks round."""
    found = rank_losses([study(n, direction="minimize", metric="hd95") for n in range(MIN_DATA_SETS)])

    assert found.losses[0].loss == "focal"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        pytest.param([], "a league needs studies on several data sets", id="one"),
        pytest.param([study(0, study="again")], "'s0' and 'again' are on the same data", id="same data"),
        pytest.param([study(1, metric="iou")], "different metrics: dice, iou", id="metrics"),
        pytest.param([study(1, shifts={"dice": 0.0, "topk": 0.1})], "1 losses in common", id="losses"),
    ],
)
def test_what_cannot_be_ranked_is_refused(others: list[DataSetScores], message: str) -> None:
    """By name, with what would do."""
    with pytest.raises(RequestError, match=message):
        rank_losses([study(0), *others])


def test_a_league_is_a_document_and_a_picture() -> None:
    """Table, figure and what was left out."""
    league = rank_losses([study(0), study(1, shifts=SHIFTS | {"topk": 0.0}), *[study(n) for n in range(2, 6)]])
    blocks = league_blocks(league)

    assert "Left out, for not all studies have judged them: topk" in render_markdown(blocks)
    assert "<svg" in render_html("t", blocks) or "data:image/svg" in render_html("t", blocks)
    assert draw_league(league).to_png().startswith(b"\x89PNG")
    assert set(league.as_dict()) >= {"data_sets", "metric", "losses", "claims"}
