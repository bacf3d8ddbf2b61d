"""Confirmations: stored beside a study, hidden from lists and counts, served by the same workers, deleted with it."""

import pytest

from tests.storage.examples import completed, failed, new_study, run_all
from tuner.errors import ConflictError, NotFoundError
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.records import ConfirmationRun, Look, NewStudy
from tuner.storage.storage import Storage

NAMES = ("dice", "dice (published options)")
SPACE = SearchSpace((Dimension("configuration", "categorical", choices=NAMES), Dimension("run", "int", 1, 1000)))


def runs(seeds: int, *names: str) -> list[ConfirmationRun]:
    return [ConfirmationRun(name, run) for run in range(1, seeds + 1) for name in names or NAMES]


def look(number: int, seeds: int) -> Look:
    return Look(number, seeds, 0.05 / (number * (number + 1)), NAMES, 1)


def confirm(store: Storage, seeds: int = 2) -> int:
    new = NewStudy(
        name="",
        spec={"dataset": {"name": "phantom"}, "confirmation": {"seeds": seeds}},
        space=SPACE,
        objectives=store.studies.get("organs").objectives,
        queue=(),
    )
    return store.confirmations.create("organs", new, runs(seeds), look(1, seeds)).study_id


@pytest.fixture
def searched(store: Storage) -> Storage:
    store.studies.create(new_study(trials=2))
    run_all(store, store.studies.get("organs").study_id, [0.5, 0.6])
    return store


def test_runs_are_no_trials_of_the_budget(searched: Storage) -> None:
    """Counts, lists, the best trial and what samplers see stay as the search has left them."""
    study_id = searched.studies.get("organs").study_id
    before = searched.queries.status("organs"), searched.queries.trials("organs"), searched.queries.best("organs")
    assert before[0]["confirmation"] is None

    child = confirm(searched)
    for _ in range(4):
        claim = searched.trials.claim(child, "w1")
        assert claim is not None
        assert claim.study_name == "organs/confirmation"
        searched.trials.finish(claim, completed(0.9))

    after = searched.queries.status("organs")
    assert after["confirmation"]["runs"] == {
        "total": 4, "waiting": 0, "running": 0, "complete": 4, "pruned": 0, "failed": 0,
    }  # fmt: skip
    assert (after["phase"], after["confirmation"]["phase"]) == ("done", "done")
    assert {**after, "confirmation": None} == before[0]
    assert (searched.queries.trials("organs"), searched.queries.best("organs")) == before[1:]
    assert [document["name"] for document in searched.queries.studies()] == ["organs"]
    assert len(searched.epochs.history(study_id).finished) == 2


def test_every_run_is_queued_once_whoever_asks_and_how_often(searched: Storage) -> None:
    """Asked again, nothing is added; with more seeds, what is missing is."""
    child = confirm(searched)
    assert confirm(searched) == child

    assert searched.confirmations.add("organs", runs(2), None) == 0
    assert searched.confirmations.add("organs", runs(3), look(2, 3), {"seeds": 3}) == 2
    assert searched.confirmations.add("organs", runs(3), look(2, 3)) == 0

    rows = searched.queries.trials("organs/confirmation")
    assert [ConfirmationRun.of(row["params"]) for row in rows] == runs(3)
    assert [row["loss"] for row in rows] == [*NAMES] * 3
    assert [(found.look, found.runs) for found in searched.confirmations.looks("organs")] == [(1, 2), (2, 3)]
    record = searched.confirmations.find("organs")
    assert record is not None
    assert record.spec["confirmation"] == {"seeds": 3}


def test_workers_find_runs_as_they_find_trials(searched: Storage) -> None:
    """Those that serve any study, and lost runs go back into the queue."""
    child = confirm(searched, seeds=1)
    assert searched.queries.studies_with_work() == ["organs/confirmation"]
    claim = searched.trials.claim(child, "w1")
    assert claim is not None

    searched.trials.finish(claim, failed(retry=True))

    again = searched.trials.claim(child, "w2")
    assert again is not None
    assert (again.params, again.previous) == (claim.params, (claim.number,))


def test_a_worker_of_the_study_is_one_of_its_confirmation(searched: Storage) -> None:
    """Its run is shown as a run, never under the number of a trial."""
    child = confirm(searched, seeds=1)
    worker = searched.workers.register(pid=1, device="cpu", study="organs", version="test", host="far")
    assert searched.trials.claim(child, worker) is not None

    document = searched.queries.status("organs")

    assert [(w["trial"], w["run"]) for w in document["workers"]] == [(None, 0)]
    assert document["confirmation"]["phase"] == "running"
    assert [w["id"] for w in searched.queries.status("organs/confirmation")["workers"]] == [worker]
    assert searched.workers.live("organs")[0]["study"] == "organs"
    with pytest.raises(ConflictError, match="runs"):
        searched.studies.delete("organs")


def test_it_is_stopped_resumed_and_deleted_with_its_study(searched: Storage) -> None:
    """Nothing of it is left behind for the next study of the name."""
    child = confirm(searched)

    searched.studies.stop("organs")
    assert searched.trials.claim(child, "w1") is None
    assert searched.queries.status("organs")["confirmation"]["phase"] == "stopped"
    searched.studies.resume("organs")
    assert searched.trials.claim(child, "w1") is not None

    searched.studies.delete("organs")
    assert searched.queries.studies() == []
    with pytest.raises(NotFoundError):
        searched.studies.get("organs/confirmation")
    searched.studies.create(new_study(trials=2))
    assert searched.confirmations.find("organs") is None
    assert searched.confirmations.looks("organs") == ()


def test_one_that_is_replaced_is_kept_and_rests(searched: Storage) -> None:
    """Its runs stay; none of them is begun any more, whatever is resumed; of two who replace it the first is served."""
    old = confirm(searched)
    record = searched.confirmations.find("organs")
    assert record is not None

    again = NewStudy("", record.spec, SPACE, record.objectives, ())
    new = searched.confirmations.create("organs", again, runs(1), look(1, 1), replaces=record.identity)
    late = searched.confirmations.create("organs", again, runs(3), look(1, 3), replaces=record.identity)
    searched.studies.stop("organs")
    searched.studies.resume("organs")

    assert new.name == "organs/confirmation-2"
    assert late.study_id == new.study_id
    assert searched.confirmations.names("organs") == ["organs/confirmation", "organs/confirmation-2"]
    assert searched.queries.status("organs")["confirmation"]["runs"]["total"] == len(NAMES)
    assert searched.queries.studies()[0]["confirmation"]["runs"]["total"] == len(NAMES)
    assert len(searched.queries.trials("organs/confirmation")) == 2 * len(NAMES)
    assert searched.trials.claim(old, "w1") is None
    assert searched.queries.studies_with_work() == ["organs/confirmation-2"]
    assert searched.queries.revision("organs")
    searched.studies.delete("organs")
    assert searched.queries.studies() == []


def test_what_changes_in_it_changes_the_revision_of_its_study(searched: Storage) -> None:
    """Pages and ETags of the study show how it stands."""
    seen = {searched.queries.revision("organs")}

    child = confirm(searched)
    seen.add(searched.queries.revision("organs"))
    claim = searched.trials.claim(child, "w1")
    assert claim is not None
    seen.add(searched.queries.revision("organs"))
    searched.trials.finish(claim, completed(0.9))
    seen.add(searched.queries.revision("organs"))

    assert len(seen) == 4


def test_a_confirmation_of_nothing(store: Storage) -> None:
    """An unknown study, and one without a confirmation."""
    store.studies.create(new_study())
    assert store.confirmations.find("organs") is None

    with pytest.raises(NotFoundError):
        store.confirmations.find("orgns")
    with pytest.raises(NotFoundError, match="no confirmation"):
        store.confirmations.add("organs", runs(1), None)
