"""The torch file where torch and numpy are all that there is."""

import re
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest

from tests.export.test_torch_file import NETWORK, written

pytest.importorskip("nnunetv2", reason="make test-home")

CODE = """
import importlib.util
assert [name for name in ("tuner", "scipy", "monai", "pydantic") if importlib.util.find_spec(name)] == []
import torch
import winner
assert winner.self_test() <= 1e-6
"""


def needed(*names: str) -> set[str]:
    """Return the distributions that these need here, themselves among them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.split(r"[ ;\[<>=!~(]", waiting.pop(), maxsplit=1)[0].lower().replace("_", "-")
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        if name not in found:
            found.add(name)
            waiting += [text for text in requires if "extra ==" not in text]
    return found


def torch_only(folder: Path) -> Path:
    """Make an environment that sees torch, numpy and what they need, and return its interpreter."""
    venv.create(folder, with_pip=False)
    here = Path(sysconfig.get_paths()["purelib"])
    there = next((folder / "lib").glob("python*/site-packages"))
    for name in needed("torch", "numpy"):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (there / top).exists():
                (there / top).symlink_to(here / top)
    return folder / "bin" / "python"


def test_the_torch_file_needs_torch_and_numpy_only(tmp_path: Path) -> None:
    """In an environment without anything else, not one in which imports are refused."""
    python = torch_only(tmp_path / "env")
    written(tmp_path, {"name": "boundary", "base": "dice_focal", "weight": 0.3})

    done = subprocess.run(
        [python, "-I", "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CODE}{NETWORK}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert str(python) != sys.executable
