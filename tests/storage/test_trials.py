"""One method per arrow: what each outcome does to the trial, to the queue, and to what the sampler learns."""

import os

import pytest

from tests.storage.examples import claimed, completed, epoch, failed, new_study, point, pruned
from tuner.search.finished_trial import FinishedTrial
from tuner.storage.records import Outcome, StopRule
from tuner.storage.states import DesiredState, Reason, State, StudyFacts, Verdict, phase
from tuner.storage.storage import Storage
from tuner.testing.storage import DICE_AND_HD95

FEASIBLE = {"memory": -1.0, "finite": -1.0}


@pytest.mark.parametrize(
    ("outcome", "again", "seen"),
    [
        pytest.param(completed(0.5), False, (0.5,), id="complete"),
        pytest.param(pruned(), False, (1, 0.1), id="pruned"),
        pytest.param(pruned(Reason.DIVERGED), False, "finite", id="diverged"),
        pytest.param(pruned(Reason.COLLAPSED), False, "finite", id="collapsed"),
        pytest.param(failed(Reason.OUT_OF_MEMORY, retry=True, alone=True), True, None, id="out-of-memory-together"),
        pytest.param(pruned(Reason.OUT_OF_MEMORY), False, "memory", id="out-of-memory-alone"),
        pytest.param(failed(Reason.ERROR), False, None, id="error"),
        pytest.param(failed(Reason.TIMEOUT), False, None, id="timeout"),
        pytest.param(failed(Reason.INTERRUPTED, retry=True), True, None, id="interrupted"),
    ],
)
def test_blame_table(store: Storage, outcome: Outcome, again: bool, seen: object) -> None:
    """What the parameters are to blame for is learnt as infeasible; what the machine did is tried again."""
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id)

    assert store.trials.finish(claim, outcome)

    counts = store.queries.status("organs")["trials"]
    assert counts["waiting"] == int(again)
    assert sum(counts.values()) == 2 * counts["total"] == 2
    finished = store.epochs.history(study.study_id).finished
    assert len(finished) == (seen is not None)
    if isinstance(seen, str):
        assert finished[0].feasible == FEASIBLE | {seen: 1.0}
        assert (finished[0].values, finished[0].last) == (None, None)
    elif seen is not None:
        assert finished[0].feasible == FEASIBLE
        assert seen in (finished[0].values, finished[0].last)


def test_out_of_memory_is_tried_alone_once(store: Storage) -> None:
    """The second time it is the parameters' fault, whoever says retry."""
    study = store.studies.create(new_study(trials=1))
    outcome = failed(Reason.OUT_OF_MEMORY, retry=True, alone=True)
    assert store.trials.finish(claimed(store, study.study_id), outcome)
    second = store.trials.claim(study.study_id, "w1")
    assert second is not None
    assert second.exclusive_device

    assert store.trials.finish(second, outcome)

    assert store.trials.claim(study.study_id, "w1") is None
    assert store.queries.status("organs")["trials"]["failed"] == 1


def test_the_result_of_a_reaped_trial_is_refused(store: Storage) -> None:
    """Its place has gone to another attempt: two results for one place would count twice."""
    study = store.studies.create(new_study(trials=1))
    claim = claimed(store, study.study_id, "gone")
    worker = store.workers.register(pid=1, device="cpu", study="organs", version="1", host="elsewhere")
    late = store.trials.claim(study.study_id, worker)
    assert late is None
    _lose(store, study.study_id, claim.worker_id)

    assert store.epochs.report(claim, epoch(1)).verdict is Verdict.LOST
    assert not store.trials.set_params(claim, point("dice"), study.space)
    assert not store.trials.finish(claim, completed(0.9))

    again = claimed(store, study.study_id, worker)
    assert again.params == point()
    assert store.trials.finish(again, completed(0.4))
    best = store.queries.best("organs")
    assert best is not None
    assert (best["number"], best["value"]) == (1, 0.4)
    assert store.queries.epochs("organs", 0) == []


def test_lost_workers_are_forgiven_as_often_as_the_budget_says(store: Storage) -> None:
    """A trial that kills its workers must not kill them for ever; interruptions do not count."""
    study = store.studies.create(new_study(trials=1, retries=2))
    assert store.trials.finish(claimed(store, study.study_id), failed(Reason.INTERRUPTED, retry=True))

    for lost in range(3):
        claim = store.trials.claim(study.study_id, f"w{lost}")
        assert claim is not None
        _lose(store, study.study_id, f"w{lost}")

    assert store.trials.claim(study.study_id, "w9") is None
    row = store.queries.trials("organs")[0]
    assert (row["state"], row["reason"], row["attempts"], row["retry_of"]) == ("FAIL", "worker_lost", 4, 2)
    assert [r["state"] for r in store.queries.trials("organs", all_attempts=True)] == ["FAIL"] * 4


def test_the_sampler_reads_each_trial_once(store: Storage) -> None:
    """A trial read twice would weigh double, one missed would be lost to the model."""
    study = store.studies.create(new_study(trials=4))
    first, second, third = (claimed(store, study.study_id) for _ in range(3))
    store.trials.finish(second, completed(0.2))
    start = store.epochs.history(study.study_id)
    store.trials.finish(first, completed(0.1))

    after = store.epochs.history(study.study_id, start.cursor)

    assert [o.number for o in start.finished] == [1]
    assert [o.number for o in start.running] == [0, 2]
    assert [o.number for o in after.finished] == [0]
    assert after.running == [FinishedTrial(number=third.number, state="RUNNING", params=point())]
    assert store.epochs.history(study.study_id, after.cursor).finished == []


def test_several_objectives_show_no_report_to_the_sampler(store: Storage) -> None:
    """TPE refuses intermediate values of studies with several objectives."""
    study = store.studies.create(new_study(trials=2, objectives=DICE_AND_HD95))
    store.trials.finish(claimed(store, study.study_id), completed(0.5, 7.0))
    store.trials.finish(claimed(store, study.study_id), pruned())

    complete, ended = store.epochs.history(study.study_id).finished

    assert complete.values == (0.5, 7.0)
    assert (ended.values, ended.last) == (None, None)


def test_any_message_can_be_stored(store: Storage) -> None:
    """A file name that is not UTF-8, in the words of an error, must not keep a trial from ending."""
    study = store.studies.create(new_study(trials=1))

    assert store.trials.finish(claimed(store, study.study_id), Outcome(State.FAIL, Reason.ERROR, "a\0b \udcff ü"))

    assert store.queries.trials("organs")[0]["message"] == "a\ufffdb ? ü"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(StudyFacts(DesiredState.RUN, None, False, 3, False, 0), ("queued", None), id="queued"),
        pytest.param(StudyFacts(DesiredState.RUN, None, False, 3, False, 1), ("running", None), id="running"),
        pytest.param(StudyFacts(DesiredState.RUN, None, False, 3, True, 0), ("stalled", None), id="stalled"),
        pytest.param(StudyFacts(DesiredState.PAUSE, "user", False, 3, True, 2), ("paused", "user"), id="paused"),
        pytest.param(
            StudyFacts(DesiredState.STOP, "failures", False, 3, True, 2), ("stopped", "failures"), id="failures"
        ),
        pytest.param(StudyFacts(DesiredState.RUN, None, True, 3, True, 2), ("stopped", "timeout"), id="timeout"),
        pytest.param(StudyFacts(DesiredState.STOP, "user", True, 0, True, 2), ("done", "budget"), id="done"),
    ],
)
def test_phase(facts: StudyFacts, expected: tuple[str, str | None]) -> None:
    """A phase follows from the facts; a stored one would go stale with the first worker that dies."""
    assert phase(facts) == expected


def test_states_are_spelt_as_optuna_spells_them() -> None:
    """Scripts compare them."""
    assert [state.value for state in State] == ["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]


def _lose(store: Storage, study_id: int, worker: str) -> None:
    """Have a worker that never registered, and so is not known to be alive, declared lost."""
    patient, store.context.heartbeat_timeout_s = store.context.heartbeat_timeout_s, -1.0
    assert [lost.worker_id for lost in store.workers.requeue_lost(study_id)] == [worker]
    store.context.heartbeat_timeout_s = patient


def ended(store: Storage, study_id: int, value: float | None, rule: StopRule) -> tuple[str, str | None]:
    """End a trial with this value, or pruned, and return phase and reason of the study."""
    claim = claimed(store, study_id)
    assert store.trials.finish(claim, pruned() if value is None else completed(value), rule)
    return store.queries.phase("organs")


def test_a_study_ends_when_its_target_is_met(store: Storage) -> None:
    """What waits stays in the count; nobody claims it."""
    study_id = store.studies.create(new_study(trials=5)).study_id
    store.workers.register(pid=os.getpid(), device="cpu", study="organs", version="test")
    rule = StopRule(target=0.8)

    assert ended(store, study_id, 0.79, rule) == ("running", None)
    assert ended(store, study_id, 0.8, rule) == ("done", "target")
    counts = store.queries.status("organs")["trials"]
    assert (counts["complete"], counts["waiting"], counts["total"]) == (2, 3, 5)
    assert store.trials.claim(study_id, "w2") is None
    store.studies.resume("organs")
    assert store.queries.phase("organs")[0] == "running"


def test_a_study_ends_when_nothing_gets_better(store: Storage) -> None:
    """Counted from the best trial on; pruned trials count, an equal value is no gain."""
    study_id = store.studies.create(new_study(trials=9)).study_id
    store.workers.register(pid=os.getpid(), device="cpu", study="organs", version="test")
    phases = [ended(store, study_id, value, StopRule(3))[0] for value in (0.5, 0.4, None, 0.6, 0.6, None)]

    assert phases == ["running"] * 6
    assert ended(store, study_id, 0.1, StopRule(3)) == ("done", "plateau")
    assert "3 trials running" in store.queries.status("organs")["message"]
