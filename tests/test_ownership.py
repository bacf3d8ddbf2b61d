"""Files of a study that was deleted are never those of the next one of the same name."""

import json
from pathlib import Path

import pytest

from tests.worker.studies import create, entry, settings, tiny, work
from tuner.artifacts.local import MARK, WORKER_LOGS, Artifacts
from tuner.artifacts.remote import artifacts_of
from tuner.errors import NotFoundError
from tuner.settings import Settings
from tuner.storage.storage import Storage


def mirrored(folder: Path) -> Settings:
    """Return places with the files of trials at an address."""
    return Settings(
        storage=f"sqlite:///{folder / 'tuner.db'}",
        artifacts=folder / "working",
        data_root=None,
        cache=folder / "cache",
        artifacts_url=(folder / "published").as_uri(),
        allow_entry=("tests",),
    )


@pytest.fixture(params=["folder", "address"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "address":
        return mirrored(tmp_path)
    return settings(tmp_path, f"sqlite:///{tmp_path / 'tuner.db'}")


def root(places: Settings) -> Path:
    return places.artifacts if places.artifacts_url is None else places.artifacts.with_name("published")


def test_a_new_study_shows_nothing_of_the_dead_one(places: Settings) -> None:
    """Weights, pictures and logs of dead trials stood under the numbers of new ones, and the service gave them out."""
    with Storage.open(places.storage, create=True) as store:
        create(store, tiny(entry("steady"), "budget.trials=2"))
        work(store, places)
        files = artifacts_of(places, owner=store.studies.folder_mark)
        assert [f.name for f in files.listing("tiny", 1)]
        store.studies.delete("tiny")
        create(store, tiny(entry("steady"), "budget.trials=1"))

        assert files.listing("tiny", 0) == files.listing("tiny", 1) == []
        with pytest.raises(NotFoundError):
            files.open("tiny", 0, "metrics.jsonl")
        assert not (files.fetched("tiny", 0) / "metrics.jsonl").exists()

        work(store, places)

        assert [f.name for f in files.listing("tiny", 0)]
        assert files.listing("tiny", 1) == []
        assert (root(places) / "tiny" / "0" / "metrics.jsonl").is_file()
        (aside,) = root(places).glob("tiny.deleted-*")
        assert {path.name for path in aside.iterdir()} >= {"0", "1"}


def test_a_folder_without_a_mark_is_signed_when_its_study_is_deleted(places: Settings) -> None:
    """Of an older version; else the next study of the name would take it for its own."""
    with Storage.open(places.storage, create=True) as store:
        create(store, tiny(entry("steady"), "budget.trials=1"))
        work(store, places)
        (root(places) / "tiny" / MARK).unlink()
        (places.artifacts / "tiny" / MARK).unlink(missing_ok=True)
        files = artifacts_of(places, owner=store.studies.folder_mark)
        assert files.listing("tiny", 0)

        files.sign("tiny", store.studies.get("tiny").identity)
        store.studies.delete("tiny")
        create(store, tiny(entry("steady"), "budget.trials=1"))

        assert files.listing("tiny", 0) == []


def test_a_study_of_an_older_version_keeps_its_folder(tmp_path: Path) -> None:
    """Nobody has marked it, and its files are still its own."""
    files = Artifacts(tmp_path, owner=lambda study: None)
    (files.create("organs", 0) / "log.txt").write_text("x")

    assert [f.name for f in files.listing("organs", 0)] == ["log.txt"]
    assert not (tmp_path / "organs" / MARK).exists()


def test_logs_of_workers_that_are_running_stay_where_they_are(tmp_path: Path) -> None:
    """A launcher opens them before the worker takes the folder; it clears the place itself before."""
    for name in (WORKER_LOGS, "0"):
        (tmp_path / "organs" / name).mkdir(parents=True)
    files = Artifacts(tmp_path, owner=lambda study: "new")

    assert files.take("organs") is not None
    assert sorted(path.name for path in (tmp_path / "organs").iterdir()) == [MARK, WORKER_LOGS]
    assert files.take("organs") is None
    assert json.loads((tmp_path / "organs" / MARK).read_text()) == {"identity": "new"}

    later = Artifacts(tmp_path, owner=lambda study: "newer")
    assert later.take("organs", logs=True) is not None
    assert [path.name for path in (tmp_path / "organs").iterdir()] == [MARK]
