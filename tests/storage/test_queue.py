"""The budget is a queue: filled when a study is created, claimed in order, raised and jumped without losing count."""

import pytest
from sqlalchemy import select

from tests.storage.examples import SPACE, claimed, completed, new_study, point, run_all
from tuner.errors import NotFoundError, SpecError
from tuner.storage import schema
from tuner.storage.storage import Storage
from tuner.storage.trials import QueueSlot, StudyQueue, fresh_attempt


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "x" * 81, "späte"], ids=["empty", "dot", "slash", "long", "ä"])
def test_names_that_are_no_file_names_are_refused(store: Storage, name: str) -> None:
    """The name becomes a folder."""
    with pytest.raises(SpecError):
        store.studies.create(new_study(name))

    assert store.queries.studies() == []


def test_an_unknown_study_is_named_with_its_neighbour(store: Storage) -> None:
    """A typing error is answered by what was meant."""
    store.studies.create(new_study("organs"))

    with pytest.raises(NotFoundError, match="organs"):
        store.studies.get("organ")


def test_what_the_user_asks_for_is_tried_next(store: Storage) -> None:
    """It takes the place of an empty waiting trial, so the total stays."""
    study = store.studies.create(new_study(queue=[point("dice"), {}, {}]))

    number = store.studies.enqueue("organs", point("tversky"))

    assert number == 1
    assert store.studies.get("organs").total == 3
    claim = store.trials.claim(study.study_id, "w1")
    assert claim is not None
    assert (claim.number, claim.params) == (1, point("tversky"))


def test_the_total_grows_when_no_place_is_empty(store: Storage) -> None:
    """Nothing that was planned may be pushed out."""
    store.studies.create(new_study(queue=[point("dice")]))

    assert store.studies.enqueue("organs", {"loss": "focal", "loss.focal.gamma": 1.0}) == 1

    assert store.queries.status("organs")["trials"] == {
        "total": 2,
        "waiting": 2,
        "running": 0,
        "complete": 0,
        "pruned": 0,
        "failed": 0,
    }


def test_parameters_outside_the_space_are_refused(store: Storage) -> None:
    """A point that the sampler cannot place would poison its model."""
    store.studies.create(new_study(trials=1))

    with pytest.raises(SpecError) as caught:
        store.studies.enqueue("organs", {"loss": "dice", "loss.focal.gamma": 1.0, "train.lr": 5.0})

    assert len(caught.value.problems) == 2
    assert store.studies.get("organs").total == 1


def test_a_point_must_be_whole(store: Storage) -> None:
    """A trial without one of its parameters could not be repeated."""
    study = store.studies.create(new_study(trials=1))
    claim = store.trials.claim(study.study_id, "w1")
    assert claim is not None

    with pytest.raises(SpecError, match=r"loss\.focal\.gamma: is missing"):
        store.trials.set_params(claim, {k: v for k, v in point().items() if k != "loss.focal.gamma"}, SPACE)


def test_raising_the_budget_appends(store: Storage) -> None:
    """Numbers and places stay unique, and a smaller total changes nothing."""
    study = store.studies.create(new_study(trials=2))
    run_all(store, study.study_id, [0.1, 0.2])

    assert store.studies.raise_budget("organs", 4, [point("dice")]) == 4
    assert store.studies.raise_budget("organs", 3) == 4

    claims = [store.trials.claim(study.study_id, "w1") for _ in range(3)]
    assert [c and (c.number, c.slot, c.has_params) for c in claims] == [(2, 2, True), (3, 3, False), None]


def test_pause_stop_and_time_hold_the_queue(store: Storage) -> None:
    """Nothing new starts in a study that is paused, stopped or out of time."""
    study = store.studies.create(new_study(trials=3, timeout_s=0.0))
    assert store.trials.claim(study.study_id, "w1") is None
    assert store.queries.phase("organs") == ("stopped", "timeout")
    store.studies.resume("organs", timeout_s=100.0)
    assert store.trials.claim(study.study_id, "w1") is not None

    store.studies.pause("organs")
    assert store.trials.claim(study.study_id, "w1") is None
    assert store.queries.phase("organs") == ("paused", "user")
    store.studies.stop("organs", "failures", "five trials failed alike")
    assert store.trials.claim(study.study_id, "w1") is None
    assert (store.queries.status("organs")["phase_reason"], store.queries.status("organs")["message"]) == (
        "failures",
        "five trials failed alike",
    )

    store.studies.resume("organs")
    assert store.trials.claim(study.study_id, "w1") is not None


def test_the_budget_is_spent_when_nothing_waits_or_runs(store: Storage) -> None:
    """Workers end when, and only when, nothing can come back any more."""
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id)
    assert not store.queries.budget_spent(study.study_id)
    assert store.queries.studies_with_work() == []

    assert store.trials.finish(claim, completed(0.5))

    assert store.queries.budget_spent(study.study_id)
    assert store.queries.phase("organs") == ("done", "budget")


def test_places_of_which_nothing_is_known_are_rows_like_any_other(store: Storage) -> None:
    """The database makes them itself: a budget of a million trials took a minute and two gigabytes in Python."""
    study = store.studies.create(new_study(trials=2))
    store.studies.raise_budget("organs", 6, [point("dice"), {}])
    ground = StudyQueue(study.study_id, study.space, None)

    rows = store.context.database.read(
        lambda connection: list(connection.execute(select(schema.attempts).order_by(schema.attempts.c.number)))
    )

    assert [(row.number, row.slot, row.empty) for row in rows] == [(n, n, n != 2) for n in range(6)]
    for row in (rows[1], rows[5]):
        made = fresh_attempt(ground, row.trial_id, row.number, QueueSlot(row.slot, {}, filled=False))
        assert dict(row._mapping) == dict.fromkeys(row._fields) | made
    claims = [store.trials.claim(study.study_id, "w1") for _ in range(6)]
    assert [claim and claim.number for claim in claims] == list(range(6))
    assert store.trials.claim(study.study_id, "w1") is None
