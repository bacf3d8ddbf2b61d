"""Page Confirmation of a study: what is not known, and the verdict on runs of finalists."""

from pathlib import Path

import httpx
import pytest

from api.config import ServiceSettings
from api.pages.confirmation import EVIDENCE
from tests.analysis.test_seed_spread import CLAIMS
from tests.api.conftest import served
from tests.cli.shell import STUDY
from tuner.cli.main import run
from tuner.settings import Settings


def test_before_a_confirmation_the_page_says_what_is_not_known(reader: httpx.Client) -> None:
    """With the command; and the study's page leads there."""
    answer = reader.get("/studies/organs/confirmation", headers={"Accept": "text/html"})

    assert answer.status_code == 200
    for words in ("Best value seen", "Not confirmed", "What is not known", "tuner confirm organs"):
        assert words in answer.text
    assert CLAIMS.search(answer.text.replace("Which loss is better, by how much", "")) is None
    assert "/studies/organs/confirmation" in reader.get("/studies/organs").text


def test_a_study_that_is_not_there_has_no_confirmation(reader: httpx.Client) -> None:
    """Neither page nor pictures."""
    assert reader.get("/studies/nothing/confirmation").status_code == 404
    assert reader.get("/studies/organs/confirmation/0/pictures/a").status_code == 404


@pytest.mark.slow
def test_the_page_has_the_verdict_of_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search and a confirmation of trainings of our own, then every part of the page, and a picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    study = STUDY.replace(', entry: "tests.worker.trainings:steady"', "").replace("trials: 6", "trials: 3")
    Path("tiny.yaml").write_text(study, encoding="utf-8")
    assert run(["launch", "tiny.yaml", "--launcher", "inline", "--devices", "cpu"]) == 0
    assert run(["confirm", "tiny", "--top", "2", "--seeds", "3", "--launcher", "inline", "--devices", "cpu"]) == 0
    settings = Settings.resolve(
        {}, storage="sqlite:///tuner.db", artifacts=tmp_path / "artifacts", cache=tmp_path / "cache"
    )

    with served(ServiceSettings(settings=settings)) as address, httpx.Client(base_url=address, timeout=120) as client:
        shown = {show: client.get(f"/studies/tiny/confirmation?show={show}").text for show in EVIDENCE}
        first = client.get("/studies/tiny/confirmation").text
        study_page = client.get("/studies/tiny").text
        picture = next(part for part in shown["cases"].split('"') if "/pictures/" in part)
        image = client.get(picture.replace("&amp;", "&"))

    assert first == shown["means"]
    for show, title in EVIDENCE.items():
        assert f'href="?show={show}" data-swap aria-current="true">{title}<' in shown[show]
        assert "Who was judged" in shown[show]
        assert "the search saw" in shown[show]
    for show in ("means", "differences"):
        assert "<figcaption" in shown[show]
    assert "As a table: " in shown["differences"]
    for words in ("dice of liver", "hd95"):
        assert words in shown["classes"]
    assert "For a methods section" in shown["methods"]
    assert "Verdict in full" in study_page
    assert image.headers["content-type"] == "image/png"
