"""Complete trials as columns that figures share, and the rows by which a study is ranked by another metric."""

import numpy as np
import pytest
from sqlalchemy import select

from tests.storage.examples import DICE_AND_HD95, claimed, completed, epoch, failed, new_study, pruned, ranked_by
from tuner.storage import schema
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.ranking import Ranking
from tuner.storage.storage import Storage
from tuner.storage.studies import OF_STUDY
from tuner.storage.trial_selection import Measure, Selection, TrialFilter


def scores(store: Storage) -> list[tuple[object, ...]]:
    rows = select(schema.scores).order_by(*schema.scores.primary_key.columns)
    return store.context.database.read(lambda connection: [tuple(row) for row in connection.execute(rows)])


@pytest.mark.parametrize("maximizes", [True, False])
def test_columns_rank_as_sorting_by_hand_does(maximizes: bool) -> None:
    """Reference: lists, with equal values among them, given in no order."""
    dice = np.random.default_rng(0)
    rows = [(int(n), "ab"[int(dice.integers(2))], float(dice.integers(9))) for n in dice.permutation(60)]
    sign = -1 if maximizes else 1
    ranking = Ranking.read(rows, maximizes=maximizes)
    by_hand = sorted(rows, key=lambda row: (sign * row[2], row[0]))

    assert [t.number for t in ranking.best(60)] == [row[0] for row in by_hand]
    assert [t.number for t in ranking.best(3, branch="b")] == [row[0] for row in by_hand if row[1] == "b"][:3]
    spread, total = ranking.spread(7)
    assert (spread[0].number, len(spread), total) == (by_hand[0][0], 7, 60)
    assert [t.value for t in spread] == sorted((t.value for t in spread), reverse=maximizes)
    assert ranking.spread(7, branch="no such")[0] == []
    history, records = ranking.history(5)
    best, expected = None, []
    for number, _, value in sorted(rows):
        if best is None or sign * value < sign * best:
            best = value
            expected.append(number)
    assert [t.number for t, record in zip(history, records, strict=True) if record] == expected


def test_nothing_is_ranked_before_the_first_trial(store: Storage) -> None:
    """An empty study has pages too."""
    store.studies.create(new_study(trials=1))
    reading, study = FigureQueries(store), store.studies.get("organs")

    assert reading.history(study, most=5).rows == []
    assert reading.points(study, most=5).rows == []
    assert reading.values_by_loss(study, most=5) == []
    assert reading.curve_trials(study, most=5, selection=Selection((TrialFilter("train.lr", 0, 1),))).rows == []


def test_a_complete_trial_stores_what_it_scored_at_its_best_epoch(store: Storage) -> None:
    """Of the epoch that was kept; numbers that were not finite have no row, nor have trials that did not complete."""
    study = store.studies.create(new_study(trials=3, objectives=DICE_AND_HD95))
    for outcome in (completed(0.8, 5.0), failed(), pruned(last=(1, 0.4))):
        claim = claimed(store, study.study_id)
        for number, (dice, hd95) in enumerate([(0.4, 1.0), (0.8, float("inf")), (0.6, 2.0)], start=1):
            store.epochs.report(claim, epoch(number, dice, hd95))
        assert store.trials.finish(claim, outcome)

    assert scores(store) == [
        (study.study_id, "dice", "", 0, "focal", 0.8),
        (study.study_id, "dice", "liver", 0, "focal", 0.8),
    ]
    assert ranked_by(store, "hd95") == []
    store.studies.delete("organs")
    assert scores(store) == []


def test_filters_and_another_metric_go_together(store: Storage) -> None:
    """Of trials that are filtered by a parameter, the other metric; curves in its order."""
    study = store.studies.create(new_study(trials=4))
    for value, hd95 in ((0.5, 4.0), (0.6, 2.0), (0.7, 3.0), (0.8, 9.0)):
        claim = claimed(store, study.study_id)
        store.epochs.report(claim, epoch(1, value, hd95))
        assert store.trials.finish(claim, completed(value))
    reading, record = FigureQueries(store), store.studies.get("organs")
    selection = Selection((TrialFilter("value", 0.55, 0.75),), Measure("hd95", "minimize"))

    assert [row.value for row in reading.points(record, most=9, selection=selection).rows] == [2.0, 3.0]
    assert [row.number for row in reading.points(record, most=9, loss="focal", selection=selection).rows] == [1, 2]
    assert [row.number for row in reading.curve_trials(record, most=8, selection=selection).rows] == [1, 2]
    assert [row.number for row in reading.history(record, most=9, selection=selection).rows] == [1, 2]


def test_a_deleted_study_leaves_no_row_behind() -> None:
    """SQLite gives its id to the next study, and Optuna's own tools do not know our tables."""
    of_study = {table for table in schema.metadata.sorted_tables if "study_id" in table.columns}

    assert of_study - {schema.workers} == set(OF_STUDY)
