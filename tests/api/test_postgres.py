"""Every page, figure and list once on PostgreSQL: its SQL is stricter than SQLite's."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest

from api.config import ServiceSettings
from api.schemas import FigureName, Sort
from tests.api import demo
from tests.api.conftest import served
from tests.api.test_contract import V1
from tests.api.test_pages import PAGES
from tests.postgres import Server
from tuner.settings import Settings

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> ServiceSettings:
    """The demo on PostgreSQL."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    settings = Settings.resolve(
        {}, storage=postgres.new_database(), artifacts=folder / "artifacts", cache=folder / "cache"
    )
    demo.build(settings.storage, folder)
    return ServiceSettings(settings)


@pytest.fixture(scope="module")
def reader(config: ServiceSettings) -> Iterator[httpx.Client]:
    """A client of the demo."""
    with served(config) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_pages(reader: httpx.Client, path: str) -> None:
    """A page that only SQLite can draw fails the labs that have several nodes."""
    assert reader.get(path, headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.parametrize("figure", get_args(FigureName))
def test_figures(reader: httpx.Client, figure: str) -> None:
    """The same for every figure."""
    answer = reader.get(f"{V1}/studies/goals/figures/{figure}")

    assert answer.status_code == 200
    few = "An ablation path needs 5 complete trials of a loss." if figure == "ablation" else None
    assert answer.json()["reason"] == few


@pytest.mark.parametrize("sort", get_args(Sort))
def test_sorts(reader: httpx.Client, sort: str) -> None:
    """The same for every order of the trials."""
    answer = reader.get(f"{V1}/studies/organs/trials?sort={sort}&order=desc&loss=dice")

    assert answer.status_code == 200
    assert answer.json()["items"]


def test_several_services_answer_alike_and_see_each_other(config: ServiceSettings, reader: httpx.Client) -> None:
    """The service holds no state: behind a balancer, any of several may answer, and none an old thing."""
    with served(config) as second, httpx.Client(base_url=second, timeout=60) as other:
        for path in (f"{V1}/studies/rested", f"{V1}/studies/rested/trials?sort=value", "/studies/rested"):
            answers = [client.get(path, headers={"Accept": "*/*"}) for client in (reader, other, reader)]
            assert len({answer.content for answer in answers}) == 1, path
            assert len({answer.headers["ETag"] for answer in answers}) == 1, path
        tag = other.get("/studies/rested").headers["ETag"]
        assert reader.post(f"{V1}/studies/rested/resume", json={}).status_code == 200
        assert other.get("/studies/rested", headers={"If-None-Match": tag}).status_code == 200
        assert other.get(f"{V1}/studies/rested").json()["phase"] != "paused"
        assert other.post(f"{V1}/studies/rested/pause").status_code == 200
        assert reader.get(f"{V1}/studies/rested").json()["phase"] == "paused"


def test_signs_of_life(reader: httpx.Client) -> None:
    """And for what machines watch."""
    assert reader.get("/readyz").status_code == 200
    assert "tuner_trials" in reader.get("/metrics").text


def test_texts_that_postgresql_has_no_room_for(reader: httpx.Client) -> None:
    """PostgreSQL knows no NUL in a text; that is the client's mistake, not ours."""
    for path in (
        "/studies/organs?loss=%00",
        f"{V1}/studies/organs/trials?loss=%00",
        f"{V1}/studies/a%00b",
        "/?search=%00",
    ):
        assert reader.get(path).status_code < 500
