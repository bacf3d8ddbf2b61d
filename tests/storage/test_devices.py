"""Workers on one GPU, whatever their containers call it: one is alone there, and a broken one is known again."""

import os

from tests.storage.examples import claimed, new_study
from tuner.storage.records import Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

GPU = "GPU-8f6d1a2e-0000-4000-8000-000000000001"
OTHER = "GPU-8f6d1a2e-0000-4000-8000-000000000002"
NO_ROOM = Outcome(State.FAIL, Reason.OUT_OF_MEMORY, "beside others", retry=True, exclusive_device=True)


def worker(store: Storage, host: str, gpu: str | None = GPU, device: str = "cuda:0") -> str:
    return store.workers.register(host=host, pid=os.getpid(), device=device, gpu=gpu, study="organs", version="test")


def test_who_needs_the_device_alone_has_it_alone(store: Storage) -> None:
    """It ran out of memory beside others; every trial that is claimed there meanwhile makes that happen again."""
    study = store.studies.create(new_study(trials=6))
    here, beside, elsewhere = worker(store, "a"), worker(store, "b", device="cuda:1"), worker(store, "a", OTHER)
    assert store.trials.finish(claimed(store, study.study_id, here), NO_ROOM)
    running = store.trials.claim(study.study_id, elsewhere)  # the retry, by somebody whose device is another one
    assert running is not None
    assert running.exclusive_device
    assert [n.trial_id for n in store.workers.neighbours(here)] == [None]
    assert store.trials.finish(running, Outcome(State.FAIL, Reason.INTERRUPTED, "", retry=True))

    again = store.trials.claim(study.study_id, here)

    assert again is not None
    assert again.exclusive_device
    assert store.trials.claim(study.study_id, beside) is None
    assert store.trials.claim(study.study_id, elsewhere) is not None
    (neighbour,) = store.workers.neighbours(beside)
    assert (neighbour.trial_id, neighbour.alone) == (again.trial_id, True)
    assert store.trials.finish(again, Outcome(State.COMPLETE, values=(0.5,)))
    assert store.trials.claim(study.study_id, beside) is not None


def test_a_quarantined_gpu_is_known_by_its_uuid(store: Storage) -> None:
    """Ray and Slurm call every GPU of a node cuda:0; one that is fine must not take a broken one into service."""
    store.studies.create(new_study())
    store.workers.quarantine_device(worker(store, "a"), "organs", "broken")

    worker(store, "a", OTHER)
    assert [found["why"] for found in store.workers.quarantined()] == ["broken"]

    worker(store, "container-7", GPU, "cuda:3")
    assert store.workers.quarantined() == []
