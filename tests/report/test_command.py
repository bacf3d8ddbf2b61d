"""`tuner report` on a search that was really run."""

import json
from pathlib import Path

import pytest

from tests.api.demo import build
from tests.cli.shell import Shell


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_a_report_is_one_file(searched: Shell, here: Path, name: str) -> None:
    """With every loss that was tried, the study file, and the commands that train the winner."""
    answer = searched("report", "tiny", "-o", name, "--json").json()
    text = (here / name).read_text(encoding="utf-8")

    assert answer["bytes"] == len(text.encode())
    for word in ("cross", "dice", "best.yaml", "sampler", "data:image/svg+xml;base64,"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "tiny", "-o", "r.pdf"), "written as .html or .md, not as '.pdf'"),
        (("report", "tony", "-o", "r.html"), "tiny"),
        (("report", "tiny", "-o", "nowhere/r.html"), "does not exist"),
    ],
    ids=["ending", "study", "folder"],
)
def test_a_wrong_request_writes_nothing(searched: Shell, here: Path, words: tuple[str, ...], said: str) -> None:
    """It is told what would be right."""
    before = sorted(path.name for path in here.iterdir())
    answer = searched(*words)

    assert answer.code == 2
    assert said in answer.err
    assert sorted(path.name for path in here.iterdir()) == before


def test_pictures_show_where_losses_differ(tuner: Shell, here: Path) -> None:
    """The survey's qualitative figure: from predictions and prepared data, errors in colour."""
    build(f"sqlite:///{here / 'tuner.db'}", here)

    answer = tuner("report", "organs", "-o", "organs.html", "--cache", "cache", "--json")

    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["format"] == "html"
    text = (here / "organs.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in text
    assert "about which the losses differ most" in text
