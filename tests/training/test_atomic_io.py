"""Files on a disk that is full, and after a crash."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tuner.atomic_io import append_lines, read_lines, write_file, write_lines
from tuner.errors import RunError

LIMITED = """
import resource, sys
from pathlib import Path
from tuner.errors import DiskFullError
from tuner.atomic_io import append_lines, write_file
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for write in (lambda: write_file(folder / "whole", b"x" * 9000),
              lambda: append_lines(folder / "lines", [{"k": "x" * 9000}])):
    try:
        write()
    except DiskFullError as error:
        print(error.code, error.where == str(folder))
"""


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A half-written checkpoint in the place of a good one would lose the trial. The system's own limit, no mock."""
    write_file(tmp_path / "whole", b"before")
    append_lines(tmp_path / "lines", [{"epoch": 1}])

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == ["disk_full True", "disk_full True"]
    assert (tmp_path / "whole").read_bytes() == b"before"
    assert read_lines(tmp_path / "lines") == [{"epoch": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines", "whole"]


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        pytest.param(b'{"epoch": 2', 1, id="half a line"),
        pytest.param(b'{"epoch": 2}', 1, id="no end of line"),
        pytest.param(b"\x00\x00\n", 1, id="zeros after a power cut"),
        pytest.param(b"[2]\n", 1, id="not a mapping"),
        pytest.param(b'{"epoch": 2}\n', 2, id="whole"),
    ],
)
def test_half_lines_are_not_read(tail: bytes, kept: int, tmp_path: Path) -> None:
    """A killed process may leave anything behind the last whole line."""
    (tmp_path / "lines").write_bytes(b'{"epoch": 1}\n' + tail)

    assert len(read_lines(tmp_path / "lines")) == kept


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    """The first epoch finds none."""
    assert read_lines(tmp_path / "none") == []


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    """`tuner train -o` below a file: one sentence, no traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(RunError, match="cannot be written"):
        write_file(tmp_path / "file" / "config.yaml", b"x")


def test_lines_are_replaced_in_one_step(tmp_path: Path) -> None:
    """A worker that is killed while it takes up a trial must not lose the epochs that the trial has behind it."""
    append_lines(tmp_path / "lines", [{"epoch": 1}, {"epoch": 2}])

    def interrupted() -> Iterator[dict[str, int]]:
        yield {"epoch": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(tmp_path / "lines", interrupted())
    assert read_lines(tmp_path / "lines") == [{"epoch": 1}, {"epoch": 2}]

    write_lines(tmp_path / "lines", [{"epoch": 1}])
    assert read_lines(tmp_path / "lines") == [{"epoch": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["lines"]
