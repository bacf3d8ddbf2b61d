"""The trainer class that a trial of nnU-Net runs, and the study that runs it."""

import ast
import json
from pathlib import Path

import pytest

from tests.cli.conftest import here, tuner
from tests.cli.shell import Shell
from tests.data.volumes import make_nnunet
from tuner.config.study import load_spec
from tuner.config.yaml_reader import read_yaml
from tuner.export.nnunet_search import search_trainer_source

__all__ = ["here", "tuner"]


def test_the_trainer_stands_alone() -> None:
    """nnU-Net's environment has no tuner: everything comes with the file, with the class that is called."""
    text = search_trainer_source()
    tree = ast.parse(text)

    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]

    assert not [name for name in imported if name and name.startswith("tuner")]
    assert classes.count("nnUNetTrainerSearched") == 1
    assert classes.index("nnUNetTrainerTuned") < classes.index("nnUNetTrainerSearched")
    assert "choose_cases" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def planned(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of nnU-Net with plans, and a program that is called as nnU-Net's is."""
    folder = make_nnunet(here / "raw")
    plans = here / "preprocessed" / folder.name / "nnUNetPlans.json"
    plans.parent.mkdir(parents=True)
    plans.write_text(json.dumps({"configurations": {"2d": {}, "3d_fullres": {}}}))
    program = here / "bin" / "nnUNetv2_train"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("nnUNet_raw", str(here / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(here / "preprocessed"))
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return here


def test_a_study_of_nnunets_own_training(planned: Path, tuner: Shell) -> None:
    """The command, a division by fold, losses that need a network's outputs only."""
    answer = tuner("init", "nnunet", "--dataset-id", "7", "--devices", "cpu", "--task", "borders", "--trials", "90")

    assert answer.code == 0, answer.err
    assert "export TUNER_ALLOW_COMMAND=nnUNetv2_train" in answer.out
    spec = load_spec(read_yaml(Path("nnunet7.yaml")))
    assert spec.base.train.command is not None
    assert spec.base.train.command[:4] == ["nnUNetv2_train", "7", "2d", "0"]
    assert spec.base.dataset["validation"] == {"folds": 5, "fold": 0}
    names = {candidate.name for candidate in spec.candidates}
    assert "boundary" in names
    assert not names & {"boundary_aware", "conditional_boundary"}
    assert "class nnUNetTrainerSearched" in Path("nnunet7-trainer/nnUNetTrainerSearched.py").read_text()

    again = tuner("init", "nnunet", "--dataset-id", "7", "--devices", "cpu")
    assert again.code == 2
    assert "--force" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dataset-id", "8"), "Dataset007_Boxes"),
        (("--dataset-id", "7", "--configuration", "4d"), "2d, 3d_fullres"),
        (("--dataset-id", "7", "--plans", "ResEnc"), "nnUNetv2_plan_and_preprocess -d 7"),
        ((), "--dataset-id 123"),
    ],
)
def test_what_nnunet_has_not_is_named(planned: Path, tuner: Shell, words: tuple[str, ...], said: str) -> None:
    """With what there is, or the command that makes it; nothing is written."""
    answer = tuner("init", "nnunet", "--devices", "cpu", *words)

    assert answer.code == 2
    assert said in answer.err
    assert not list(planned.glob("nnunet*"))
