"""Data commands, the doctor, and a worker started by hand."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell

SMALL = ["--set", "size=32", "--set", "cases=4", "--set", "slices=4", "--set", "validation=0.25"]


def test_describe_says_what_the_data_holds(tuner: Shell) -> None:
    """Class imbalance is why losses differ; it is the first thing to look at."""
    document = tuner("data", "describe", "phantom", *SMALL, "--json").json()

    assert sum(document["class_frequencies"].values()) == pytest.approx(1)
    assert len(document["fingerprint"]) == 64
    text = tuner("data", "describe", "phantom", *SMALL)
    assert text.code == 0
    assert "liver" in text.out
    assert "3 cases" in text.out


def test_good_data_is_good(tuner: Shell, test_data: Path) -> None:
    """Real files, and the computed data set that has none."""
    assert tuner("data", "check", "synapse", "--data-root", str(test_data), "--json").json() == {
        "name": "synapse",
        "ok": True,
        "defects": [],
    }
    assert tuner("data", "check", "phantom").code == 0


def test_the_doctor_looks_at_everything(tuner: Shell, here: Path) -> None:
    """Versions, devices, storage, folders: each with what to do; and nothing is created by looking."""
    result = tuner("doctor", "--json")
    document = result.json()
    found = {finding["what"]: finding for finding in document["findings"]}

    assert result.code == 0, result.out
    assert {"tuner", "torch", "optuna", "devices", "storage", "data root", "artifacts", "cache"} <= found.keys()
    assert found["storage"]["advice"] == "tuner launch creates it"
    assert list(here.iterdir()) == []


def test_the_doctor_says_what_is_bad(tuner: Shell, here: Path) -> None:
    """Exit code 1, so that a script may ask it."""
    (here / "tuner.db").write_text("no database", encoding="utf-8")

    result = tuner("doctor")

    assert result.code == 1
    assert "bad" in result.out


def test_a_worker_by_hand_uses_up_the_budget(tuner: Shell, study_file: Path) -> None:
    """`--launcher none` and standing workers are how clusters work."""
    assert tuner("launch", str(study_file), "--launcher", "none", "--devices", "cpu").code == 0

    assert tuner("worker", "--study", "tiny", "--device", "cpu").code == 0

    counts = tuner("status", "tiny", "--json").json()["trials"]
    assert counts["complete"] + counts["pruned"] == counts["total"] == 6
