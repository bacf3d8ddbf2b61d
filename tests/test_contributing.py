"""The recipes of CONTRIBUTING.md, followed by the letter in a copy of the tree: they do what they promise."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
COPIED = ("tuner", "api", "tests", "studies", "benchmarks", "docs")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt")
BLOCK = re.compile(
    r"(?:^`([^`\n]+)`, (new|at the end|after `([^\n]+)`):\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
QUICK = ("a command",)


@dataclass(frozen=True)
class Step:
    """A block of a recipe: a change of a file, or commands."""

    path: str
    place: str
    line: str
    kind: str
    content: str


def recipes() -> dict[str, list[Step]]:
    """The steps under each heading `### Add …`."""
    parts = re.split(r"^### Add (.+)$", TEXT, flags=re.MULTILINE)[1:]
    return {
        title: [Step(*(group or "" for group in match.groups())) for match in BLOCK.finditer(body)]
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def change(root: Path, step: Step) -> None:
    """Make the change; a file that is there already, or a line that is not there once, is an error of the recipe."""
    path = root / step.path
    if step.place == "new":
        assert not path.exists(), step.path
        path.write_text(step.content, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if step.place == "at the end":
        path.write_text(f"{text}\n\n{step.content}", encoding="utf-8")
        return
    lines = text.splitlines()
    assert lines.count(step.line) == 1, f"{step.path}: {step.line!r}"
    lines.insert(lines.index(step.line) + 1, step.content.rstrip("\n") if step.content.strip() else "")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def perform(root: Path, command: str) -> str:
    """Run one command of a recipe as a shell in that folder would, with this Python; return what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    # processes are started with -P, which leaves out the current folder: the copy comes before what is installed
    environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = shlex.split(command, comments=True)
    assert words[0] == "python", command
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A copy of the tree."""
    for name in COPIED:
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"), symlinks=True
        )
    for name in FILES:
        shutil.copy(REPOSITORY / name, tmp_path / name)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_recipes_are_these() -> None:
    """What the text promises is tested below, each with a command that tests it."""
    found = recipes()

    assert list(found) == ["a loss", "a data set", "a model", "a metric", "a sampler", "a command"]
    for title, steps in found.items():
        assert [step.kind for step in steps].count("bash") == 1, title
        assert "pytest" in steps[-1].content, title
        assert all(step.path for step in steps[:-1]), title


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "title", [pytest.param(t, marks=[] if t in QUICK else pytest.mark.slow, id=t) for t in recipes()]
)
def test_a_recipe_does_what_it_says(scratch: Path, title: str) -> None:
    """Followed from its text alone, and the style of what it adds is that of the rest."""
    for step in recipes()[title]:
        if step.kind != "bash":
            change(scratch, step)
            continue
        for command in step.content.splitlines():
            out = perform(scratch, command)
            if "pytest" in command:
                assert re.search(r"^[1-9]\d* passed", out, re.MULTILINE), f"{command}\n{out}"
    perform(scratch, "python -m ruff check --fix --quiet tuner tests")
    perform(scratch, "python -m ruff format --quiet tuner tests")
    perform(scratch, "python -m ruff check --quiet tuner tests")
