"""Data commands, the doctor, and a worker started by hand."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.data.test_image_folder import make_folder
from tuner.config.yaml_reader import dump_yaml

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
    found = tuner("data", "check", "synapse", "--data-root", str(test_data), "--json").json()
    assert (found["name"], found["ok"], found["defects"]) == ("synapse", True, [])
    assert tuner("data", "check", "phantom").code == 0


def test_what_is_read_as_classes_is_said(tuner: Shell, tmp_path: Path) -> None:
    """By check, describe and launch: value, share, objects and the smallest of them; notes are told, not counted."""
    folder = make_folder(tmp_path)
    (folder / "images/._x.png").write_bytes(b"x")
    root = ["--data-root", str(tmp_path)]
    options = ["--set", "path=own", "--set", "labels={cell: '>=5'}"]
    wanted = "class 1 'cell' (value 5..65535): 50 % of the pixels, 5 objects, the smallest of 192 px, in 5 masks"

    result = tuner("data", "check", "folder", *root, *options)
    document = tuner("data", "check", "folder", *root, *options, "--json").json()

    assert (result.code, result.out) == (0, "")
    assert wanted in result.err
    assert "1 file or linked folder not used" in result.err
    assert [row["name"] for row in document["classes"]] == ["background", "cell"]
    assert len(document["notes"]) == 1
    assert wanted in tuner("data", "describe", "folder", *root, *options, "--set", "size=16").out
    study = {"dataset": {"name": "folder", "path": "own", "size": 16, "labels": {"cell": ">=5"}}, "name": "own"}
    (tmp_path / "own.yaml").write_text(dump_yaml(study))
    launched = tuner("launch", str(tmp_path / "own.yaml"), *root, "--launcher", "none", "--devices", "cpu")
    assert launched.code == 0, launched.err
    assert wanted in launched.err
    exported = tuner("status", "own", "--json").json()
    assert exported["dataset"] == "folder"


def test_labels_that_cannot_be(tuner: Shell, tmp_path: Path) -> None:
    """A mapping that makes no sense is a wrong request, before anything is opened."""
    make_folder(tmp_path)

    result = tuner("data", "check", "folder", "--data-root", str(tmp_path), "--set", "labels={cell: '>='}")

    assert result.code == 2
    assert "dataset.labels: '>=' of 'cell' is none of" in result.err


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
