"""Removing what nothing needs: everything that may go on is kept, and nothing is removed that was not shown."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell, start
from tests.cli.test_processes import slow_study, wait_for
from tests.storage.examples import claimed, completed, failed, new_study, pruned
from tuner.artifacts.local import Artifacts
from tuner.storage.states import Reason
from tuner.storage.storage import Storage


@pytest.fixture
def store(here: Path) -> Iterator[Storage]:
    """A storage with a study of six places: complete, pruned, failed for good, waiting again, running, waiting."""
    with Storage.open(f"sqlite:///{here / 'tuner.db'}", create=True) as store:
        store.studies.create(new_study(trials=6, resources={"fingerprint": "a" * 64}))
        study_id = store.studies.get("organs").study_id
        store.trials.finish(claimed(store, study_id), completed(0.5))
        store.trials.finish(claimed(store, study_id), pruned())
        store.trials.finish(claimed(store, study_id), failed())
        store.trials.finish(claimed(store, study_id), failed(Reason.INTERRUPTED, retry=True))
        store.trials.finish(
            claimed(store, study_id), failed(Reason.INTERRUPTED, retry=True)
        )  # the retry, interrupted as well
        claimed(store, study_id, "alive")
        yield store


@pytest.fixture
def files(here: Path, store: Storage) -> Path:
    """The artifacts of that study, with a checkpoint and weights in every folder, and two attempts too many."""
    artifacts = Artifacts(here / "artifacts")
    numbers = [row["number"] for row in store.queries.trials("organs", all_attempts=True)]
    for number in (*numbers, 77):
        folder = artifacts.create("organs", number)
        for name in ("last.ckpt", "best.safetensors", "config.yaml", "metrics.jsonl"):
            (folder / name).write_bytes(b"x" * 1000)
    (here / "artifacts" / "organs" / "workers").mkdir()
    (here / "artifacts" / "organs" / "007").mkdir()
    return here / "artifacts" / "organs"


def checkpoints(files: Path) -> list[int]:
    """Return the attempts that have a checkpoint."""
    return sorted(int(path.parent.name) for path in files.glob("*/last.ckpt"))


def prepared(cache: Path, name: str) -> Path:
    """Make a folder that looks like prepared data."""
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "train-images.npy").write_bytes(b"x" * 5000)
    return folder


def test_only_what_nothing_continues_from_goes(tuner: Shell, store: Storage, files: Path) -> None:
    """The checkpoint of a waiting or running trial, in any of its attempts, is the work of hours."""
    rows = {row["number"]: row for row in store.queries.trials("organs")}
    goes_on = {number for number, row in rows.items() if row["state"] in ("WAITING", "RUNNING")}
    for number in list(goes_on):
        while (earlier := store.queries.trial("organs", number)["retry_of"]) is not None:
            goes_on.add(number := earlier)
    everything = checkpoints(files)

    dry = tuner("gc", "--dry-run", "--json").json()
    assert checkpoints(files) == everything
    document = tuner("gc", "--json").json()

    assert dry["items"] == document["items"]
    assert dry["bytes"] == document["bytes"] == 3 * 1000 + 4 * 1000
    assert set(checkpoints(files)) == goes_on
    assert len(goes_on) == len(everything) - 4
    assert not (files / "77").exists()
    assert all((files / str(number) / "best.safetensors").exists() for number in rows)
    assert (files / "workers").is_dir()
    assert (files / "007").is_dir()
    assert tuner("gc").err == "There is nothing to remove.\n"


def test_prepared_data_that_no_study_comes_back_to_goes(tuner: Shell, store: Storage, here: Path) -> None:
    """Of a data set that an unfinished study works on everything stays: its options may be searched."""
    cache = Path(os.environ["TUNER_CACHE"])
    kept = [prepared(cache, f"synapse-{'a' * 16}"), prepared(cache, f"phantom-{'b' * 16}")]
    unused = prepared(cache, f"synapse-{'c' * 16}")
    building = cache / f".synapse-{'d' * 16}.building-x"
    building.mkdir()
    broken = cache / f".synapse-{'e' * 16}.building-y"
    broken.mkdir()
    os.utime(broken, (time.time() - 2 * 86_400,) * 2)
    (cache / "notes").mkdir()

    assert len(tuner("gc", "organs", "--json").json()["items"]) == 0
    document = tuner("gc", "--json").json()

    assert {item["path"] for item in document["items"]} == {str(unused), str(broken)}
    assert all(folder.is_dir() for folder in (*kept, building, cache / "notes"))
    assert not unused.exists()
    assert not broken.exists()


def test_the_files_of_another_storage_are_left_alone(tuner: Shell, files: Path, here: Path) -> None:
    """One folder of artifacts may serve two storages: what one of them does not know may be the other's."""
    other = here / "artifacts" / "hearts"
    (other / "0").mkdir(parents=True)
    (other / "0" / "config.yaml").write_text("")
    (here / "artifacts" / "photographs").mkdir()

    assert str(other) not in tuner("gc", "--json").out
    assert other.exists()
    assert str(other) in tuner("gc", "--unknown-studies", "--json").out
    assert not other.exists()
    assert (here / "artifacts" / "photographs").is_dir()


@pytest.mark.slow
def test_what_runs_is_not_disturbed(tuner: Shell, here: Path) -> None:
    """Again and again beside workers that train for real: every trial completes."""
    text = slow_study(here).read_text().replace(', entry: "tests.worker.trainings:endless"', "")
    (here / "tiny.yaml").write_text(text.replace("epochs: 80", "epochs: 6"))
    with start(here, "launch", "tiny.yaml", "--devices=cpu", "--workers=2") as process:
        wait_for(here, "RUNNING")
        while process.poll() is None:
            assert tuner("gc").code == 0
            time.sleep(0.2)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    document = tuner("status", "tiny", "--json").json()
    assert document["trials"]["complete"] == 2
    assert checkpoints(here / "artifacts" / "tiny") == []
