"""Preparing that is interrupted goes on: the same bytes at the end, and no finished case is read again."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import make_synapse
from tests.data.volumes import make_nnunet, section
from tuner.data.cache import NAME
from tuner.data.preparation import prepare

CASES = 6
SYNAPSE = {"name": "synapse", "size": 32, "validation": ["case0006"]}
VOLUMES = section(dimensions=3, resize=False)

CODE = """
import json, os, sys
from pathlib import Path
from tuner.data.preparation import prepare
root, at, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
def told(what, done, total):
    if what == "preparing" and done == at:
        os.kill(os.getpid(), number)
prepare(json.loads(sys.argv[4]), data_root=root, cache=root / "cache", seed=0, on_progress=told)
"""


def _interrupt(root: Path, config: dict[str, Any], *, at: int, number: signal.Signals) -> Path:
    """Prepare in a process that gets a signal after `at` samples; return the folder that it left."""
    words = [sys.executable, "-c", CODE, str(root), str(at), str(int(number)), json.dumps(config)]
    ended = subprocess.run(words, capture_output=True, check=False)
    assert ended.returncode in (-number, 1 if number == signal.SIGINT else -number), ended.stderr
    (left,) = (root / "cache").glob(".*building*")
    return left


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}


def _go_on(root: Path, config: dict[str, Any], cache: str = "cache") -> tuple[dict[str, str], list[int]]:
    """Prepare to the end; return the hashes of the arrays and how many samples were done at each report."""
    steps: list[int] = []

    def told(what: str, done: int, total: int) -> None:
        if what == "preparing":
            steps.append(done)

    data = prepare(config, data_root=root, cache=root / cache, seed=0, on_progress=told)
    assert not list((root / cache).glob(".*building*"))
    assert not (data.folder / NAME).exists()
    return _hashes(data.folder), steps


@pytest.mark.parametrize(
    ("config", "at", "begun"),
    [
        pytest.param(SYNAPSE, 10, 4, id="slices"),
        pytest.param(SYNAPSE, 23, 4, id="in-the-other-half"),
        pytest.param(VOLUMES, 2, 1, id="volumes-of-many-sizes"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_goes_on(tmp_path: Path, config: dict[str, Any], at: int, begun: int, number: signal.Signals) -> None:
    """A day's preparing is not lost to a closed laptop: what was written whole is not read again, and all is equal."""
    make_synapse(tmp_path, cases=CASES)
    make_nnunet(tmp_path)
    expected, every = _go_on(tmp_path, config, "other")
    left = _interrupt(tmp_path, config, at=at, number=number)
    assert json.loads((left / NAME).read_text())["done"]["train"] >= 1

    found, steps = _go_on(tmp_path, config)

    assert steps[0] >= begun
    assert steps == every[steps[0] - 1 :]
    assert found == expected


@pytest.mark.parametrize("damage", ["cut", "note", "nothing"])
def test_damaged_remains_are_not_believed(tmp_path: Path, damage: str) -> None:
    """Files shorter than the note says (a lost disk) are begun again; so is everything when the note is no note."""
    make_synapse(tmp_path, cases=CASES)
    expected, every = _go_on(tmp_path, SYNAPSE, "other")
    left = _interrupt(tmp_path, SYNAPSE, at=10, number=signal.SIGKILL)
    if damage == "cut":
        (left / "train-images.npy").write_bytes((left / "train-images.npy").read_bytes()[:5000])
    elif damage == "note":
        (left / NAME).write_text('{"done": {"train": 2}')
    else:
        (left / NAME).unlink()

    assert _go_on(tmp_path, SYNAPSE) == (expected, every)


def test_what_was_not_noted_is_written_again(tmp_path: Path) -> None:
    """Bytes behind the last note may be half a sample; they are cut off, whatever they are."""
    make_synapse(tmp_path, cases=CASES)
    expected, _ = _go_on(tmp_path, SYNAPSE, "other")
    left = _interrupt(tmp_path, SYNAPSE, at=10, number=signal.SIGKILL)
    for path in left.glob("*.npy"):
        path.write_bytes(path.read_bytes() + bytes(range(255)) * 999)

    assert _go_on(tmp_path, SYNAPSE)[0] == expected
