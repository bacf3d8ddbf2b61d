"""A folder or a path that holds packages with the names of ours: they are not run, nor called a defect of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Shell, environment, run_apart
from tuner.launch.launcher import python_command


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with somebody's `api` and `optuna`, which leave a mark when they are imported."""
    folder = tmp_path / "project"
    for name in ("api", "optuna"):
        (folder / name).mkdir(parents=True)
        mark = f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n"
        (folder / name / "__init__.py").write_text(mark, encoding="utf-8")
    return folder


def test_the_current_folder_shadows_nothing(foreign: Path) -> None:
    """`python -m tuner` puts the current folder first on Python's path."""
    (foreign / "tiny.yaml").write_text(STUDY.replace("trials: 6", "trials: 1"), encoding="utf-8")
    launched = run_apart(foreign, "launch", "tiny.yaml", "--devices=cpu", "--workers=1", "--serve")

    assert launched.code == 0, launched.err
    assert not (foreign.parent / "imported").exists()


def test_processes_of_ours_are_started_without_the_current_folder(foreign: Path) -> None:
    """Workers, probes and bridges alike, by this one command.

    Beside a program of the user's one file runs, which imports nothing of ours.
    """
    words = python_command("tuner", "--version")
    done = subprocess.run(words, cwd=foreign, env=environment(foreign), capture_output=True, text=True, check=True)

    assert words[:3] == [sys.executable, "-P", "-m"]
    assert done.stdout
    repository = Path(__file__).resolve().parents[2]
    sources = [path for package in ("tuner", "api") for path in (repository / package).rglob("*.py")]
    by_hand = [path.name for path in sources if 'sys.executable, "-' in path.read_text(encoding="utf-8")]
    assert sorted(by_hand) == ["launcher.py", "program.py"]  # the latter with -I, which leaves the folder out as well


def test_somebody_elses_api_on_the_path_is_named(foreign: Path) -> None:
    """The remedy is theirs: it is no defect of ours, and nothing was made before it was seen."""
    places = environment(foreign)
    places["PYTHONPATH"] = f"{foreign}:{places['PYTHONPATH']}"
    (foreign / "optuna" / "__init__.py").unlink()
    (foreign / "optuna").rmdir()
    empty = foreign.parent / "empty"
    empty.mkdir()
    (empty / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    for words in (["serve", "--port", "0"], ["launch", "tiny.yaml", "--devices=cpu", "--serve"]):
        done = subprocess.run(
            python_command("tuner", *words), cwd=empty, env=places, capture_output=True, text=True, check=False
        )

        assert done.returncode == 2, done.stderr
        assert str(foreign / "api" / "__init__.py") in done.stderr
        assert "PYTHONPATH" in done.stderr
        assert "defect" not in done.stderr
        assert [path.name for path in empty.iterdir()] == ["tiny.yaml"]
    assert not (foreign.parent / "imported").exists()


def test_a_package_that_is_missing_is_no_defect(tuner: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that lacks something is mended by installing it."""
    import tuner.cli.output as output

    def broken(document: object) -> None:
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401

    monkeypatch.setattr(output, "put_json", broken)
    result = tuner("losses", "--json")

    assert result.code == 1
    assert "No module named 'no_such_package'" in result.err
    assert "test_foreign_packages.py" in result.err
    assert "defect" not in result.err


def test_code_of_the_users_own_is_found_in_the_current_folder(tmp_path: Path) -> None:
    """It comes last on the path, for the process that trains."""
    (tmp_path / "mylab.py").write_text(
        "def train(config, device, folder):\n    yield {'dice': 0.5}\n", encoding="utf-8"
    )
    text = STUDY.replace("tests.worker.trainings:steady", "mylab:train").replace("epochs: 3", "epochs: 1")
    (tmp_path / "tiny.yaml").write_text(text.replace("trials: 6", "trials: 1"), encoding="utf-8")
    places = environment(tmp_path) | {"TUNER_ALLOW_ENTRY": "mylab"}
    command = python_command("tuner", "launch", "tiny.yaml", "--devices=cpu", "--workers=1")
    done = subprocess.run(command, cwd=tmp_path, env=places, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
