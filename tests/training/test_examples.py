"""The programs in `examples/`, searched in small as their study files say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def launch(example: str, folder: Path, *words: str) -> dict:
    """Search an example as its first line says, with `python` the interpreter of the tests."""
    shutil.copytree(REPOSITORY / "examples" / example, folder / example)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "TUNER_ALLOW_COMMAND": "python",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "launch", "study.yaml", "--devices", "cpu", "--json", *words],
        cwd=folder / example,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_a_plain_script_is_searched(tmp_path: Path) -> None:
    """It knows nothing of the search."""
    document = launch("plain_pytorch", tmp_path, "--trials", "2", "--epochs", "2", "--set", "confirm=null")

    assert document["trials"]["complete"] == 2
    assert set(document["best"]["params"]) == {"train.lr", "net.width", "net.activation"}
    assert len(list(tmp_path.glob("plain_pytorch/artifacts/plain-pytorch/*/checkpoint.pt"))) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_monai_bundle_is_searched(tmp_path: Path) -> None:
    """By MONAI's own command line."""
    document = launch("monai_bundle", tmp_path, "--trials", "2", "--epochs", "2")

    assert document["trials"]["complete"] == 2
    assert document["best"]["value"] > 0
