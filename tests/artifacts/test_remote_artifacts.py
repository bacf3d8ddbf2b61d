"""Files of trials at an address: what is published can be continued elsewhere, and leads nowhere else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.artifacts.test_fsspec_client import Flaky
from tuner.artifacts import remote as remote_module
from tuner.artifacts.remote import FsspecClient, RemoteArtifacts
from tuner.errors import NotFoundError, UnreachableError


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory is one store for the whole process; and nobody waits here."""
    monkeypatch.setattr(remote_module, "FIRST_PAUSE_S", 0.001)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("secret")
    return f"{request.param}://{tmp_path}/far"


def machine(tmp_path: Path, name: str, url: str) -> RemoteArtifacts:
    """Return the artifacts as one machine has them."""
    return RemoteArtifacts(tmp_path / name, FsspecClient(url))


def epoch(folder: Path, number: int) -> None:
    """Leave what a training leaves at the end of an epoch."""
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(f"{number}\n")
    (folder / "last.ckpt").write_text(f"state {number}")
    (folder / "best.safetensors").write_text(f"best {number}")


def test_another_machine_continues(tmp_path: Path, url: str) -> None:
    """The point of it: the worker's machine is gone with its disk, and nothing is trained twice."""
    here, there = machine(tmp_path, "here", url), machine(tmp_path, "there", url)
    folder = here.create("organs", 0)
    for number in (1, 2):
        epoch(folder, number)
        here.publish("organs", 0)
    epoch(folder, 3)  # not published any more

    again = there.create("organs", 4, earlier=[0])

    found = {path.name: path.read_text() for path in again.iterdir()}
    assert found == {"metrics.jsonl": "1\n2\n", "last.ckpt": "state 2", "best.safetensors": "best 2"}
    assert there.continues("organs", 4)
    assert "last.ckpt" in {
        file.name for file in here.listing("organs", 0)
    }  # until the new attempt has published its own
    there.publish("organs", 4)
    assert {file.name for file in here.listing("organs", 0)} == {"metrics.jsonl", "best.safetensors"}
    assert {file.name for file in here.listing("organs", 4)} == set(found)
    assert not (there.root / "organs" / "0").exists()


def test_the_same_machine_continues_from_what_it_has(tmp_path: Path, url: str) -> None:
    """What was committed here after the last publication is not thrown away."""
    here = machine(tmp_path, "here", url)
    folder = here.create("organs", 0)
    epoch(folder, 1)
    here.publish("organs", 0)
    epoch(folder, 2)

    again = machine(tmp_path, "here", url).create("organs", 1, earlier=[0])

    assert (again / "last.ckpt").read_text() == "state 2"


def test_a_program_continues_on_another_machine_with_its_sub_folders(tmp_path: Path, url: str) -> None:
    first, second = machine(tmp_path, "first", url), machine(tmp_path, "second", url)
    folder = first.create("organs", 0, whole=True)
    (folder / "nnunet" / "fold_0").mkdir(parents=True)
    (folder / "nnunet" / "fold_0" / "checkpoint.pth").write_text("weights")
    (folder / "nnunet" / ".hidden").write_text("no")
    (folder / "state.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder / "link").symlink_to(outside)
    (folder / "nnunet" / "secret").symlink_to(outside / "secret")
    first.publish("organs", 0)

    again = second.create("organs", 1, earlier=[0], whole=True)

    assert sorted(path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file()) == [
        "nnunet/fold_0/checkpoint.pth",
        "state.json",
    ]
    assert (again / "nnunet" / "fold_0" / "checkpoint.pth").read_text() == "weights"
    assert [file.name for file in second.listing("organs", 0)] == ["state.json"]
    second.publish("organs", 1)
    second.release("organs", 1)
    assert not again.exists()


@pytest.mark.parametrize("cut", range(8))
def test_wherever_a_publication_is_cut_off_the_trial_can_be_continued(tmp_path: Path, cut: int) -> None:
    """Kill -9 in the middle of an upload: a checkpoint always finds the epochs before it."""

    class Killed(BaseException):
        """Ends everything, as a signal does."""

    calls = 0

    class Cut(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def mv(self, path1: str, path2: str, **options: object) -> None:
            nonlocal calls
            calls += 1
            if calls > cut:
                raise Killed
            super().mv(path1, path2, **options)

    here = RemoteArtifacts(tmp_path / "here", FsspecClient("memory://far", filesystem=Cut()))
    folder = here.create("organs", 0)
    try:
        for number in (1, 2, 3):
            epoch(folder, number)
            here.publish("organs", 0)
    except Killed:
        pass

    again = machine(tmp_path, "there", "memory://far").create("organs", 1, earlier=[0])

    published = cut // 3
    if not published and cut < 2:
        assert not (again / "last.ckpt").exists()
        return
    state = int((again / "last.ckpt").read_text().split()[1])
    assert state >= published
    assert [int(line) for line in (again / "metrics.jsonl").read_text().split()][:state] == list(range(1, state + 1))
    best = (
        again / "best.safetensors"
    )  # of the checkpoint's epoch it is written anew, of an earlier one it must be there
    assert state == published + 1 or best.read_text() == f"best {state}"


def test_only_what_has_changed_is_sent(tmp_path: Path) -> None:
    """Weights of megabytes that have not improved do not travel every epoch."""
    sent: list[str] = []

    class Watched(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def mv(self, path1: str, path2: str, **options: object) -> None:
            sent.append(path2.rpartition("/")[2])
            super().mv(path1, path2, **options)

    here = RemoteArtifacts(tmp_path / "here", FsspecClient("memory://far", filesystem=Watched()))
    epoch(folder := here.create("organs", 0), 1)
    here.publish("organs", 0)
    (folder / "log.txt").write_text("a line")
    here.publish("organs", 0)

    assert sent == ["metrics.jsonl", "last.ckpt", "best.safetensors", "log.txt"]


def test_an_address_that_is_away_is_an_error_of_its_own(tmp_path: Path) -> None:
    """The worker gives the trial back: it must never be marked complete without its files."""
    files = Flaky()
    here = RemoteArtifacts(tmp_path / "here", FsspecClient("memory://far", filesystem=files, retry_timeout_s=0.01))
    epoch(here.create("organs", 0), 1)
    files.failures = 1000

    with pytest.raises(UnreachableError):
        here.publish("organs", 0)
    here.release("organs", 0)

    assert here.continues("organs", 0)  # nothing that was not published is removed
    files.failures = 0
    here.publish("organs", 0)
    assert len(here.listing("organs", 0)) == 3


def test_a_trial_that_has_ended_leaves_nothing_on_the_worker(tmp_path: Path, url: str) -> None:
    """Disks of workers are small; readers read what was published, byte by byte and as a folder."""
    here, reader = machine(tmp_path, "here", url), machine(tmp_path, "reader", url)
    epoch(here.create("organs", 0), 1)
    here.publish("organs", 0)
    assert here.drop_checkpoint("organs", 0) == len("state 1")
    here.release("organs", 0)

    assert not (here.root / "organs" / "0").exists()
    assert [(file.name, file.size) for file in reader.listing("organs", 0)] == [
        ("best.safetensors", 6),
        ("metrics.jsonl", 2),
    ]
    with reader.open("organs", 0, "best.safetensors") as file:
        file.seek(5)
        assert file.read() == b"1"
    copies = reader.fetched("organs", 0, ["best.safetensors"])
    assert [path.name for path in copies.iterdir() if path.name[0] != "."] == ["best.safetensors"]
    (copies / "test.json").write_text("{}")
    reader.keep("organs", 0, "test.json")
    assert "test.json" in {file.name for file in here.listing("organs", 0)}
    reader.delete("organs")
    assert here.listing("organs", 0) == []
    assert not copies.exists()


def test_copies_follow_what_is_published(tmp_path: Path, url: str) -> None:
    """`tuner logs -f` on another machine shows the lines as they come."""
    here, reader = machine(tmp_path, "here", url), machine(tmp_path, "reader", url)
    folder = here.create("organs", 0)
    for text in ("one", "one two", "one 2wo"):
        (folder / "log.txt").write_text(text)
        here.publish("organs", 0)
        assert (reader.fetched("organs", 0, ["log.txt"]) / "log.txt").read_text() == text


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "a/b", ".hidden", "absent"], ids=repr)
def test_names_lead_nowhere_else(name: str, tmp_path: Path, url: str) -> None:
    """The API opens what a client names, wherever the files are."""
    here = machine(tmp_path, "here", url)
    epoch(here.create("organs", 1), 1)
    here.publish("organs", 1)

    with pytest.raises(NotFoundError):
        here.open("organs", 1, name)
    for study in ("..", "a/b", ""):
        with pytest.raises(NotFoundError):
            here.open(study, 1, "metrics.jsonl")
        with pytest.raises(NotFoundError):
            here.listing(study, 1)
        with pytest.raises(NotFoundError):
            here.delete(study)


def test_links_at_the_address_are_not_followed(tmp_path: Path) -> None:
    """Whoever may write into the shared folder may not thereby read a server's, or a worker's, files."""
    here = machine(tmp_path, "here", f"file://{tmp_path}/far")
    epoch(here.create("organs", 0), 1)
    here.publish("organs", 0)
    (tmp_path / "secret").write_text("secret")
    for name in ("log.txt", "last.ckpt"):
        (tmp_path / "far" / "organs" / "0" / name).unlink(missing_ok=True)
        (tmp_path / "far" / "organs" / "0" / name).symlink_to(tmp_path / "secret")

    with pytest.raises(NotFoundError):
        here.open("organs", 0, "log.txt")
    assert "log.txt" not in {file.name for file in here.listing("organs", 0)}
    assert not (here.fetched("organs", 0) / "log.txt").exists()
    again = machine(tmp_path, "there", f"file://{tmp_path}/far").create("organs", 1, earlier=[0])
    assert list(again.iterdir()) == []
