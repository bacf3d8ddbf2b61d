"""How a training ends that ends by itself, hangs, takes too long, or is ended at once; real threads, a real storage."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tuner.worker.study_cache
import tuner.worker.worker
from tests.storage.examples import claimed, completed, new_study, point
from tests.worker.studies import create, entry, settings, tiny, work
from tuner.data.preparation import PreparedData
from tuner.errors import ConflictError
from tuner.storage.records import Claim, Orders
from tuner.storage.storage import Storage
from tuner.worker.exit_codes import REPLACE
from tuner.worker.health import ProcessSpentError
from tuner.worker.worker import Worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Storage]:
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds are a long time for a test."""
    for name, value in (("HEARTBEAT_INTERVAL_S", 0.1), ("WATCH_S", 0.05), ("ANSWER_S", 0.5), ("LAST_WORDS_S", 20.0)):
        monkeypatch.setattr(tuner.worker.worker, name, value)
    monkeypatch.setattr(tuner.worker.worker, "end_children", lambda: None)  # those of all tests


@contextmanager
def serving(store: Storage, folder: Path) -> Iterator[tuple[Worker, "list[int]"]]:
    """Have a worker serve the study in a thread that may hang; yields the worker, and the codes it ended with."""
    codes: list[int] = []
    places = settings(folder, f"sqlite:///{folder / 'tuner.db'}")
    worker = Worker(store, places, study="tiny", device="cpu", poll_s=0.05, end=codes.append)
    threading.Thread(target=worker.run, daemon=True).start()
    yield worker, codes


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def is_running(store: Storage) -> bool:
    return any(row["epochs"] for row in store.queries.trials("tiny", state="RUNNING"))


def test_a_training_that_ends_by_itself_is_complete(store: Storage, tmp_path: Path) -> None:
    """Early stopping is the user's right; it was tried again for ever, 59 times in 12 s."""
    create(store, tiny(entry("early"), "budget={trials: 2, retries: 1}"))

    work(store, settings(tmp_path, ""))

    trials = store.queries.trials("tiny", all_attempts=True)
    assert [(t["state"], t["value"], t["epochs"]) for t in trials] == [("COMPLETE", 0.5, 1)] * 2


def test_a_training_that_ends_without_a_report_has_failed(store: Storage, tmp_path: Path) -> None:
    """Nothing was measured; trying the same again would change nothing."""
    create(store, tiny(entry("silent"), "budget.trials=1"))

    work(store, settings(tmp_path, ""))

    (trial,) = store.queries.trials("tiny", all_attempts=True)
    assert (trial["state"], trial["reason"]) == ("FAIL", "error")
    assert "without a single report" in trial["message"]


def test_a_training_that_hangs_is_ended_and_tried_again_as_often_as_lost_workers(
    store: Storage, tmp_path: Path
) -> None:
    """Its process ends; the outcome is in the storage before."""
    create(store, tiny(entry("hanging"), "budget={trials: 1, retries: 1, stall_timeout: 0.5}"))

    with serving(store, tmp_path) as (_, codes):
        wait_until(lambda: codes)
        assert codes == [REPLACE]
        (first, second) = store.queries.trials("tiny", all_attempts=True)
        assert (first["state"], first["reason"]) == ("FAIL", "stalled")
        assert "budget.stall_timeout" in first["message"]
        assert second["state"] == "WAITING"
        assert store.workers.live("tiny") == []
        work(store, settings(tmp_path, ""))

    assert store.queries.status("tiny")["trials"]["complete"] == 1
    claim = claimed(store, store.studies.create(new_study()).study_id)
    assert claim.lost == 0


@pytest.mark.slow
def test_a_training_that_hangs_in_every_attempt_has_failed(store: Storage, tmp_path: Path) -> None:
    """`budget.retries` bounds it."""
    create(store, tiny(entry("hanging"), "budget={trials: 1, retries: 0, stall_timeout: 0.5}"))

    with serving(store, tmp_path) as (_, codes):
        wait_until(lambda: codes)

    (trial,) = store.queries.trials("tiny", all_attempts=True)
    assert (trial["state"], trial["reason"]) == ("FAIL", "stalled")
    assert store.queries.status("tiny")["phase"] == "done"


def test_a_slow_training_is_not_taken_for_dead(tmp_path: Path) -> None:
    """An epoch longer than a worker may be silent: it ran twice, and both results were thrown away."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("slow_to_begin"), "budget={trials: 1, retries: 1, stall_timeout: null}"))

    def serve() -> None:
        with Storage.open(url, heartbeat_timeout_s=1.5, heartbeat_interval_s=0.1) as store:
            Worker(store, settings(tmp_path, url), study="tiny", device="cpu", poll_s=0.1).run()

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with Storage.open(url) as store:
        (trial,) = store.queries.trials("tiny", all_attempts=True)
        assert (trial["state"], trial["attempts"]) == ("COMPLETE", 1)


def test_the_time_of_a_trial_begins_with_its_first_step(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large data set that is prepared for another size is not the trial's fault."""
    prepare = tuner.worker.study_cache.prepare

    def slow(*args: object, **options: object) -> PreparedData:
        time.sleep(2)
        return prepare(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tuner.worker.study_cache, "prepare", slow)
    create(store, tiny(entry("steady"), "search.dataset.size=[48, 64]", "budget={trials: 2, trial_timeout: 1}"))

    work(store, settings(tmp_path, ""))

    assert {t["state"] for t in store.queries.trials("tiny")} == {"COMPLETE"}


def test_a_training_that_hangs_is_ended_when_its_time_is_over(store: Storage, tmp_path: Path) -> None:
    """The limit holds for those as well that never ask whether it is over; they are not tried again."""
    create(store, tiny(entry("hanging"), "budget={trials: 1, trial_timeout: 0.5, stall_timeout: null}"))

    with serving(store, tmp_path) as (_, codes):
        wait_until(lambda: codes)

    (trial,) = store.queries.trials("tiny", all_attempts=True)
    assert (trial["state"], trial["reason"], trial["epochs"]) == ("FAIL", "timeout", 1)


def test_a_training_that_hangs_is_pruned_now(store: Storage, tmp_path: Path) -> None:
    """It waited for the next report, which never came."""
    create(store, tiny(entry("hanging"), "budget.trials=1"))

    with serving(store, tmp_path) as (_, codes):
        wait_until(lambda: is_running(store))
        store.studies.prune_manually("tiny", 0)
        time.sleep(1)
        assert not codes
        store.studies.prune_manually("tiny", 0, now=True)
        wait_until(lambda: codes)

    (trial,) = store.queries.trials("tiny", all_attempts=True)
    assert (trial["state"], trial["reason"], trial["message"]) == ("PRUNED", "pruned", "ended by hand")


def test_a_training_that_hangs_is_stopped_now(store: Storage, tmp_path: Path) -> None:
    """It goes back into the queue, and a resume is not ended by what was asked before."""
    create(store, tiny(entry("hanging"), "budget.trials=1"))

    with serving(store, tmp_path) as (_, codes):
        wait_until(lambda: is_running(store))
        store.studies.stop("tiny", now=True)
        wait_until(lambda: codes)

    first, second = store.queries.trials("tiny", all_attempts=True)
    assert (first["state"], first["reason"], second["state"]) == ("FAIL", "interrupted", "WAITING")
    assert store.queries.status("tiny")["phase"] == "stopped"
    store.studies.resume("tiny")
    work(store, settings(tmp_path, ""))
    assert store.queries.status("tiny")["trials"]["complete"] == 1


def test_what_asks_for_an_end_at_once_is_taken_back_by_a_resume(store: Storage) -> None:
    """A trial that was quick enough to answer goes on."""
    study = store.studies.create(new_study())
    claim = claimed(store, study.study_id)

    store.studies.stop("organs", now=True)
    assert store.workers.orders(claim) == Orders(stop=True, now=True)
    store.studies.resume("organs")
    assert store.workers.orders(claim) == Orders()
    store.studies.stop("organs")
    assert store.workers.orders(claim) == Orders(stop=True)
    store.trials.finish(claim, completed(0.5))
    assert store.workers.orders(claim) is None


def test_a_worker_that_has_to_end_gives_its_trial_back(store: Storage, tmp_path: Path) -> None:
    """Ctrl-C twice: nothing stays RUNNING without a worker."""
    create(store, tiny(entry("hanging"), "budget.trials=1"))

    with serving(store, tmp_path) as (worker, codes):
        wait_until(lambda: is_running(store))
        threading.Thread(target=worker.give_up, args=(130,), daemon=True).start()
        wait_until(lambda: codes)

    assert codes == [130]
    assert [t["state"] for t in store.queries.trials("tiny", all_attempts=True)] == ["FAIL", "WAITING"]


def test_an_order_for_one_trial_does_not_reach_the_next(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat that brings it may come back when the next trial is under way."""
    asked, answered, orders = threading.Event(), threading.Event(), store.workers.orders

    def answer_late(claim: Claim) -> Orders | None:
        """Say that the first trial is to end at once, when it is over already."""
        if claim.number > 0:
            return orders(claim)
        asked.set()
        answered.wait(60)
        return Orders(prune=True, now=True)

    monkeypatch.setattr(store.workers, "orders", answer_late)
    create(store, tiny(entry("endless"), "train.epochs=15", "budget.trials=2", "pruner=none"))
    with serving(store, tmp_path) as (_, codes):
        assert asked.wait(60)
        wait_until(lambda: any(t["number"] == 1 and t["epochs"] for t in store.queries.trials("tiny")))
        answered.set()
        wait_until(lambda: store.queries.status("tiny")["phase"] == "done")

    assert [t["state"] for t in store.queries.trials("tiny")] == ["COMPLETE", "COMPLETE"]
    assert codes == []


@pytest.mark.parametrize(
    ("training", "ends"),
    [
        ("exiting", [("FAIL", "error", "sys.exit(3)"), ("COMPLETE", None, "")]),
        ("exiting_at_once", [("FAIL", "error", "usage: train.py FILE")] * 2),
        pytest.param("cancelled", [("FAIL", "error", "CancelledError: by its loop")] * 2, marks=pytest.mark.slow),
        pytest.param(
            "exhausted", [("PRUNED", "out_of_memory", "with the device for itself")] * 2, marks=pytest.mark.slow
        ),
    ],
)
def test_a_training_that_ends_its_process_ends_itself_only(
    store: Storage, tmp_path: Path, training: str, ends: list[tuple[str, str | None, str]]
) -> None:
    """The worker went with it, and its trial was tried again by others as that of a lost one."""
    create(store, tiny(entry(training), "budget={trials: 2, retries: 2}"))

    work(store, settings(tmp_path, ""))

    trials = store.queries.trials("tiny", all_attempts=True)
    assert [(t["state"], t["reason"]) for t in trials] == [(state, reason) for state, reason, _ in ends]
    assert all(words in (t["message"] or "") for t, (_, _, words) in zip(trials, ends, strict=True))
    assert store.workers.live("tiny") == []


def test_an_interrupt_gives_the_trial_back_as_often_as_a_lost_worker(store: Storage, tmp_path: Path) -> None:
    """A training that raises it in every attempt is not tried for ever."""
    create(store, tiny(entry("interrupting"), "budget={trials: 1, retries: 1}"))

    for waiting in (1, 0):
        with pytest.raises(KeyboardInterrupt):
            work(store, settings(tmp_path, ""))
        assert store.queries.status("tiny")["trials"]["waiting"] == waiting

    trials = store.queries.trials("tiny", all_attempts=True)
    assert [(t["state"], t["reason"]) for t in trials] == [("FAIL", "interrupted")] * 2
    assert store.workers.live("tiny") == []


def test_an_error_that_spoils_the_process_ends_it_and_the_trial_is_tried_again(store: Storage, tmp_path: Path) -> None:
    """After a failed assertion in a kernel every later trial failed as well, in the same process."""
    create(store, tiny(entry("spoiling"), "budget={trials: 1, retries: 1}"))

    with pytest.raises(ProcessSpentError, match="device-side assert") as raised:
        work(store, settings(tmp_path, ""))

    assert raised.value.exit_code == REPLACE
    first, second = store.queries.trials("tiny", all_attempts=True)
    assert (first["state"], first["reason"], second["state"]) == ("FAIL", "error", "WAITING")
    work(store, settings(tmp_path, ""))
    assert store.queries.status("tiny")["trials"]["complete"] == 1


def test_failed_trials_are_tried_again_by_hand(store: Storage, tmp_path: Path) -> None:
    """When the cause is mended they go back to their places, with their parameters."""
    create(store, tiny(entry("failing"), "budget.trials=2"))
    work(store, settings(tmp_path, ""))
    before = store.studies.get("tiny").revision

    with pytest.raises(ConflictError, match=r"trial 7 does not exist"):
        store.studies.retry("tiny", [0, 7])
    assert store.studies.get("tiny").revision == before
    assert store.studies.retry("tiny", [1]) == {1: 2}
    with pytest.raises(ConflictError, match="trial 1 was tried again already, as trial 2"):
        store.studies.retry("tiny", [1])
    with pytest.raises(ConflictError, match="trial 2 is WAITING, not FAIL"):
        store.studies.retry("tiny", [2])
    assert store.studies.retry("tiny") == {0: 3}
    assert store.studies.retry("tiny") == {}

    rows = {t["number"]: t for t in store.queries.trials("tiny", all_attempts=True)}
    assert rows[2]["params"] == rows[1]["params"]
    assert store.queries.status("tiny")["trials"] == {
        "total": 2, "waiting": 2, "running": 0, "complete": 0, "pruned": 0, "failed": 0,
    }  # fmt: skip


def test_who_no_longer_holds_a_trial_changes_nothing(store: Storage) -> None:
    """Pages that are remembered by the revision must not be computed again for a write that was refused."""
    study = store.studies.create(new_study())
    claim = claimed(store, study.study_id)
    assert store.trials.finish(claim, completed(0.5))
    before = store.studies.get("organs").revision

    assert not store.trials.set_params(claim, point("dice"), study.space)
    assert (
        not store.trials.finish(claim, completed(0.9, last=(7, 0.9)))
        or store.queries.trial("organs", claim.number)["value"] == 0.5
    )
    assert store.studies.get("organs").revision == before
