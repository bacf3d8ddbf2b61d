"""What every storage promises: the budget is a queue, a trial runs once, a result counts once.

    class TestMine(StorageSuite):
        @pytest.fixture
        def storage(self, tmp_path):
            with open_mine(tmp_path) as storage:
                yield storage

`new_study`, `claimed`, `completed` and the other helpers make small studies for further tests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tuner.errors import ConflictError
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.records import Claim, EpochRow, NewStudy, Outcome
from tuner.storage.states import Reason, State, Verdict
from tuner.storage.storage import Storage

LOSSES = ("dice", "focal", "tversky")
SPACE = SearchSpace(
    (
        Dimension("loss", "categorical", choices=LOSSES),
        Dimension("train.lr", "float", 1e-5, 1e-2, log=True),
        Dimension("train.batch_size", "categorical", choices=(4, 8, 16)),
        Dimension("train.nesterov", "categorical", choices=(True, False)),
        Dimension("model.width", "int", 8, 64, log=True),
        Dimension("loss.focal.gamma", "float", 0.5, 5.0, when=("loss", "focal")),
        Dimension("loss.tversky.alpha", "float", 0.1, 0.9, when=("loss", "tversky")),
    )
)
DICE = ({"metric": "dice", "direction": "maximize"},)
DICE_AND_HD95 = (*DICE, {"metric": "hd95", "direction": "minimize"})


def new_study(name: str = "organs", trials: int = 3, **changes: Any) -> NewStudy:
    """Describe a study with an empty queue."""
    fields: dict[str, Any] = {
        "name": name,
        "spec": {"dataset": {"name": "phantom"}, "model": {"name": "unet"}},
        "space": SPACE,
        "objectives": DICE,
        "queue": [{}] * trials,
        "seed": 7,
        "version": "test",
    }
    return NewStudy(**(fields | changes))


def point(loss: str = "focal", **changes: Scalar) -> dict[str, Scalar]:
    """Return a whole point of SPACE."""
    params: dict[str, Scalar] = {
        "loss": loss,
        "train.lr": 1e-3,
        "train.batch_size": 8,
        "train.nesterov": False,
        "model.width": 16,
    }
    if loss == "focal":
        params["loss.focal.gamma"] = 2.0
    if loss == "tversky":
        params["loss.tversky.alpha"] = 0.3
    return params | changes


def epoch(number: int, value: float | None = 0.5, hd95: float | None = 10.0, **changes: Any) -> EpochRow:
    """Return one reported epoch."""
    fields: dict[str, Any] = {
        "epoch": number,
        "value": value,
        "metrics": {"dice": value, "hd95": hd95},
        "per_class": {"dice": {"liver": value, "aorta": None}},
        "train_loss": 1.0 / number,
        "lr": 1e-3,
        "seconds": 0.5,
    }
    return EpochRow(**(fields | changes))


def claimed(store: Storage, study_id: int, worker: str = "w1", params: Mapping[str, Scalar] | None = None) -> Claim:
    """Claim the next trial and give it a whole point."""
    claim = store.trials.claim(study_id, worker)
    assert claim is not None
    whole = claim.params if claim.has_params else dict(params or point())
    assert store.trials.set_params(claim, whole, SPACE)
    return claim


def completed(value: float, *others: float, last: tuple[int, float] | None = None) -> Outcome:
    """Return the outcome of a trial that ran to its end."""
    return Outcome(State.COMPLETE, values=(value, *others), last=last or (1, value))


def pruned(reason: Reason = Reason.PRUNED, last: tuple[int, float] | None = (1, 0.1)) -> Outcome:
    """Return the outcome of a trial that was ended early."""
    return Outcome(State.PRUNED, reason, last=last)


def failed(reason: Reason = Reason.ERROR, *, retry: bool = False, alone: bool = False) -> Outcome:
    """Return the outcome of a trial that failed."""
    return Outcome(State.FAIL, reason, "a message", retry=retry, exclusive_device=alone)


def run_all(store: Storage, study_id: int, values: Sequence[float], loss: str = "focal") -> list[Claim]:
    """Complete one trial for each value, each with two epochs."""
    claims = []
    for value in values:
        claim = claimed(store, study_id, params=point(loss))
        store.epochs.report(claim, epoch(1, value / 2, 100 * value))
        store.epochs.report(claim, epoch(2, value, 10 * value))
        assert store.trials.finish(
            claim, completed(value, *[10 * value] * (len(claim.directions) - 1), last=(2, value))
        )
        claims.append(claim)
    return claims


class StorageSuite:
    """Tests of a storage; a subclass provides the fixture `storage`."""

    @pytest.fixture
    def storage(self) -> Storage:
        """An open storage with its schema and without studies."""
        raise NotImplementedError("a subclass provides the fixture `storage`")

    def test_each_trial_is_claimed_once(self, storage: Storage) -> None:
        """No trial runs twice, none is lost."""
        study = storage.studies.create(new_study(trials=3))

        claims = [storage.trials.claim(study.study_id, "w1") for _ in range(4)]

        assert [claim and (claim.number, claim.slot, claim.attempt) for claim in claims] == [
            (0, 0, 1),
            (1, 1, 1),
            (2, 2, 1),
            None,
        ]

    def test_planned_parameters_arrive_with_the_claim(self, storage: Storage) -> None:
        """Published defaults are whole points, parts stay parts, and the rest is the sampler's."""
        study = storage.studies.create(new_study(queue=[point("tversky"), {"loss": "dice"}, {}]))

        claims = [storage.trials.claim(study.study_id, "w1") for _ in range(3)]

        assert [(claim.params, claim.has_params) for claim in claims if claim] == [
            (point("tversky"), True),
            ({"loss": "dice"}, False),
            ({}, False),
        ]

    def test_a_study_comes_back_as_it_was_stored(self, storage: Storage) -> None:
        """Resuming knows nothing but the storage: space, spec, seed and limits must survive it."""
        created = storage.studies.create(
            new_study(trials=2, seed=2**40, retries=5, timeout_s=60.0, resources={"workers": 2})
        )

        study = storage.studies.get("organs")

        assert study == created
        assert study.space == SPACE
        assert (study.seed, study.retries, study.timeout_s, study.total) == (2**40, 5, 60.0, 2)
        assert (study.spec["dataset"], study.resources, study.directions) == (
            {"name": "phantom"},
            {"workers": 2},
            ("maximize",),
        )

    def test_a_name_is_given_once(self, storage: Storage) -> None:
        """A second study of the name would mix two experiments."""
        storage.studies.create(new_study(trials=1))

        with pytest.raises(ConflictError, match="already"):
            storage.studies.create(new_study(trials=2))

        assert storage.studies.get("organs").total == 1

    def test_interrupted_trials_come_back_first(self, storage: Storage) -> None:
        """A retry continues a checkpoint that is warm; it must not wait behind the whole queue."""
        study = storage.studies.create(new_study(trials=3))
        first = claimed(storage, study.study_id)
        assert storage.trials.finish(first, failed(Reason.INTERRUPTED, retry=True))

        again = storage.trials.claim(study.study_id, "w2")

        assert again is not None
        assert (again.number, again.slot, again.attempt, again.retry_of, again.previous) == (3, 0, 2, 0, (0,))
        assert again.params == point()
        assert again.has_params

    def test_deleting_leaves_nothing(self, storage: Storage) -> None:
        """The name is free again, and another study keeps everything."""
        storage.studies.create(new_study("other", trials=1))
        study = storage.studies.create(new_study(trials=2))
        run_all(storage, study.study_id, [0.5])

        storage.studies.delete("organs")

        assert [document["name"] for document in storage.queries.studies()] == ["other"]
        again = storage.studies.create(new_study(trials=1))
        assert storage.queries.status("organs")["trials"]["total"] == 1
        assert storage.epochs.history(again.study_id).finished == []

    def test_a_study_with_live_workers_is_not_deleted(self, storage: Storage) -> None:
        """Its workers would train for nothing."""
        storage.studies.create(new_study(trials=1))
        worker = storage.workers.register(pid=1, device="cpu", study="organs", version="1", host="elsewhere")

        with pytest.raises(ConflictError, match="1 live worker"):
            storage.studies.delete("organs")

        storage.workers.unregister(worker)
        storage.studies.delete("organs")
        assert storage.queries.studies() == []

    def test_a_result_counts_once(self, storage: Storage) -> None:
        """The answer to a commit may be lost: telling the same again is fine, telling something else is not."""
        study = storage.studies.create(new_study(trials=1))
        claim = claimed(storage, study.study_id)

        assert storage.trials.finish(claim, completed(0.5))
        assert storage.trials.finish(claim, completed(0.5))
        assert not storage.trials.finish(claim, failed())

        assert [o.values for o in storage.epochs.history(study.study_id).finished] == [(0.5,)]

    def test_an_epoch_is_stored_once(self, storage: Storage) -> None:
        """A repeated report, after an answer was lost, must leave no double."""
        study = storage.studies.create(new_study(trials=1))
        claim = claimed(storage, study.study_id)

        for value in (0.3, 0.9):
            assert storage.epochs.report(claim, epoch(1, value)).verdict is Verdict.CONTINUE

        assert [row["value"] for row in storage.queries.epochs("organs", 0)] == [0.3]

    def test_the_best_value_so_far_is_kept(self, storage: Storage) -> None:
        """Pruners compare the best so far, and the value of a trial is its best epoch."""
        study = storage.studies.create(new_study(trials=1))
        claim = claimed(storage, study.study_id)
        for number, value in enumerate([None, 0.2, 0.6, 0.4, 0.6, None], start=1):
            storage.epochs.report(claim, epoch(number, value, hd95=float(number)))
        storage.trials.finish(claim, completed(0.6, last=(6, 0.6)))

        assert [row["best"] for row in storage.queries.epochs("organs", 0)] == [None, 0.2, 0.6, 0.6, 0.6, 0.6]
        best = storage.queries.best("organs")
        assert best is not None
        assert (best["epoch"], best["metrics"]) == (3, {"dice": 0.6, "hd95": 3.0})
        assert best["per_class"] == {"dice": {"liver": 0.6, "aorta": None}}
