"""Page Confirmation of a study: what is not known, and the verdict on runs of finalists."""

from pathlib import Path

import httpx
import pytest

from api.config import ServiceSettings
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
        text = client.get("/studies/tiny/confirmation").text
        study_page = client.get("/studies/tiny").text
        picture = next(part for part in text.split('"') if "/pictures/" in part)
        image = client.get(picture.replace("&amp;", "&"))

    for words in ("Who was judged", "the search saw", "dice of liver", "hd95", "For a methods section", "<svg"):
        assert words in text
    assert "Verdict in full" in study_page
    assert image.headers["content-type"] == "image/png"
