"""How tests call `tuner`: in this process, or as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuner.cli.main import run

REPOSITORY = Path(__file__).resolve().parents[2]

STUDY = """\
name: tiny
dataset: {name: phantom, size: 32, cases: 4, slices: 4, validation: 0.25}
model: {name: unet, width: 4}
train: {epochs: 3, batch_size: 4, threads: 1, precision: float32, entry: "tests.worker.trainings:steady"}
search:
  loss: [cross_entropy, dice, dice_cross_entropy]
  train.lr: {low: 1.0e-3, high: 1.0e-1, log: true}
budget: {trials: 6}
"""


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the one JSON document of stdout."""
        return json.loads(self.out)


Shell = Callable[..., Result]


def run_here(capture: pytest.CaptureFixture[str], *words: str) -> Result:
    """Run a command in this process."""
    capture.readouterr()
    code = run(words)
    text = capture.readouterr()
    return Result(code, text.out, text.err)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which a command writes below `folder` only, and imports the tests' trainings."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "TUNER_CACHE": str(folder / "cache"),
        "TUNER_ALLOW_ENTRY": "tests",
        "OMP_NUM_THREADS": "1",
    }


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *words],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_apart(folder: Path, *words: str, timeout: float = 240) -> Result:
    """Run a command as a process of its own."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)
