"""What a fresh clone installs: pinned, torch first, with everything that the wheel must hold."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from tuner import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.lower().replace("_", "-").split("==")
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def test_every_dependency_is_pinned() -> None:
    """What was tested is what is installed, on the day of the release and a year later."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    names = [re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0].lower().replace("_", "-") for text in wanted]

    assert [name for name in names if name not in PINS] == []


def test_the_pin_of_torch_takes_any_build() -> None:
    """CPU here, CUDA there: the index of the machine says which, the version stays."""
    assert "+" not in PINS["torch"]
    assert "constraints.txt" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def test_what_is_installed_has_bytecode(tmp_path: Path) -> None:
    """Each worker would compile torch anew where nothing may be written; a file of another Python stops nobody."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    for name, code in (("sound", "x = 1"), ("broken", "def f[T](: pass"), ("tests/left_out", "x = 1")):
        (tmp_path / "lib" / name).with_suffix(".py").parent.mkdir(exist_ok=True)
        (tmp_path / "lib" / name).with_suffix(".py").write_text(code)
    recipe = ["make", "-s", f"VENV={tmp_path}", "--eval=try:; $(COMPILE)", "try"]

    subprocess.run(recipe, cwd=REPOSITORY, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=True)

    assert [path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")] == ["sound"]
    steps = (REPOSITORY / "Makefile").read_text(encoding="utf-8").split("$(INSTALLED):")[1].split("@touch")[0]
    assert steps.rindex("$(PIP)") < steps.index("$(COMPILE)")


def test_version_and_changelog_agree() -> None:
    """What `tuner --version` says is the newest release that the changelog describes, or the one being written."""
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    versions = [re.match(r"(\d+)\.(\d+)\.(\d+)", heading) for heading in headings if heading != "Unreleased"]

    assert all(versions)
    numbers = [tuple(map(int, match.groups())) for match in versions if match]
    assert numbers == sorted(set(numbers), reverse=True)
    ours = tuple(map(int, re.findall(r"\d+", __version__)))
    if headings[0] == "Unreleased":
        assert ours > numbers[0], "the unreleased entries are of a version to come"
    else:
        assert ours == numbers[0]
    assert f"## Upgrading to {__version__}" in (REPOSITORY / "docs" / "releases.md").read_text(encoding="utf-8")


def test_types_are_announced() -> None:
    """Without the marker, a checker takes everything that a user imports for Any."""
    assert all((REPOSITORY / package / "py.typed").is_file() for package in ("tuner", "api"))


def test_pre_commit_runs_what_make_lint_runs() -> None:
    """A commit that passes there must pass here."""
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    recipe = (REPOSITORY / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]

    assert {hook["entry"].split()[0].rpartition("/")[2] for hook in hooks} == set(
        re.findall(r"\$\(BIN\)/([\w-]+)", recipe)
    )


@pytest.mark.slow
def test_the_wheel_holds_study_files_and_migrations(tmp_path: Path) -> None:
    """`tuner launch --dataset phantom` must work where no repository is."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()

    for name in ("tuner/studies/phantom.yaml", "tuner/studies/synapse.yaml", "tuner/cli/main.py", "tuner/__main__.py"):
        assert name in names
    assert {"tuner/py.typed", "api/py.typed"} <= set(names)
    assert any(name.startswith("tuner/storage/migrations/versions/v") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
