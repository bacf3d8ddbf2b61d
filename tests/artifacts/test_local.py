"""Folders of trials, and no way out of them."""

import os
import shutil
from pathlib import Path

import pytest

from tuner.artifacts.local import Artifacts
from tuner.errors import NotFoundError, RunError


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """A root beside a file that nobody may read through it."""
    (tmp_path / "secret").write_text("secret")
    return Artifacts(tmp_path / "artifacts")


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(f"{folder.name} {name}")


def test_files_come_back(artifacts: Artifacts) -> None:
    """The round trip: a folder, a file, its listing, its content."""
    fill(artifacts.create("organs", 3), "config.yaml", "metrics.jsonl")

    assert [(file.name, file.size) for file in artifacts.listing("organs", 3)] == [
        ("config.yaml", 13),
        ("metrics.jsonl", 15),
    ]
    with artifacts.open("organs", 3, "config.yaml") as file:
        assert file.read() == b"3 config.yaml"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "..\\secret",
        "config.yaml\0.png",
        ".hidden",
        "x" * 200,
        "absent",
    ],
    ids=repr,
)
def test_names_lead_nowhere_else(name: str, artifacts: Artifacts) -> None:
    """The API opens what a client names."""
    fill(artifacts.create("organs", 1), "config.yaml")

    with pytest.raises(NotFoundError):
        artifacts.open("organs", 1, name)


@pytest.mark.parametrize("study", ["..", ".", "", "a/b", "/tmp", "x\0", "-x", "x" * 81, "organs\n"], ids=repr)
def test_studies_lead_nowhere_else(study: str, artifacts: Artifacts) -> None:
    """A study's name is a folder's name."""
    with pytest.raises(NotFoundError):
        artifacts.create(study, 1)
    with pytest.raises(NotFoundError):
        artifacts.listing(study, 1)
    with pytest.raises(NotFoundError):
        artifacts.delete(study)


def test_links_are_not_followed(artifacts: Artifacts, tmp_path: Path) -> None:
    """Whoever may write into a trial's folder may not thereby read the server's files."""
    folder = artifacts.create("organs", 1)
    (folder / "log.txt").symlink_to(tmp_path / "secret")
    (folder / "sub").mkdir()
    (artifacts.root / "organs" / "2").symlink_to(tmp_path, target_is_directory=True)

    for number, name in ((1, "log.txt"), (1, "sub"), (2, "secret")):
        with pytest.raises(NotFoundError):
            artifacts.open("organs", number, name)
    assert artifacts.listing("organs", 1) == []
    assert artifacts.listing("organs", 2) == []
    with pytest.raises(RunError, match="link"):
        artifacts.create("organs", 2)


def test_a_pipe_does_not_hang_the_server(artifacts: Artifacts) -> None:
    """Opening a pipe waits for its other end."""
    os.mkfifo(artifacts.create("organs", 1) / "log.txt")

    with pytest.raises(NotFoundError):
        artifacts.open("organs", 1, "log.txt")


def test_a_retry_begins_where_the_last_attempt_ended(artifacts: Artifacts) -> None:
    """A retry's folder begins with metrics.jsonl and last.ckpt; the best weights must not be lost either."""
    fill(artifacts.create("organs", 1), "metrics.jsonl", "cases.jsonl", "last.ckpt", "best.safetensors", "log.txt")
    fill(artifacts.create("organs", 4), "log.txt")
    folder = artifacts.create("organs", 7, earlier=[1, 4])

    assert (folder / "last.ckpt").read_text() == "1 last.ckpt"
    assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "cases.jsonl", "last.ckpt", "best.safetensors"}


def test_a_retry_begins_with_one_moment_of_an_attempt_that_still_writes(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was taken for dead may finish an epoch while its files are copied: lines first, then checkpoint.

    A checkpoint that is newer than the lines beside it would be thrown away, and the trial start from the beginning.
    """
    source = artifacts.create("organs", 1)
    fill(source, "metrics.jsonl", "last.ckpt")
    copy = shutil.copyfile

    def copy_slowly(old: Path, new: Path) -> None:
        copy(old, new)
        for name in ("metrics.jsonl", "last.ckpt"):
            (source / name).write_text(f"{(source / name).read_text()}, one epoch more")

    monkeypatch.setattr(shutil, "copyfile", copy_slowly)
    folder = artifacts.create("organs", 2, earlier=[1])

    lines, checkpoint = ((folder / name).read_text() for name in ("metrics.jsonl", "last.ckpt"))
    assert lines.count("one epoch more") >= checkpoint.count("one epoch more")
    assert not list(folder.glob(".*.part"))


def test_the_newest_checkpoint_wins(artifacts: Artifacts) -> None:
    """The second interruption must not throw the trial back behind the first."""
    for number in (1, 4):
        fill(artifacts.create("organs", number), "metrics.jsonl", "last.ckpt")

    assert (artifacts.create("organs", 7, earlier=[1, 4]) / "last.ckpt").read_text() == "4 last.ckpt"


def test_an_own_checkpoint_stays(artifacts: Artifacts) -> None:
    """Creating the folder again must not undo progress."""
    fill(artifacts.create("organs", 1), "last.ckpt")
    fill(artifacts.create("organs", 2), "last.ckpt")

    assert (artifacts.create("organs", 2, earlier=[1]) / "last.ckpt").read_text() == "2 last.ckpt"


def test_checkpoints_of_finished_trials_go(artifacts: Artifacts) -> None:
    """They are the largest files and serve nobody any more; everything else stays."""
    fill(artifacts.create("organs", 1), "last.ckpt", "best.safetensors")

    assert artifacts.drop_checkpoint("organs", 1) == len("1 last.ckpt")
    assert artifacts.drop_checkpoint("organs", 1) == 0
    assert [file.name for file in artifacts.listing("organs", 1)] == ["best.safetensors"]


def test_deleting_follows_no_link(artifacts: Artifacts, tmp_path: Path) -> None:
    """`tuner delete --artifacts` must not empty a folder elsewhere."""
    fill(artifacts.create("organs", 1), "log.txt")
    (artifacts.root / "linked").symlink_to(tmp_path, target_is_directory=True)
    artifacts.delete("linked")
    artifacts.delete("organs")
    artifacts.delete("never")

    assert (tmp_path / "secret").exists()
    assert list(artifacts.root.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Artifacts below a file: the message names the place and the flag."""
    (tmp_path / "file").touch()

    with pytest.raises(RunError, match="--artifacts"):
        Artifacts(tmp_path / "file").create("organs", 1)
