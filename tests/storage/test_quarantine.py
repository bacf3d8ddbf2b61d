"""A device whose trials fail while those of others do not: found, written down, told, and forgotten when mended."""

import os

import pytest

from tests.storage.examples import claimed, completed, failed, new_study
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage
from tuner.storage.workers import FinishedAttempt
from tuner.worker.exit_codes import QUARANTINED
from tuner.worker.health import DeviceQuarantinedError, check_device, failing


def ended(
    number: int, host: str, *, state: State = State.FAIL, reason: Reason | None = Reason.ERROR
) -> FinishedAttempt:
    return FinishedAttempt(number, host, "cuda:0", state, reason, f"broken {number}", float(number), number + 5.0)


def fine(number: int, host: str) -> FinishedAttempt:
    return ended(number, host, state=State.COMPLETE, reason=None)


def newest_first(*ends: FinishedAttempt) -> list[FinishedAttempt]:
    return sorted(ends, key=lambda end: -end.finished_at)


THREE = [ended(number, "a") for number in (1, 2, 4)]


@pytest.mark.parametrize(
    ("ends", "is_aside"),
    [
        ([ended(1, "a"), ended(2, "a"), fine(3, "b"), ended(4, "a")], True),
        ([ended(1, "a"), ended(2, "a"), ended(4, "a")], False),
        ([ended(1, "a"), fine(3, "b"), ended(4, "a")], False),
        ([ended(1, "a"), ended(2, "a"), ended(3, "b"), ended(4, "a")], False),
        ([ended(1, "a"), fine(2, "a"), fine(3, "b"), ended(4, "a"), ended(5, "a")], False),
        ([fine(1, "b"), ended(21, "a"), ended(22, "a"), ended(23, "a")], False),
        ([ended(n, "a", reason=Reason.TIMEOUT) for n in (1, 2, 4)] + [fine(3, "b")], False),
        ([ended(1, "a"), ended(2, "a"), ended(4, "a"), ended(3, "b", state=State.PRUNED, reason=Reason.PRUNED)], True),
        (
            [ended(1, "a"), ended(2, "a"), ended(4, "a"), ended(3, "b", state=State.PRUNED, reason=Reason.DIVERGED)],
            False,
        ),
    ],
    ids=["aside", "alone", "two only", "others fail too", "one was fine", "long ago", "timeouts", "pruned", "diverged"],
)
def test_a_device_is_blamed_only_when_others_do_well(ends: list[FinishedAttempt], is_aside: bool) -> None:
    """A bad search space, bad data, or bad luck must not take machines out of a study."""
    assert (failing(newest_first(*ends), host="a", device="cuda:0") is not None) is is_aside


def worker(store: Storage, host: str) -> str:
    return store.workers.register(host=host, pid=os.getpid(), device="cuda:0", study="organs", version="test")


def test_a_device_is_put_aside_and_told_until_it_is_mended(store: Storage) -> None:
    """The lab has to see which card is broken, and the study has to go on without it."""
    study = store.studies.create(new_study(trials=8))
    bad, good = worker(store, "a"), worker(store, "b")
    for number in range(3):
        assert store.trials.finish(claimed(store, study.study_id, bad), failed(Reason.ERROR))
        assert store.trials.finish(claimed(store, study.study_id, good), completed(0.5))
        if number < 2:
            check_device(store, "organs", bad, host="a", device="cuda:0")
    check_device(store, "organs", good, host="b", device="cuda:0")
    before = store.studies.get("organs").revision

    with pytest.raises(DeviceQuarantinedError, match="cuda:0 of a is quarantined: its last 3 trials") as raised:
        check_device(store, "organs", bad, host="a", device="cuda:0")

    assert raised.value.exit_code == QUARANTINED
    (told,) = store.queries.status("organs")["put_aside"]
    assert (told["host"], told["device"], told["study"]) == ("a", "cuda:0", "organs")
    assert "all failed while 3 elsewhere did not" in told["why"]
    assert store.workers.quarantined() == [told]
    assert [w["host"] for w in store.workers.live("organs")] == ["b"]
    assert store.studies.get("organs").revision > before  # pages that are remembered must show it
    counts = store.queries.status("organs")["trials"]
    assert (counts["failed"], counts["complete"], counts["waiting"]) == (3, 3, 2)

    worker(store, "a")

    assert store.workers.quarantined() == [] == store.queries.status("organs")["put_aside"]


def test_other_studies_are_not_told(store: Storage) -> None:
    """Each study shows its own troubles."""
    for name in ("organs", "other"):
        store.studies.create(new_study(name))
    store.workers.quarantine_device(worker(store, "a"), "organs", "why")

    assert store.queries.status("other")["put_aside"] == []
    assert store.workers.quarantined("other") == []
    assert len(store.workers.quarantined("organs")) == 1
