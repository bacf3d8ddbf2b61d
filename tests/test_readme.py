"""The README is what a newcomer types: every command in it runs, in order, in an empty folder."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tuner.config.study import load_spec
from tuner.config.yaml_reader import parse_yaml

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line]


TYPED = [
    line.split(" # ")[0].split(" > ")[0].strip()
    for _, text in BLOCKS
    for line in text.splitlines()
    if line.startswith("tuner ")
]


@pytest.mark.parametrize("command", TYPED)
def test_every_command_of_the_readme_is_understood(command: str) -> None:
    """A flag that was renamed, or a word too many, is found without running what takes minutes."""
    import click
    import typer

    from tuner.cli.main import app

    group = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    context = click.Context(group, info_name="tuner")
    while isinstance(group, click.Group):
        found = group.get_command(context, words[0])
        assert found is not None, words[0]
        group, words = found, words[1:]

    group.make_context("tuner", words)


def test_the_study_file_of_the_readme_is_one() -> None:
    """It is the first that a user copies."""
    (text,) = (text for kind, text in BLOCKS if kind == "yaml" and text.startswith("name:"))

    assert load_spec(parse_yaml(text)).name == "organs"


LIBRARY = (Path(__file__).resolve().parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```$", README + LIBRARY, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_of_the_documents_runs(block: str) -> None:
    """Each block is what somebody pastes into a notebook of his own."""
    exec(compile(block, "block", "exec"), {})


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(tmp_path: Path, test_data: Path) -> None:
    """A README whose commands fail costs a user the first ten minutes, and us the user."""
    (tmp_path / "data").symlink_to(test_data)
    studies = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "organs.yaml").write_text(studies[0], encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TUNER_CACHE": str(tmp_path / "cache"),
    }

    for command in COMMANDS:
        done = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"

    assert (tmp_path / "final" / "best.safetensors").is_file()


def test_the_readme_shows_the_commands_that_matter() -> None:
    """Launch, resume, export and train are the product."""
    for word in ("launch", "resume", "export", "train", "status", "trials", "best"):
        assert any(command.startswith(f"tuner {word}") for command in COMMANDS), word


SERVING = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if not kind
    for line in text.splitlines()
    if line.startswith("tuner ")
]


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVING)
def test_what_the_readme_serves_answers(tmp_path: Path, command: str) -> None:
    """A dashboard that does not open is no dashboard."""
    places = ["--storage", f"sqlite:///{tmp_path / 'tuner.db'}", "--cache", str(tmp_path / "cache")]
    small = ["--trials", "3", "--epochs", "1"] if "launch" in command else ["--port", "0"]
    words = [sys.executable, "-m", *shlex.split(command), *places, *small]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(found[0] for line in process.stderr if (found := re.findall(r"http://[^ \n]+", line)))
            with urllib.request.urlopen(address, timeout=30) as page:
                assert page.status == 200
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
