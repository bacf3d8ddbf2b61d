"""Exports: complete, honest, and written whole."""

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tuner.config.trial import load_config
from tuner.config.yaml_reader import read_yaml


@pytest.mark.parametrize("name", ["best.yaml", "best.json"])
def test_an_export_is_the_configuration_of_the_trial(searched: Shell, here: Path, name: str) -> None:
    """With each option, the data, the versions, the seed, the search, and what speaks against it."""
    assert searched("export", "tiny", "-o", name).code == 0
    best = searched("best", "tiny", "--json").json()
    config = load_config(read_yaml(here / name).content)

    assert config.loss["name"] == best["loss"]
    assert config.train.threads == 1
    origin = config.provenance
    assert (origin["study"], origin["trial"], origin["value"], origin["seed"]) == (
        "tiny",
        best["number"],
        best["value"],
        0,
    )
    assert len(origin["data_fingerprint"]) == 64
    assert origin["versions"]["torch"]
    assert origin["search"]["sampler"] == "auto"
    assert any("few trials" in text for text in origin["caveats"])


def test_another_trial_can_be_exported(searched: Shell, here: Path) -> None:
    """And names the trial with the best value."""
    best = searched("best", "tiny", "--json").json()["number"]
    rows = searched("trials", "tiny", "--state", "COMPLETE", "--json").json()
    other = next(row["number"] for row in rows if row["number"] != best)

    document = searched("export", "tiny", "-o", "other.json", "--trial", str(other), "--json").json()

    assert document["config"]["provenance"]["trial"] == other
    assert any("best value seen is another trial's" in text for text in document["config"]["provenance"]["caveats"])
    assert json.loads((here / "other.json").read_text()) == document["config"]


def test_a_python_export_is_a_program_that_stands_alone(searched: Shell, here: Path) -> None:
    """It compiles, and its configuration is the exported one."""
    assert searched("export", "tiny", "-o", "best.py").code == 0
    text = (here / "best.py").read_text(encoding="utf-8")
    scope: dict[str, object] = {"__name__": "best"}

    exec(compile(text, "best.py", "exec"), scope)

    assert load_config(scope["CONFIG"]).provenance["study"] == "tiny"


def test_replacing_a_file_is_said(searched: Shell, here: Path) -> None:
    """And happens in one step: no half-written file, no leftover."""
    assert "Wrote" in searched("export", "tiny", "-o", "best.yaml").err
    assert "Replaced" in searched("export", "tiny", "-o", "best.yaml").err
    assert [path.name for path in here.glob(".*")] == []
