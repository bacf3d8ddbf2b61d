"""Garbage collection of artifacts, local and remote: `tuner gc`. Found first, removed then.

Kept is what resuming and exporting need: every file of a place of the budget that waits or runs, in the folders of
all its attempts; of the others everything but the checkpoint, from which nothing continues.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.artifacts.local import CHECKPOINT, STUDY_NAME
from tuner.artifacts.remote import FsspecClient, RemoteFile, redact_address
from tuner.settings import Settings
from tuner.storage.storage import Storage

PART_AGE_S = 86_400.0
"""Half-written files and half-built caches younger than that may have a writer."""
CACHED_FINGERPRINT = 16
"""Characters of a fingerprint that the name of a prepared data set ends with."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that may go."""

    kind: str
    """`checkpoint`, `half-written`, `attempt`, `study`, `prepared data`; with an address also `working folder`."""
    path: Path | str
    size: int
    """Bytes on the disk."""
    remote: FsspecClient | None = None
    """Where `path` lies, when it is not on this machine."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.path) if self.remote is None else f"{redact_address(self.remote.url)}/{self.path}"


def find_garbage(
    store: Storage, settings: Settings, names: Iterable[str], *, cache: bool, studies: bool
) -> list[Garbage]:
    """Return what may go.

    Args:
        store: The storage.
        settings: Where files and prepared data are.
        names: Studies to look at.
        cache: Also prepared data that no study of the storage uses, nor can come to use.
        studies: Also the folders of studies that the storage does not know; with several storages over one folder of
            artifacts these may be another one's.
    """
    # Folders are listed before the database is asked: what is made in between is never taken for left over.
    folders = {name: _numbered(settings.artifacts / name) for name in names}
    strangers = _study_folders(settings.artifacts) if studies else []
    prepared = _prepare(settings.cache) if cache else []
    found: list[Garbage] = []
    for name, numbered in folders.items():
        attempts = Attempts.of(store, name)
        found += _of_study(numbered, attempts)
        if settings.artifacts_url is not None:  # whoever reads, reads what was published
            found += _working_folders(settings, name, numbered, attempts)
    if studies or cache:
        known = [document for document in store.queries.studies() if not document["foreign"]]
        if studies:
            found += [
                Garbage("study", folder, _size(folder))
                for folder in strangers
                if folder.name not in {document["name"] for document in known}
            ]
        if cache:
            found += _unused(prepared, store, known)
    return found


def remove(waste: Garbage) -> int:
    """Remove it and return the freed bytes; what is gone already, or used after all, frees none."""
    if waste.remote is not None:
        waste.remote.remove(str(waste.path))
        return waste.size
    path = Path(waste.path)
    try:
        if waste.kind == "prepared data":
            return waste.size if _remove_prepared(path) else 0
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return 0
    return waste.size


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts that a study has made."""

    known: Set[int]
    over: Set[int]
    """Those at places of the budget that have ended for good."""

    @classmethod
    def of(cls, store: Storage, name: str) -> "Attempts":
        """Ask the storage."""
        newest, every = store.queries.trials(name), store.queries.trials(name, all_attempts=True)
        before = {row["number"]: row["retry_of"] for row in every}
        over: set[int] = set()
        for row in newest:
            number = row["number"] if row["state"] in ("COMPLETE", "PRUNED", "FAIL") else None
            while number is not None:
                over.add(number)
                number = before.get(number)
        return cls(before.keys(), over)


def _of_study(numbered: Mapping[int, Path], attempts: Attempts) -> Iterator[Garbage]:
    """Yield what may go of a study."""
    for number, folder in sorted(numbered.items()):
        if number not in attempts.known:
            yield Garbage("attempt", folder, _size(folder))
        elif number in attempts.over:
            yield from _checkpoints(folder)


def _working_folders(
    settings: Settings, name: str, numbered: Mapping[int, Path], attempts: Attempts
) -> Iterator[Garbage]:
    """Yield what this machine need not hold of a study whose files are kept at an address."""
    copies = settings.artifacts.with_name(f"{settings.artifacts.name}.read") / name
    folders = [folder for number, folder in sorted(numbered.items()) if number in attempts.over]
    for folder in [*folders, copies]:
        if folder.is_dir():
            yield Garbage("working folder", folder, _size(folder))


def _checkpoints(folder: Path) -> Iterator[Garbage]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            continue
        if path.name == CHECKPOINT:
            yield Garbage("checkpoint", path, path.stat().st_size)
        elif path.name.endswith(".part") and _age(path) > PART_AGE_S:
            yield Garbage("half-written", path, path.stat().st_size)


def _unused(prepared: list[Path], store: Storage, known: list[dict[str, Any]]) -> Iterator[Garbage]:
    """Yield prepared data that no study names; of a data set that an unfinished study works on, everything stays."""
    fingerprints, busy = set(), set()
    for document in known:
        fingerprint = store.studies.get(document["name"]).resources.get("fingerprint")
        fingerprints.add(str(fingerprint)[:CACHED_FINGERPRINT])
        confirmation = document["confirmation"]
        if document["phase"] != "done" or (confirmation is not None and confirmation["phase"] != "done"):
            busy.add(document["dataset"])
    for folder in prepared:
        if folder.name.startswith("."):
            if _age(folder) > PART_AGE_S:
                yield Garbage("prepared data", folder, _size(folder))
            continue
        dataset, _, fingerprint = folder.name.rpartition("-")
        if fingerprint not in fingerprints and dataset not in busy:
            yield Garbage("prepared data", folder, _size(folder))


def _remove_prepared(folder: Path) -> bool:
    """Remove prepared data unless somebody builds it; who has it mapped keeps it until he ends."""
    if folder.name.startswith("."):
        shutil.rmtree(folder)
        return True
    lock = folder.parent / f".{folder.name}.lock"
    with lock.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        gone = folder.with_name(f".{folder.name}.building-gone")  # a name that the cache itself cleans up
        folder.rename(gone)
        shutil.rmtree(gone)
    return True


def _numbered(folder: Path) -> dict[int, Path]:
    """Return the folders of attempts by number."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    return {
        int(path.name): path
        for path in folder.iterdir()
        if path.name.isdecimal() and str(int(path.name)) == path.name and path.is_dir() and not path.is_symlink()
    }


def _study_folders(root: Path) -> list[Path]:
    """Return the folders that look as if a study had left them."""
    if not root.is_dir():
        return []
    return [
        folder
        for folder in sorted(root.iterdir())
        if STUDY_NAME.fullmatch(folder.name)
        and not folder.is_symlink()
        and any((attempt / "config.yaml").is_file() for attempt in _numbered(folder).values())
    ]


def _prepare(cache: Path) -> list[Path]:
    """Return the folders of prepared data, those that were never finished included."""
    if not cache.is_dir():
        return []
    folders = [path for path in sorted(cache.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [
        path
        for path in folders
        if (path / "manifest.json").is_file() or (path.name[0] == "." and ".building-" in path.name)
    ]


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_size
            except FileNotFoundError:
                continue
    return total


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


Tree = Mapping[str, RemoteFile]


def find_remote_garbage(store: Storage, settings: Settings, names: Iterable[str], *, studies: bool) -> list[Garbage]:
    """Return what may go there, nothing when the artifacts lie in a folder; arguments as of `find_waste`.

    Raises UnreachableError.
    """
    if settings.artifacts_url is None:
        return []
    remote = FsspecClient(settings.artifacts_url)
    trees = {name: remote.tree(name) for name in names}  # before the database is asked: see `find_waste`
    strangers = [name for name in remote.folders() if STUDY_NAME.fullmatch(name)] if studies else []
    found: list[Garbage] = []
    for name, tree in trees.items():
        found += _of_remote_study(remote, name, tree, Attempts.of(store, name))
    known = {document["name"] for document in store.queries.studies()} if strangers else set()
    for name in strangers:
        tree = {} if name in known else remote.tree(name)
        if any(_number(path) is not None and path.endswith("/config.yaml") for path in tree):
            found.append(Garbage("study", name, sum(file.size for file in tree.values()), remote))
    return found


def _of_remote_study(remote: FsspecClient, name: str, tree: Tree, attempts: Attempts) -> Iterator[Garbage]:
    unknown: dict[int, int] = {}
    for path, file in sorted(tree.items()):
        number = _number(path)
        if number is None:
            continue
        if number not in attempts.known:
            unknown[number] = unknown.get(number, 0) + file.size
        elif number in attempts.over and file.name == CHECKPOINT:
            yield Garbage("checkpoint", f"{name}/{path}", file.size, remote)
        elif file.name.startswith(".") and file.name.endswith(".part") and _is_old(file):
            yield Garbage("half-written", f"{name}/{path}", file.size, remote)
    for number, size in unknown.items():
        yield Garbage("attempt", f"{name}/{number}", size, remote)


def _number(path: str) -> int | None:
    """Return the number of the trial that a path `<trial>/<file>` belongs to."""
    folder, _, name = path.partition("/")
    return int(folder) if name and folder.isdecimal() and str(int(folder)) == folder else None


def _is_old(file: RemoteFile) -> bool:
    return file.modified is not None and time.time() - file.modified > PART_AGE_S
