"""A study of a program, about no loss and no data set, over REST and on its pages."""

import json

import httpx
import pytest

from api.config import ServiceSettings
from tests.api.conftest import served, settings_in
from tests.storage.examples import completed
from tests.worker.test_commands import study
from tuner.launch.new_study import create_study
from tuner.storage.records import EpochRow
from tuner.storage.storage import Storage


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    """A service with one complete trial, whose program has left a picture, a link and a hidden file."""
    folder = tmp_path_factory.mktemp("program")
    settings = settings_in(folder)
    with Storage.open(settings.storage, create=True) as store:
        record = create_study(store, study("steady", budget={"trials": 2}))
        claim = store.trials.claim(record.study_id, "w")
        store.trials.set_params(claim, {"my.depth": 3}, record.space)
        store.epochs.report(claim, EpochRow(1, 0.5, {"dice": 0.5}, {}, None, None, 1.0))
        assert store.trials.finish(claim, completed(0.5))
    files = settings.artifacts / "tiny" / "0"
    files.mkdir(parents=True)
    (files / "page.html").write_text("<script>alert(1)</script>")
    (files / "shot.png").write_bytes(b"<script>")
    (files / "link.txt").symlink_to("/etc/passwd")
    with served(ServiceSettings(settings=settings)) as url:
        yield url


def get(address: str, path: str) -> httpx.Response:
    return httpx.get(address + path, timeout=120)


@pytest.mark.parametrize("path", ["/", "/studies/tiny", "/studies/tiny/trials/0", "/studies/tiny/confirmation"])
def test_pages_cope(path: str, address: str) -> None:
    """Nothing that is not there is shown as `None`."""
    answer = get(address, path)

    assert answer.status_code == 200
    assert ">None<" not in answer.text
    assert "loss None" not in answer.text


@pytest.mark.parametrize(
    "figure", ["history", "curves", "losses", "importance", "slice", "parallel", "contour", "timeline"]
)
def test_figures_cope(figure: str, address: str) -> None:
    """Drawn, or with the reason why not."""
    answer = get(address, f"/api/v1/studies/tiny/figures/{figure}")

    assert answer.status_code == 200
    assert answer.json()["data"] or answer.json()["reason"]


def test_it_is_exported_as_a_command(address: str) -> None:
    """A shell script, and JSON."""
    script = get(address, "/api/v1/studies/tiny/export?format=command")
    document = get(address, "/api/v1/studies/tiny/export?format=json").json()

    assert script.status_code == 200
    assert "export TUNER_PARAM_MY_DEPTH=3" in script.text
    assert document["params"] == {"my.depth": 3}


def test_files_of_a_program_are_downloads(address: str) -> None:
    """Whatever it calls them; links are not followed."""
    base = "/api/v1/studies/tiny/trials/0/artifacts"

    for name in ("page.html", "shot.png"):
        assert get(address, f"{base}/{name}").headers["content-disposition"].startswith("attachment")
    assert get(address, f"{base}/link.txt").status_code == 404


def test_a_program_is_never_taken_over_the_network(address: str) -> None:
    """And values of enqueued trials lie in the declared space."""
    content = {"name": "other", "train": {"command": "sh -c id"}, "search": {"my.depth": [1]}}
    posted = httpx.post(f"{address}/api/v1/studies", json=content, timeout=120)
    outside = httpx.post(f"{address}/api/v1/studies/tiny/trials", json={"params": {"my.depth": 99}}, timeout=120)

    assert posted.status_code == 422
    assert "not taken over the network" in json.dumps(posted.json())
    assert outside.status_code == 422
