"""A study that was posted is settled by whoever trains it first, and shows no files of a dead one of its name."""

from dataclasses import replace
from pathlib import Path

import pytest

from api.config import Service, ServiceSettings
from api.study_files import read_posted, spec_yaml, store_study, stored_spec
from tests.training.test_regions import make_nested
from tests.worker.studies import settings
from tuner.artifacts.local import Artifacts
from tuner.artifacts.remote import artifacts_of
from tuner.errors import SpecError
from tuner.storage.storage import Storage

POSTED = {"name": "posted", "dataset": {"name": "phantom", "size": 32, "cases": 8}, "budget": {"trials": 1}}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    places = settings(tmp_path, f"sqlite:///{tmp_path / 'tuner.db'}")
    store = Storage.open(places.storage, create=True)
    return Service(store, artifacts_of(places, owner=store.studies.folder_mark), ServiceSettings(settings=places))


def test_a_posted_study_leaves_threads_and_precision_to_those_who_train(service: Service) -> None:
    """The machine of the service is not the one that trains; what its pages remember follows."""
    record = store_study(service, read_posted(POSTED, None))
    assert (record.spec["train"]["threads"], record.spec["train"]["precision"]) == (None, "auto")
    assert stored_spec(record).base.train.threads is None

    service.store.studies.resolve_train(record.study_id, {"threads": 3, "precision": "bfloat16"})

    record = service.store.studies.get("posted")
    assert stored_spec(record).base.train.threads == 3
    assert "precision: bfloat16" in spec_yaml(record)


def test_a_posted_study_keeps_the_data_root_of_the_service(service: Service, tmp_path: Path) -> None:
    """A worker of this machine that was told of none looks there, as it does for a study of `launch`."""
    assert store_study(service, read_posted(POSTED, None)).resources == {}

    rooted = replace(service.config.settings, data_root=tmp_path)
    service = replace(service, config=replace(service.config, settings=rooted))
    record = store_study(service, read_posted({**POSTED, "name": "rooted"}, tmp_path))

    assert record.resources == {"data_root": str(tmp_path)}
    assert settings(tmp_path, "sqlite://").with_stored(record.resources).data_root == tmp_path


def test_a_posted_study_has_the_regions_of_its_files(service: Service, tmp_path: Path) -> None:
    """As one that is launched; without the files it stays as it was posted, and workers that have them train."""
    folder = make_nested(tmp_path)
    rooted = replace(service.config.settings, data_root=tmp_path)
    service = replace(service, config=replace(service.config, settings=rooted))
    posted = {**POSTED, "dataset": {"name": "nnunet", "path": folder.name, "size": 16}}
    record = store_study(service, read_posted(posted, tmp_path))
    elsewhere = {**posted, "name": "elsewhere", "dataset": {**posted["dataset"], "path": "Dataset021_Elsewhere"}}

    assert record.spec["dataset"]["regions"] == {"whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert "regions" not in store_study(service, read_posted(elsewhere, tmp_path)).spec["dataset"]
    unfit = read_posted({**posted, "name": "unfit", "search": {"loss": ["nacl", "dice"]}}, tmp_path)
    with pytest.raises(SpecError, match="nacl is defined for classes that exclude each other"):
        store_study(service, unfit)


def test_files_of_a_deleted_study_are_not_those_of_the_next(service: Service, tmp_path: Path) -> None:
    """Before any worker has taken the folder."""
    record = store_study(service, read_posted(POSTED, None))
    (service.artifacts.create("posted", 0) / "log.txt").write_text("of the dead one")
    service.store.studies.delete("posted")
    again = store_study(service, read_posted(POSTED, None))

    assert again.identity != record.identity
    assert service.artifacts.listing("posted", 0) == []
    assert Artifacts(tmp_path / "artifacts").listing("posted", 0)
