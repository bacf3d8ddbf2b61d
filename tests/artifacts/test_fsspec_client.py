"""Files at an address: whole or not there, tried again, and refused in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from tuner.artifacts import remote as module
from tuner.artifacts.remote import FsspecClient, check_protocol, redact_address
from tuner.errors import DiskFullError, SpecError, UnreachableError
from tuner.settings import Settings


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory in which every transfer fails so many times, half-way."""

    cachable = False
    failures = 0
    error: type[Exception] = TimeoutError

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        """Send half of it, or all."""
        if self.failures:
            self.failures -= 1
            self.pipe_file(rpath, Path(lpath).read_bytes()[:2])
            raise self.error("cut off")
        super().put_file(lpath, rpath, **options)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory is one store for the whole process; and nobody waits here."""
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecClient:
    return FsspecClient(f"{request.param}://{tmp_path}/far")


def write(folder: Path, text: str) -> Path:
    (folder / "source").write_text(text)
    return folder / "source"


def test_files_come_back(remote: FsspecClient, tmp_path: Path) -> None:
    """The round trip: put, replaced, listed, opened at any place, fetched, removed."""
    for text in ("first", "second one"):
        remote.put(write(tmp_path, text), "organs/3/log.txt")

    assert [(file.name, file.size) for file in remote.files("organs/3")] == [("log.txt", 10)]
    assert list(remote.tree("organs")) == ["3/log.txt"]
    assert remote.folders("organs") == ["3"]
    with remote.open("organs/3/log.txt") as file:
        file.seek(7)
        assert file.read() == b"one"
    assert remote.get("organs/3/log.txt", tmp_path / "here" / "log.txt")
    assert (tmp_path / "here" / "log.txt").read_text() == "second one"
    remote.remove("organs")
    remote.remove("organs")
    assert remote.files("organs/3") == [] == remote.folders("organs")
    assert not remote.get("organs/3/log.txt", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_what_fails_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    """A network that hiccups costs no trial, and what it cut off is never seen under its name."""
    files = Flaky()
    remote = FsspecClient("memory://bucket", filesystem=files)
    remote.put(write(tmp_path, "earlier"), "a/0/last.ckpt")
    files.failures = 3

    remote.put(write(tmp_path, "later"), "a/0/last.ckpt")

    assert files.cat_file("/bucket/a/0/last.ckpt") == b"later"
    assert [file.name for file in remote.files("a/0")] == ["last.ckpt"]


@pytest.mark.parametrize("error", [TimeoutError, PermissionError, ValueError], ids=lambda error: error.__name__)
def test_what_goes_on_failing_leaves_the_earlier_file(tmp_path: Path, error: type[Exception]) -> None:
    """The state before must stay usable; and the message says where, and what to look at."""
    files = Flaky()
    remote = FsspecClient("memory://bucket", filesystem=files, retry_timeout_s=0.01)
    remote.put(write(tmp_path, "earlier"), "a/0/last.ckpt")
    files.failures, files.error = 1000, error

    with pytest.raises(UnreachableError, match=r"a/0/last\.ckpt could not be written or read: .*cut off") as raised:
        remote.put(write(tmp_path, "later"), "a/0/last.ckpt")

    assert raised.value.where == "memory://bucket"
    assert files.cat_file("/bucket/a/0/last.ckpt") == b"earlier"


def test_whoever_is_told_to_stop_does_not_wait_for_the_network(tmp_path: Path) -> None:
    """A batch system gives seconds: one try, then the trial is returned to the queue."""
    files = Flaky()
    files.failures = 1000

    with pytest.raises(UnreachableError):
        FsspecClient("memory://bucket", filesystem=files).put(write(tmp_path, "x"), "a/0/log.txt", lambda: True)

    assert files.failures == 999


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again would not make room: the worker has to say it, and end."""

    def full(self: LocalFileSystem, *paths: str, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "put_file", full)

    with pytest.raises(DiskFullError, match=r"no space left for a/0/last\.ckpt"):
        FsspecClient(f"file://{tmp_path}/far").put(write(tmp_path, "x"), "a/0/last.ckpt")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/x", "pip install s3fs"),
        ("gs://bucket/x", "pip install gcsfs"),
        ("nowhere://x", "not an address that fsspec knows"),
        ("simplecache::s3://bucket", "chained"),
    ],
    ids=["s3", "gs", "unknown", "chained"],
)
def test_what_cannot_be_opened_here_is_refused(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is created, with the line to type."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SpecError, match=words.replace("(", r"\(")) as raised:
        check_protocol(url)

    assert raised.value.where == url


def test_a_place_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    """A launch must not find out after its first epoch."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SpecError, match="could not be written"):
        FsspecClient(f"file://{tmp_path}/file/below", retry_timeout_s=0.0).check()

    FsspecClient(f"file://{tmp_path}/far").check()
    assert list((tmp_path / "far").iterdir()) == []


def test_an_address_has_a_working_folder_of_its_own(tmp_path: Path) -> None:
    """Two buckets with a study of one name must not meet on this machine; a path is used as it is."""
    far = Settings.resolve({"TUNER_CACHE": str(tmp_path)}, artifacts="s3://bucket/one/")
    other = Settings.resolve({"TUNER_CACHE": str(tmp_path), "TUNER_ARTIFACTS": "s3://bucket/two"})
    here = Settings.resolve({"TUNER_ARTIFACTS": str(tmp_path / "files")})

    assert (far.artifacts_url, far.artifacts_place) == ("s3://bucket/one", "s3://bucket/one")
    assert far.artifacts.parent == other.artifacts.parent == tmp_path / "artifacts"
    assert far.artifacts != other.artifacts
    assert (here.artifacts, here.artifacts_url) == (tmp_path / "files", None)
    assert here.artifacts_place == str(tmp_path / "files")


def test_passwords_are_not_shown() -> None:
    """Messages end up in logs and tickets."""
    assert redact_address("sftp://me:secret@host/x") == "sftp://me:***@host/x"
