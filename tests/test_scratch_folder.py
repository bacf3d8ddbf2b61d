"""A folder that is made and then renamed: what a killed process has left of one is removed by the next."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tuner.analysis.export import write_folder
from tuner.atomic_io import scratch_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from tuner.atomic_io import scratch_folder
with scratch_folder(Path(sys.argv[1])) as made:
    (made / "best.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_export_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    """Weights of every killed export would fill the disk, hidden."""
    target = tmp_path / "chosen"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    assert [path.name.startswith(".chosen.") for path in tmp_path.iterdir()] == [True]

    write_folder(target, {"trial-0/config.yaml": b"loss: dice"})

    assert [path.name for path in tmp_path.iterdir()] == ["chosen"]
    assert (target / "trial-0/config.yaml").read_bytes() == b"loss: dice"


def test_two_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    """The lock of a writer that lives is its own."""
    with scratch_folder(tmp_path / "chosen") as first:
        with scratch_folder(tmp_path / "chosen") as second:
            (second / "two").touch()
            assert first.is_dir()
        (first / "one").touch()
        first.rename(tmp_path / "chosen")

    assert [path.name for path in tmp_path.rglob("*")] == ["chosen", "one"]


def test_what_is_not_surely_left_behind_stays(tmp_path: Path) -> None:
    """Hidden folders of others, of other targets, and those with something else in them."""
    for name in (".chosen.notes", ".chosen.a1b2c3d4/lock/x", ".other.a1b2c3d4"):
        (tmp_path / name).mkdir(parents=True)
    own = tmp_path / ".chosen.abcdefgh"
    own.mkdir()
    (own / "lock").touch()
    (own / "thesis.tex").touch()
    before = sorted(tmp_path.rglob("*"))

    write_folder(tmp_path / "chosen", {"a": b""})

    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "chosen", tmp_path / "chosen/a"]
    assert all(path.exists() for path in before)
