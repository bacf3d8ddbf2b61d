"""Checkpoints: whole or not there, plain weights, and nobody else's."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import REPOSITORY
from tuner.training import checkpoint
from tuner.training.checkpoint import CheckpointWriter, copied, read_checkpoint

STATE = {"epoch": 3, "identity": "mine", "model": {"w": torch.arange(4.0)}}


def write(folder: Path) -> None:
    writer = CheckpointWriter(folder)
    writer.begin(STATE)
    writer.commit()


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    """Nothing else can make a continuation exact."""
    write(tmp_path)
    found = read_checkpoint(tmp_path, identity="mine")

    assert found is not None
    assert found["epoch"] == 3
    assert torch.equal(found["model"]["w"], torch.arange(4.0))


def test_nothing_is_seen_before_commit(tmp_path: Path) -> None:
    """An epoch whose line is not written yet is not finished."""
    writer = CheckpointWriter(tmp_path)
    writer.begin(STATE)
    writer.discard()

    assert list(tmp_path.iterdir()) == []


def test_a_copy_does_not_follow_the_training() -> None:
    """The thread writes while the next steps change the weights in place."""
    weights = torch.zeros(2)
    state = copied({"a": [weights, (weights, 1)], "b": "text"})
    weights += 1

    assert state["b"] == "text"
    assert state["a"][0].tolist() == [0.0, 0.0]
    assert state["a"][1][0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "identity", [pytest.param("other", id="another configuration"), pytest.param("mine", id="damaged")]
)
def test_what_cannot_be_used_is_said(identity: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Starting over in silence would look like a slow trial."""
    write(tmp_path)
    if identity == "mine":
        (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(tmp_path, identity=identity) is None

    assert "starts from the beginning" in caplog.text


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    """A checkpoint from elsewhere may hold a program; it must not run."""
    trap = tmp_path / "trap"
    program = f"import pathlib; pathlib.Path({str(trap)!r}).touch()"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (program,)

    torch.save({"format": 1, "identity": "mine", "epoch": 1, "model": Evil()}, tmp_path / "last.ckpt")

    assert read_checkpoint(tmp_path, identity="mine") is None
    assert not trap.exists()


LIMITED = """
import resource, sys, torch
from pathlib import Path
from tuner.errors import DiskFullError
from tuner.training.checkpoint import CheckpointWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
writer = CheckpointWriter(Path(sys.argv[1]))
writer.begin({"epoch": 4, "identity": "mine", "model": {"w": torch.zeros(100_000)}})
try:
    writer.commit()
except DiskFullError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """The trial must be able to go on when there is space again."""
    write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    found = read_checkpoint(tmp_path, identity="mine")

    assert "no space left to write 'last.ckpt'" in done.stdout
    assert found is not None
    assert found["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_large_checkpoint_is_not_written_after_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing 400 MB after every epoch of five seconds keeps a disk busy; whoever ends a training loses no epoch."""
    monkeypatch.setattr(checkpoint, "LARGE", 4)
    now = [0.0]
    writer = CheckpointWriter(tmp_path, clock=lambda: now[0])

    def epoch(number: int, *, at_once: bool = False) -> int:
        writer.begin({"identity": "x", "epoch": number, "model": torch.zeros(2)})
        writer.commit(at_once=at_once)
        state = read_checkpoint(tmp_path, identity="x")
        assert state is not None
        return int(state["epoch"])

    assert [epoch(1), epoch(2), epoch(3, at_once=True), epoch(4)] == [1, 1, 3, 3]
    now[0] += checkpoint.INTERVAL_S
    assert [epoch(5), epoch(6)] == [5, 5]
    writer.begin({"identity": "x", "epoch": 7, "model": torch.zeros(2)})  # not committed: it is not finished
    writer.finish()
    state = read_checkpoint(tmp_path, identity="x")
    assert state is not None
    assert state["epoch"] == 6


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty megabytes after every epoch of a second are a twentieth of a worker's time; small ones cost nothing."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5  # a writing looks twice
        return now[0]

    def written(size: int, epochs: int) -> list[int]:
        writer = CheckpointWriter(tmp_path, clock=clock)
        found = []
        for epoch in range(1, epochs + 1):
            writer.begin({"identity": "x", "epoch": epoch, "model": torch.zeros(size // 4)})
            writer.commit(at_once=False)
            now[0] += 20.0
            state = read_checkpoint(tmp_path, identity="x")
            assert state is not None
            found.append(int(state["epoch"]))
        return found

    monkeypatch.setattr(checkpoint, "SMALL", 1 << 10)
    assert written(1 << 9, 3) == [1, 2, 3]
    assert written(1 << 12, 5) == [1, 1, 3, 3, 5]  # half a second: fifty, and INTERVAL_S at most
    monkeypatch.setattr(checkpoint, "SHARE", 0.1)
    assert written(1 << 12, 3) == [1, 2, 3]
