"""The example of docs/training.md, as a user would copy it: two files and one command."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```$", (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8"), re.M | re.S
)


@pytest.mark.timeout(600)
def test_the_example_runs(tmp_path: Path) -> None:
    """Files are named in their first line; the command is the documented one."""
    for kind, text in BLOCKS:
        if kind in ("python", "yaml"):
            path = tmp_path / re.match(r"# ([\w./]+)", text)[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (line,) = (text.strip() for kind, text in BLOCKS if kind == "bash")
    setting, tuner, *words = shlex.split(line)
    assert tuner == "tuner"
    name, _, value = setting.partition("=")
    environment = {**os.environ, name: value, "TUNER_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(REPOSITORY)

    done = subprocess.run(
        [sys.executable, "-m", "tuner", *words, "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["trials"]["complete"] == 2, done.stderr
    assert document["best"]["value"] > 0
    assert len(list(tmp_path.glob("artifacts/mine/*/note.json"))) == 2
