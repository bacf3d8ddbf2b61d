"""`budget.hours_per_loss`: every loss gets the same training time, whoever trains and whatever is interrupted."""

import threading
from collections import Counter
from typing import Any

import pytest

from tests.storage.examples import LOSSES, SPACE, completed, epoch, failed, new_study, point, pruned
from tuner.errors import ConflictError
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.records import Claim, StudyRecord
from tuner.storage.states import Reason
from tuner.storage.storage import Storage

EPOCHS = 4
SECONDS = {"dice": 50.0, "focal": 130.0, "tversky": 300.0}
"""Of an epoch: of three losses that are not equally dear."""
HOUR = 3600.0


def timed(store: Storage, space: SearchSpace = SPACE, **budget: Any) -> StudyRecord:
    """Store a study in which each loss gets an hour."""
    limits = {"hours_per_loss": 1.0, "trials": 1_000_000, "trials_per_loss": None, **budget}
    spec = {"dataset": {"name": "phantom"}, "model": {"name": "unet"}, "train": {"epochs": EPOCHS}, "budget": limits}
    queue = [{"loss": loss} for loss in LOSSES][: limits["trials"]]
    return store.studies.create(new_study(space=space, spec=spec, queue=queue))


def take(store: Storage, study: StudyRecord, worker: str = "w1") -> Claim | None:
    """Claim a trial and give it a point of its loss, another one each time."""
    claim = store.trials.claim(study.study_id, worker)
    if claim is not None and not claim.has_params:
        params = {**point(str(claim.params["loss"])), "train.lr": 1e-5 * (claim.slot + 1)}
        assert store.trials.set_params(claim, {d.name: params[d.name] for d in study.space.active(params)}, study.space)
    return claim


def train(store: Storage, claim: Claim, loss: str, first: int = 1, last: int = EPOCHS, factor: float = 1.0) -> None:
    for number in range(first, last + 1):
        store.epochs.report(claim, epoch(number, seconds=SECONDS[loss] * factor + number / 8))


def serve(store: Storage, study: StudyRecord, worker: str = "w1") -> Counter[str]:
    """Train until nothing is left; return the trials of each loss."""
    done: Counter[str] = Counter()
    while (claim := take(store, study, worker)) is not None:
        loss = str(claim.params["loss"])
        train(store, claim, loss)
        store.trials.finish(claim, completed(0.5, last=(EPOCHS, 0.5)))
        done[loss] += 1
    return done


def hours(store: Storage) -> dict[str, float]:
    found: dict[str, float] = store.queries.status("organs")["loss_time"]["hours"]
    return found


def test_each_loss_is_trained_until_its_time_is_used_up(store: Storage) -> None:
    """No loss gets a trial after its hour; the one under way then is finished; the study is over with the last."""
    study = timed(store)

    done = serve(store, study)

    trial = {loss: sum(SECONDS[loss] + n / 8 for n in range(1, EPOCHS + 1)) for loss in LOSSES}
    assert done == {loss: -(-HOUR // trial[loss]) for loss in LOSSES}
    assert hours(store) == pytest.approx({loss: done[loss] * trial[loss] / HOUR for loss in LOSSES})
    assert store.queries.phase("organs") == ("done", "budget")
    assert store.queries.status("organs")["trials"]["total"] == sum(done.values()) == store.studies.get("organs").total


def test_the_loss_that_has_had_the_least_comes_next(store: Storage) -> None:
    """Whenever the study is ended before its time, the losses have had about the same."""
    study = timed(store)
    for _ in range(20):
        claim = take(store, study)
        assert claim is not None
        train(store, claim, str(claim.params["loss"]))
        store.trials.finish(claim, completed(0.5, last=(EPOCHS, 0.5)))

    used = sorted(hours(store).values())

    assert used[-1] - used[0] <= 1.1 * EPOCHS * SECONDS["tversky"] / HOUR


def test_several_workers_overdraw_no_more_than_one(store: Storage) -> None:
    """A worker starts a further trial of a loss only if those under way leave time, and none in the same moment."""
    study = timed(store)
    crowd = [threading.Thread(target=serve_patiently, args=(store, study, f"w{i}")) for i in range(4)]

    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(timeout=240)

    trial = {loss: (EPOCHS * SECONDS[loss] + 2) / HOUR for loss in LOSSES}
    used = hours(store)
    assert store.queries.phase("organs") == ("done", "budget")
    assert all(1 <= used[loss] < 1 + trial[loss] for loss in LOSSES), used


def serve_patiently(store: Storage, study: StudyRecord, worker: str) -> None:
    """Serve as a worker does: until the study is over, also where nothing can be claimed for now."""
    while store.queries.phase("organs")[0] != "done":
        serve(store, study, worker)


def test_a_second_trial_waits_until_the_length_of_the_first_is_known(store: Storage) -> None:
    """An idle worker gets another trial of a loss when the first epoch says that there is time for it."""
    study = timed(store)
    running = [take(store, study) for _ in LOSSES]

    before = take(store, study, "w2")
    assert before is None
    assert store.queries.studies_with_work() == ["organs"]  # whoever serves any study asks again
    for claim in running:
        assert claim is not None
        train(store, claim, str(claim.params["loss"]), last=1)
    after = take(store, study, "w2")

    assert after is not None
    assert after.params["loss"] == "dice"


def test_an_epoch_counts_once_unless_it_is_trained_again(store: Storage) -> None:
    """What an attempt reports again from its checkpoint is not counted; what it lost and trains again is."""
    study = timed(store)
    first = take(store, study)
    assert first is not None
    train(store, first, "dice", last=2)
    store.trials.finish(first, failed(Reason.INTERRUPTED, retry=True))
    second = take(store, study)
    assert second is not None
    train(store, second, "dice", last=3)  # the first two as they were
    replayed = hours(store)["dice"]
    store.trials.finish(second, failed(Reason.INTERRUPTED, retry=True))
    third = take(store, study)
    assert third is not None
    train(store, third, "dice", last=3, factor=1.5)  # from the beginning, without a checkpoint

    assert replayed == pytest.approx((3 * 50 + 0.75) / HOUR)
    assert hours(store)["dice"] == pytest.approx((3 * 50 + 0.75 + 3 * 75 + 0.75) / HOUR)


def test_a_pause_while_the_last_trial_ends_is_no_end(store: Storage) -> None:
    """There is always a trial that waits as long as a loss has time left."""
    study = timed(store)
    claims = [take(store, study) for _ in LOSSES]
    store.studies.pause("organs")
    for claim in claims:
        assert claim is not None
        train(store, claim, str(claim.params["loss"]))
        store.trials.finish(claim, pruned())

    assert store.queries.phase("organs")[0] == "paused"
    assert take(store, study) is None
    store.studies.resume("organs")
    assert take(store, study) is not None


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"trials": 7}, 7), ({"trials_per_loss": 2}, 6), ({"trials": 2}, 2)],
    ids=["trials", "trials of each loss", "fewer trials than losses"],
)
def test_numbers_of_trials_beside_are_the_most(store: Storage, limits: dict[str, int], most: int) -> None:
    """Time and numbers hold together: whichever is reached first."""
    study = timed(store, **limits)

    assert sum(serve(store, study).values()) == most
    assert store.queries.phase("organs") == ("done", "budget")


def test_a_loss_whose_points_are_all_tried_is_over(store: Storage) -> None:
    """No point is trained twice only to use up a time."""
    seeds = Dimension("train.batch_size", "categorical", choices=(4, 8))
    study = timed(store, SearchSpace((SPACE.dimensions[0], seeds)))

    assert serve_points(store, study) == dict.fromkeys(LOSSES, 2)


def serve_points(store: Storage, study: StudyRecord) -> Counter[str]:
    done: Counter[str] = Counter()
    while (claim := store.trials.claim(study.study_id, "w1")) is not None:
        loss = str(claim.params["loss"])
        store.trials.set_params(claim, {"loss": loss, "train.batch_size": (4, 8)[done[loss] % 2]}, study.space)
        train(store, claim, loss)
        store.trials.finish(claim, completed(0.5))
        done[loss] += 1
    return done


def test_a_loss_that_never_trains_does_not_go_on_for_ever(store: Storage) -> None:
    """Ten trials without one epoch are enough; the others have their hour."""
    study = timed(store)
    done: Counter[str] = Counter()
    while (claim := take(store, study)) is not None:
        loss = str(claim.params["loss"])
        done[loss] += 1
        if loss == "focal":
            store.trials.finish(claim, pruned(Reason.OUT_OF_MEMORY, last=None))
        else:
            train(store, claim, loss)
            store.trials.finish(claim, completed(0.5))

    assert done["focal"] == 10
    assert min(used for loss, used in hours(store).items() if loss != "focal") >= 1


def test_more_time_goes_on_and_a_number_of_trials_is_refused(store: Storage) -> None:
    """A study that was over has trials again for the losses that the new time leaves."""
    study = timed(store)
    before = serve(store, study)

    with pytest.raises(ConflictError, match="training time"):
        store.studies.raise_budget("organs", 500)
    store.studies.change_loss_time("organs", {"hours_per_loss": 2.0})
    assert store.queries.phase("organs")[0] != "done"
    after = serve(store, study)

    assert all(after[loss] >= before[loss] - 1 > 0 for loss in LOSSES)
    assert min(hours(store).values()) >= 2


def test_what_a_user_enqueues_is_trained_and_counted(store: Storage) -> None:
    """An enqueued point comes first and takes from the time of its loss."""
    study = timed(store)
    store.studies.enqueue("organs", point("dice"))

    claim = take(store, study)

    assert claim is not None
    assert claim.params == point("dice")
    train(store, claim, "dice")
    assert hours(store)["dice"] > 0
