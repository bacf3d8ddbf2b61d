"""Curves: each epoch once, and peers counted in the same way as a slow loop in Python counts them."""

import math
import random

import pytest

from tests.storage.examples import claimed, completed, epoch, failed, new_study, point
from tuner.search.pruners import Peers
from tuner.storage.states import Reason, Verdict
from tuner.storage.storage import Storage


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_peers_are_counted_as_a_loop_counts_them(store: Storage, direction: str) -> None:
    """Pruning stands on these five numbers."""
    study = store.studies.create(new_study(trials=12, objectives=[{"metric": "dice", "direction": direction}]))
    chance = random.Random(1)
    pick = max if direction == "maximize" else min
    curves: dict[int, tuple[str, int, list[float]]] = {}
    finished = 0
    for number in range(12):
        loss, bracket = ("dice", "focal")[number % 2], number % 3 == 0
        claim = claimed(store, study.study_id, params=point(loss))
        values: list[float] = []
        for step in range(1, chance.randint(2, 5)):
            values.append(round(chance.random(), 1))
            answer = store.epochs.report(claim, epoch(step, values[-1]), peers=True, bracket=int(bracket))

            others = [
                (name == loss, pick(curve[:step]))
                for name, group, curve in curves.values()
                if group == bracket and len(curve) >= step
            ]
            better = [same for same, best in others if best != pick(values) and pick(best, pick(values)) == best]
            assert answer.peers == Peers(
                finished, sum(same for same, _ in others), sum(better), len(others), len(better)
            )
        curves[number] = (loss, int(bracket), values)
        if number % 4:
            store.trials.finish(claim, completed(pick(values)))
            finished += 1


def test_numbers_that_are_not_finite_become_null(store: Storage) -> None:
    """JSON has no NaN: one diverged epoch must not make a study unreadable."""
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id)

    store.epochs.report(claim, epoch(1, math.nan, math.inf, train_loss=math.nan))

    row = store.queries.epochs("organs", 0)[0]
    assert (row["value"], row["best"], row["train_loss"]) == (None, None, None)
    assert row["metrics"] == {"dice": None, "hd95": None}


def test_verdicts_reach_the_worker_with_its_next_report(store: Storage) -> None:
    """Stop and prune by hand are asked for in the database; nobody talks to a worker."""
    study = store.studies.create(new_study(trials=2, timeout_s=1000.0))
    claim = claimed(store, study.study_id)
    assert store.epochs.report(claim, epoch(1)).verdict is Verdict.CONTINUE

    store.studies.pause("organs")
    assert store.epochs.report(claim, epoch(2)).verdict is Verdict.CONTINUE
    store.studies.stop("organs", "failures")
    answer = store.epochs.report(claim, epoch(3))
    assert (answer.verdict, answer.reason) == (Verdict.STOP, "failures")
    store.studies.resume("organs", timeout_s=0.0)
    answer = store.epochs.report(claim, epoch(4))
    assert (answer.verdict, answer.reason) == (Verdict.STOP, "timeout")
    store.studies.resume("organs", timeout_s=None)
    store.studies.prune_manually("organs", claim.number)
    assert store.epochs.report(claim, epoch(5)).verdict is Verdict.PRUNE_BY_HAND


def test_a_new_attempt_competes_once(store: Storage) -> None:
    """It tells the epochs before the interruption again: they belong to both attempts, and count as one peer."""
    study = store.studies.create(new_study(trials=2))
    first = claimed(store, study.study_id)
    for number in (1, 2, 3):
        store.epochs.report(first, epoch(number, number / 10))
    store.trials.finish(first, failed(Reason.INTERRUPTED, retry=True))
    again = store.trials.claim(study.study_id, "w2")
    assert again is not None
    for number in (1, 2, 3):
        assert store.epochs.report(again, epoch(number, number / 10), peers=True).peers == Peers(0, 0, 0, 0, 0)

    other = claimed(store, study.study_id, "w3")

    assert store.epochs.report(other, epoch(3, 0.25), peers=True).peers == Peers(0, 1, 1, 1, 1)
    assert len(store.queries.epochs("organs", first.number)) == len(store.queries.epochs("organs", again.number)) == 3
