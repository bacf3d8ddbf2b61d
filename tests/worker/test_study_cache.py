"""Which studies a worker serves on its machine: those whose data is here as they began with it."""

import logging
import os
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.examples import epoch, failed
from tests.worker.studies import create, entry, settings, tiny, work
from tuner.errors import ConflictError, DataError
from tuner.storage.states import Reason
from tuner.storage.storage import Storage
from tuner.training.device import resolve_precision
from tuner.worker.study_cache import StudyCache
from tuner.worker.worker import Worker


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tuner.db'}"


def waiting(store: Storage, name: str) -> int:
    return int(store.queries.status(name)["trials"]["waiting"])


def test_a_worker_with_other_data_is_refused_before_it_claims(tmp_path: Path, url: str) -> None:
    """Values found on other data cannot be compared; a wrong machine must not cost the study a single trial."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady")))
        store.studies.add_resources(store.studies.get("tiny").study_id, {"fingerprint": "0123456789abcdef0"})

        with pytest.raises(ConflictError, match=r"is not what study 'tiny' began with.*stored 0123456789abcdef"):
            work(store, settings(tmp_path, url))

        assert waiting(store, "tiny") == 4
        assert store.workers.live("tiny") == []


def test_a_worker_without_the_data_is_refused_before_it_claims(tmp_path: Path, url: str) -> None:
    """One host whose data root is not mounted would fail five trials in a row, and stop the study for everybody."""
    places = replace(settings(tmp_path, url), data_root=tmp_path / "nothing")
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), "dataset={name: synapse}"))

        with pytest.raises(DataError):
            work(store, places)

        assert waiting(store, "tiny") == 4


def test_a_worker_for_any_study_passes_by_what_it_cannot_serve(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A standing worker goes on with the other studies, and says once why it does not serve that one."""
    places, stop = settings(tmp_path, url), threading.Event()
    with Storage.open(url, create=True) as store, caplog.at_level(logging.WARNING):
        for name in ("foreign", "mine"):
            create(store, tiny(entry("steady"), f"name={name}", "budget.trials=2"))
        store.studies.add_resources(store.studies.get("foreign").study_id, {"fingerprint": "another"})
        worker = Worker(store, places, study=None, device="cpu", stop=stop, poll_s=0.05)
        thread = threading.Thread(target=worker.run)
        thread.start()
        for _ in range(600):
            if store.queries.phase("mine")[0] == "done":
                break
            stop.wait(0.05)
        stop.set()
        thread.join(60)

        assert store.queries.status("mine")["trials"]["complete"] == 2
        assert waiting(store, "foreign") == 2
        assert len([r for r in caplog.records if "study foreign is not served here" in r.getMessage()]) == 1


def test_a_study_that_was_made_anew_is_read_anew(tmp_path: Path, url: str) -> None:
    """SQLite gives the ids of deleted studies again: a standing worker would train the old one's configuration."""
    places = settings(tmp_path, url)
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), "train.epochs=3"))
        served = StudyCache(store, places, nullcontext())
        before = served.open("tiny")
        store.studies.delete("tiny")
        create(store, tiny(entry("steady"), "train.epochs=7"))
        claim = store.trials.claim(store.studies.get("tiny").study_id, "w1")
        assert claim is not None

        after = served.refresh("tiny", claim.study_identity)

        assert (before.spec.base.train.epochs, after.spec.base.train.epochs) == (3, 7)
        assert served.refresh("tiny", claim.study_identity) is after


def test_a_lost_checkpoint_is_said(tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A retry on a machine that does not see the artifacts starts over: nobody should have to guess it."""
    with Storage.open(url, create=True) as store, caplog.at_level(logging.WARNING):
        create(store, tiny("budget.trials=1", "train.epochs=1"))
        claim = store.trials.claim(store.studies.get("tiny").study_id, "w1")
        assert claim is not None
        store.epochs.report(claim, epoch(1))
        assert store.trials.finish(claim, failed(Reason.INTERRUPTED, retry=True))

        work(store, settings(tmp_path, url))

        said = [r.getMessage() for r in caplog.records if "starts from the beginning" in r.getMessage()]
        assert len(said) == 1
        assert said[0].startswith("trial 1: no checkpoint of its earlier attempts (0) can be read in ")
        assert "its first 1 epochs" in said[0]
        assert [e["epoch"] for e in store.queries.epochs("tiny", 1)] == [1]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read")
def test_a_checkpoint_that_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broken disk under the earlier attempt must not fail the retry: it starts over, and says why."""
    artifacts = settings(tmp_path, "sqlite:///unused").artifacts
    from tuner.artifacts.local import Artifacts

    folders = Artifacts(artifacts)
    old = folders.create("tiny", 0)
    (old / "metrics.jsonl").write_text("{}\n")
    (old / "last.ckpt").symlink_to("/proc/self/mem")  # its first byte gives an I/O error

    new = folders.create("tiny", 1, earlier=[0])

    assert list(new.iterdir()) == []
    assert not folders.continues("tiny", 1)
    assert "last.ckpt cannot be read" in caplog.text


def test_the_first_worker_settles_threads_and_precision_for_all(tmp_path: Path, url: str) -> None:
    """A study that was posted, or launched with no workers, has met no machine that trains."""
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), "train.threads=null", "train.precision=auto"))
        places = settings(tmp_path, url)

        spec = StudyCache(store, places, nullcontext()).open("tiny").spec

        stored = store.studies.get("tiny").spec["train"]
        assert isinstance(stored["threads"], int)
        assert stored["precision"] == resolve_precision("cpu")
        assert (spec.base.train.threads, spec.base.train.precision) == (stored["threads"], stored["precision"])
        store.studies.resolve_train(store.studies.get("tiny").study_id, {"threads": 99, "precision": "float16"})
        assert StudyCache(store, places, nullcontext()).open("tiny").spec.base.train == spec.base.train


def test_a_device_that_cannot_compute_as_the_study_does_is_refused(tmp_path: Path, url: str) -> None:
    """It trained in another precision without a word; half of the trials could not be compared with the others."""
    volumes = "dataset={name: phantom, dimensions: 3, size: 32, cases: 4, slices: 16, validation: 0.25}"
    with Storage.open(url, create=True) as store:
        create(store, tiny(entry("steady"), volumes, "train.precision=bfloat16"))

        with pytest.raises(ConflictError, match="is trained in bfloat16, and volumes come out wrong in bfloat16"):
            work(store, settings(tmp_path, url))

        assert waiting(store, "tiny") == 4
