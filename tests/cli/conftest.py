"""Commands run in this process (fast), in a folder of their own; and one study that was searched once for all."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Result, Shell, run_here
from tuner.launch.local import THREAD_VARIABLES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, made the current one, with the cache beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNER_ALLOW_ENTRY", "tests")
    for name in THREAD_VARIABLES:  # commands set them for this very process; they are put back afterwards
        monkeypatch.setenv(name, "1")
    return folder


@pytest.fixture
def tuner(here: Path, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Run a command in this process: `tuner("status", "tiny").out`."""

    def run(*words: str) -> Result:
        return run_here(capfd, *words)

    return run


@pytest.fixture
def study_file(here: Path) -> Path:
    """A study file whose trials take a fraction of a second: a function of the user's stands in for the training."""
    path = here / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `tuner launch` has used up a budget; copy it, never change it."""
    # each folder of tests that imports the fixture has one of its own, and would search again
    if not SEARCHED:
        SEARCHED.append(search_once(tmp_path_factory.getbasetemp()))
    return SEARCHED[0]


SEARCHED: list[Path] = []


def search_once(base: Path) -> Path:
    """Search in a folder below `base`, and return the folder."""
    from tuner.cli.main import run

    folder = base / "search-of-the-session"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNER_CACHE", str(base / "cache-of-the-session"))
        patch.setenv("TUNER_ALLOW_ENTRY", "tests")
        os.chdir(folder)
        try:
            assert run(["launch", "tiny.yaml", "--launcher", "inline", "--devices", "cpu"]) == 0
        finally:
            os.chdir(before)
    return folder


@pytest.fixture
def searched(tuner: Shell, here: Path, search: Path) -> Shell:
    """A command line in a copy of the folder in which a study was searched."""
    shutil.copytree(search, here, dirs_exist_ok=True)
    return tuner
