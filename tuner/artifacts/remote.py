"""Remote artifacts: an fsspec client with retries, and trial files published from a working folder of this machine.

A file appears under its name when all of it is there: object stores do that by themselves, elsewhere it is written
under a temporary name and moved. What fails for a moment is tried again with growing pauses.

What is published of a trial can always be continued: its files go in the order in which the training writes them,
each whole or not at all, and before the epoch that they belong to is reported. Whoever reads, reads what was
published.
"""

import errno
import importlib.util
import logging
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeVar, cast

from tuner.artifacts.local import (
    CARRIED_ON,
    CHECKPOINT,
    FILE_NAME,
    MARK,
    ArtifactFile,
    Artifacts,
    Owner,
    name_aside,
    read_mark,
    write_mark,
)
from tuner.errors import DiskFullError, NotFoundError, RunError, SpecError, UnreachableError
from tuner.settings import Settings

logger = logging.getLogger(__name__)

RETRY_TIMEOUT_S = 120.0
"""Seconds that one transfer is tried again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Protocols of stores in which a file appears when all of it was sent: moving there would mean to copy once more."""
NEEDS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""What is to be installed for the usual protocols, where fsspec's own word for it would be the module's name."""

Answer = TypeVar("Answer")
Tick = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its store lists it."""

    name: str
    size: int
    token: str
    """Another one when the content is another one."""
    modified: float | None
    """Seconds since 1970; None where the store does not say."""


def _never() -> bool:
    return False


class FsspecClient:
    """One folder at an address. `path` is always relative to it, made of checked names and `/`.

    Args:
        url: Its address.
        retry_timeout_s: How long what fails is tried again.
        filesystem: One that is open already.
    """

    def __init__(self, url: str, *, retry_timeout_s: float = RETRY_TIMEOUT_S, filesystem: Any = None) -> None:
        check_protocol(url)
        self.url = url
        self.retry_timeout_s = retry_timeout_s
        self.protocol = url.partition("://")[0]
        import fsspec

        # What another machine has just written must be seen.
        self._files, self.root = fsspec.url_to_fs(url, use_listings_cache=False)
        if filesystem is not None:
            self._files = filesystem

    @property
    def near(self) -> Path | None:
        """The folder of this machine that it is, if it is one."""
        return Path(self.root) if self.protocol in ("file", "local") else None

    def put(self, source: Path, path: str, tick: Tick = _never) -> None:
        """Publish a file in one step.

        `tick` is called as bytes move, and between two tries: True ends the trying.

        Raises:
            UnreachableError: It could not be done.
            DiskFullError: There is no space.
        """
        whole = self.protocol in WHOLE
        target = self._at(path)
        folder, _, name = target.rpartition("/")

        def send() -> None:
            part = target if whole else f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.part"
            try:
                if not whole:
                    self._files.makedirs(folder, exist_ok=True)
                self._files.put_file(str(source), part, callback=_ticking(tick))
                if not whole:
                    self._files.mv(part, target)
            except BaseException:
                if not whole:
                    self._forget(part)
                raise

        try:
            self._patiently(send, path, tick)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not source.exists():
                raise
            raise self._unreachable(error, path) from error  # a bucket that is not there, say

    def get(self, path: str, target: Path, tick: Tick = _never) -> bool:
        """Fetch a file in one step; False when there is none. Raises as `put` does."""
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        if self.near is not None and (self.near / path).resolve() != self.near.resolve() / path:
            return False  # a link, which may lead anywhere

        def fetch() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(self._at(path), str(part), callback=_ticking(tick))
            part.replace(target)

        try:
            self._patiently(fetch, path, tick)
        except FileNotFoundError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def open(self, path: str) -> BinaryIO:
        """Open a file to read it, from any place. Raises FileNotFoundError, UnreachableError."""
        return cast(BinaryIO, self._patiently(lambda: self._files.open(self._at(path), "rb"), path))

    def files(self, folder: str) -> list[RemoteFile]:
        """Return the files of a folder by name, half-written ones (`.….part`) included; nothing when it is not there.

        Raises UnreachableError.
        """
        found = [_describe(entry) for entry in self._entries(folder) if entry["type"] == "file"]
        return sorted(found, key=lambda file: file.name)

    def tree(self, folder: str) -> dict[str, RemoteFile]:
        """Return every file below a folder by its path from there; nothing when it is not there.

        Raises UnreachableError.
        """
        where = self._at(folder).rstrip("/")
        try:
            found = self._patiently(lambda: self._files.find(where, detail=True), folder)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {path[len(where) + 1 :]: _describe(entry) for path, entry in found.items() if path != where}

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders in a folder. Raises UnreachableError."""
        return sorted(_name(entry) for entry in self._entries(folder) if entry["type"] == "directory")

    def move(self, source: str, target: str) -> None:
        """Move a folder with all that is in it. Raises UnreachableError."""
        self._patiently(lambda: self._files.mv(self._at(source), self._at(target), recursive=True), source)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there needs no removing."""
        target = self._at(path)
        try:
            self._patiently(lambda: self._files.rm(target, recursive=True), path)
        except FileNotFoundError:
            return

    def check(self, *, retry_timeout_s: float | None = None) -> None:
        """Write, replace, read and remove a small file. Raises SpecError that says what does not work."""
        if retry_timeout_s is not None:
            FsspecClient(self.url, retry_timeout_s=retry_timeout_s, filesystem=self._files).check()
            return
        marker = f".seen-{uuid.uuid4().hex[:12]}"
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            sent, back = Path(folder) / "sent", Path(folder) / "back"
            try:
                for text in ("first", "second"):
                    sent.write_text(text, encoding="ascii")
                    self.put(sent, marker)
                if not self.get(marker, back) or back.read_text(encoding="ascii") != "second":
                    raise UnreachableError("what was written there is not what can be read there.")
                self.remove(marker)
            except (UnreachableError, DiskFullError) as error:
                raise SpecError(
                    [error.message],
                    where=redact_address(self.url),
                    hint="Files of trials must be writable, replaceable and readable there; see --artifacts.",
                ) from error

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        where = self._at(folder) if folder else self.root
        try:
            found = self._patiently(lambda: self._files.ls(where, detail=True), folder or "the folder")
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry for entry in found if _name(entry) and entry["name"].rstrip("/") != where.rstrip("/")]

    def _at(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}"

    def _forget(self, part: str) -> None:
        try:
            self._files.rm(part)
        except Exception as error:  # it is gone, or the store is: `tuner gc` finds it
            logger.debug("%s: %s", part, error)

    def _patiently(self, call: Callable[[], Answer], path: str, tick: Tick = _never) -> Answer:
        until, pause = time.monotonic() + self.retry_timeout_s, FIRST_PAUSE_S
        while True:
            try:
                return call()
            except (FileNotFoundError, NotADirectoryError):
                raise
            except Exception as error:  # every store has errors of its own
                problem = error
            self._give_up_at_once(problem, path)
            if tick() or time.monotonic() + pause > until:
                raise self._unreachable(problem, path) from problem
            logger.warning("%s at %s: %s; trying again", path, redact_address(self.url), _words(problem))
            time.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _give_up_at_once(self, error: Exception, path: str) -> None:
        """Raise what waiting does not mend."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left for {path} ({error.strerror}).", where=redact_address(self.url)
            ) from error
        if isinstance(error, (PermissionError, NotImplementedError, ImportError, TypeError)):
            raise self._unreachable(error, path) from error

    def _unreachable(self, error: Exception, path: str) -> UnreachableError:
        return UnreachableError(
            f"{path} could not be written or read: {_words(error)}.",
            hint="See that the address, the rights and the network are in order; trials wait until they are.",
            where=redact_address(self.url),
        )


def check_protocol(url: str) -> None:
    """Raise SpecError for an address that fsspec cannot open here, with the line to type when a package is missing."""
    from fsspec.registry import known_implementations, registry

    protocol = url.partition("://")[0]
    if "::" in url:
        raise SpecError(["chained addresses (`::`) are not supported"], where=redact_address(url))
    if protocol in registry:
        return
    if protocol not in known_implementations:
        raise SpecError(
            [f"{protocol}:// is not an address that fsspec knows"],
            where=redact_address(url),
            hint="Write a folder, or s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH.",
        )
    module = str(known_implementations[protocol]["class"]).rpartition(".")[0]
    package = NEEDS.get(protocol, module.partition(".")[0])
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise SpecError(
            [f"{protocol}:// needs the package {package}, which is not installed"],
            where=redact_address(url),
            hint=f"Type: pip install {package}",
        )


def redact_address(url: str) -> str:
    """Return an address without a password."""
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1:***@", url)


def _describe(entry: dict[str, Any]) -> RemoteFile:
    marks = [entry.get(key) for key in ("ETag", "etag", "md5Hash", "content_settings", "ino")]
    stamps = ("LastModified", "last_modified", "mtime", "updated", "created")
    stamp = next((entry[key] for key in stamps if key in entry), None)
    seconds = stamp.timestamp() if isinstance(stamp, datetime) else stamp
    modified = float(seconds) if isinstance(seconds, (int, float)) else None
    token = "|".join(str(mark) for mark in (entry.get("size"), stamp, *marks))
    return RemoteFile(_name(entry), int(entry.get("size") or 0), token, modified)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _words(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _ticking(tick: Tick) -> Any:
    from fsspec.callbacks import Callback

    return Callback(hooks={"tick": lambda size, value, **_: tick() and None})


FIRST = ("metrics.jsonl", "cases.jsonl", CHECKPOINT)
"""A checkpoint without its epochs would start over; best weights that are missing are in the checkpoint as well."""
READ_TIMEOUT_S = 5.0
"""Seconds that reading is tried again."""

_Stamp = tuple[int, int, int]


def artifacts_of(
    settings: Settings, *, owner: Owner = lambda study: None, retry_timeout_s: float | None = None
) -> Artifacts:
    """Return the files of trials where the settings say that they are.

    Args:
        settings: Places.
        owner: Knows the studies (`Store.folder_mark`): files that an earlier one of the same name has left are not
            shown as its own.
        retry_timeout_s: How long a transfer to an address is tried again; None: as long as a reader waits.

    Raises:
        SpecError: The address cannot be opened here.
    """
    if settings.artifacts_url is None:
        return Artifacts(settings.artifacts, owner)
    remote = FsspecClient(
        settings.artifacts_url, retry_timeout_s=READ_TIMEOUT_S if retry_timeout_s is None else retry_timeout_s
    )
    return RemoteArtifacts(settings.artifacts, remote, owner)


def check_address(settings: Settings) -> None:
    """Raise SpecError unless files can be written, replaced and read at the address, where there is one."""
    if settings.artifacts_url is not None:
        FsspecClient(settings.artifacts_url, retry_timeout_s=READ_TIMEOUT_S).check()


class RemoteArtifacts(Artifacts):
    """Working folders below `root`, published at an address.

    A working folder belongs to the one worker that trains in it. Copies for readers lie beside, in `<root>.read`.
    """

    def __init__(self, root: Path, remote: FsspecClient, owner: Owner = lambda study: None) -> None:
        super().__init__(root, owner)
        self.remote = remote
        self._own: set[tuple[str, str]] = set()
        self.copies = self.root.with_name(f"{self.root.name}.read")
        self._published: dict[tuple[str, int], dict[str, _Stamp]] = {}
        self._earlier: dict[tuple[str, int], list[int]] = {}
        self._guests: list[Path] = []

    @property
    def place(self) -> str:
        """The address."""
        return redact_address(self.remote.url)

    def create(self, study: str, number: int, *, earlier: Iterable[int] = (), whole: bool = False) -> Path:
        """Return the working folder of a trial; see `Artifacts.create`. Raises UnreachableError besides."""
        self.take(study)
        folder = self.path(study, number)
        if folder.is_dir() and not folder.is_symlink():  # of a study that had this name before: numbers are given once
            shutil.rmtree(folder)
        self._published.pop((study, number), None)
        before = self._earlier[study, number] = list(earlier)
        try:
            return super().create(study, number, earlier=before, whole=whole)
        finally:
            while self._guests:
                shutil.rmtree(self._guests.pop(), ignore_errors=True)

    def take(self, study: str, *, logs: bool = False) -> str | None:
        """Make the folders of a study its own, here and there; see `Artifacts.take`."""
        super().take(study, logs=logs)
        identity = self._owner(study)
        if identity is None or self._published_mark(study) == identity:
            return None
        aside = None
        if self.remote.tree(study):
            aside = name_aside(study)
            self.remote.move(study, aside)
            logger.warning("files of an earlier study %s lie in %s/%s now", study, self.place, aside)
        self.remote.put(self.root / study / MARK, f"{study}/{MARK}")
        shutil.rmtree(self.copies / study, ignore_errors=True)
        return None if aside is None else f"{self.place}/{aside}"

    def has_folder(self, study: str) -> bool:
        """Tell whether anything is published of a study of that name. Raises UnreachableError."""
        self.path(study, 0)
        return bool(self.remote.tree(study))

    def is_owned(self, study: str) -> bool:
        """Tell whether what is published of a study is its own. Raises UnreachableError."""
        identity = self._owner(study)
        if identity is None or (study, identity) in self._own:
            return True
        mark = self._published_mark(study)
        if mark == identity:
            self._own.add((study, identity))
        return mark in (None, identity)

    def mark_of(self, study: str) -> str | None:
        """Return the identity that what is published of a study belongs to; see `Artifacts.mark_of`."""
        return self._published_mark(study)

    def sign(self, study: str, identity: str) -> None:
        """Mark what is published of a study that is deleted; see `Artifacts.sign`. Raises UnreachableError."""
        super().sign(study, identity)
        if self._published_mark(study) is None and self.remote.tree(study):
            with TemporaryDirectory() as folder:
                write_mark(Path(folder), identity)
                self.remote.put(Path(folder) / MARK, f"{study}/{MARK}")

    def rename(self, study: str, new: str) -> None:
        """Move what is published of a study to its new name; see `Artifacts.rename`. Raises UnreachableError."""
        super().rename(study, new)
        self.path(new, 0)
        if self.remote.tree(study):
            if self.remote.tree(new):
                self.remote.move(new, name_aside(new))
            self.remote.move(study, new)
        self._own.clear()
        for name in (study, new):
            shutil.rmtree(self.copies / name, ignore_errors=True)

    def _published_mark(self, study: str) -> str | None:
        self.path(study, 0)
        try:
            with self.remote.open(f"{study}/{MARK}") as handle:
                return read_mark(handle.read())
        except OSError:
            return None

    def publish(self, study: str, number: int, tick: Callable[[], bool] = lambda: False) -> None:
        """Send the files that have changed. Raises UnreachableError, DiskFullError."""
        folder, done = self.path(study, number), self._published.setdefault((study, number), {})
        for name in _in_order(folder):
            stamp = _stamp(folder / name)
            if stamp is None or done.get(name) == stamp:
                continue
            try:
                self.remote.put(folder / name, f"{study}/{number}/{name}", tick)
            except FileNotFoundError:
                continue  # it was there for a moment only
            done[name] = stamp
        if (folder / CHECKPOINT).is_file():
            for attempt in self._earlier.pop((study, number), ()):  # nothing continues from theirs any more
                self._remove(f"{study}/{attempt}/{CHECKPOINT}")

    def check(self) -> None:
        """Raise SpecError unless files can be written, replaced and read at the address now."""
        self.remote.check(retry_timeout_s=0.0)

    def release(self, study: str, number: int) -> None:
        """Remove the working folder, if all that is in it was published."""
        done, folder = self._published.pop((study, number), {}), self.path(study, number)
        self._earlier.pop((study, number), None)
        if done and all(done.get(name) == _stamp(folder / name) for name in _in_order(folder)):
            shutil.rmtree(folder, ignore_errors=True)

    def open(self, study: str, number: int, name: str) -> BinaryIO:
        """Open a published file; see `Artifacts.open`. Raises UnreachableError besides."""
        if not self.is_owned(study):
            raise NotFoundError(f"trial {number} of {study!r} has no file {name!r}.")
        if self.remote.near is not None:
            return Artifacts(self.remote.near).open(study, number, name)
        if not FILE_NAME.fullmatch(name):
            raise NotFoundError(f"{name!r} is not the name of an artifact.", hint="Artifacts lie in no sub-folder.")
        self.path(study, number)
        try:
            return self.remote.open(f"{study}/{number}/{name}")
        except OSError as error:
            raise NotFoundError(f"trial {number} of {study!r} has no file {name!r}.") from error

    def listing(self, study: str, number: int) -> list[ArtifactFile]:
        """Return what is published of a trial, by name; nothing when nothing is."""
        self.path(study, number)
        if not self.is_owned(study):
            return []
        if self.remote.near is not None:
            return Artifacts(self.remote.near).listing(study, number)
        return [ArtifactFile(file.name, file.size) for file in self._published_files(study, number)]

    def fetched(self, study: str, number: int, names: Sequence[str] | None = None) -> Path:
        """Return a folder with copies of the published files: of all, or of those that are named."""
        folder = self.copies / self.path(study, number).relative_to(self.root)
        for file in self._published_files(study, number) if self.is_owned(study) else ():
            if names is None or file.name in names:
                self._fetch(file, f"{study}/{number}", folder)
        return folder

    def keep(self, study: str, number: int, name: str) -> None:
        """Publish a file that was written into the folder of copies. Raises UnreachableError, DiskFullError."""
        source = self.copies / self.path(study, number).relative_to(self.root) / name
        self.remote.put(source, f"{study}/{number}/{name}")

    def delete(self, study: str, number: int | None = None) -> None:
        """Remove the files of a trial, or of a whole study, here and there. Raises UnreachableError."""
        folder = self.path(study, 0).parent if number is None else self.path(study, number)
        inside = folder.relative_to(self.root)
        self.remote.remove(inside.as_posix())
        super().delete(study, number)
        shutil.rmtree(self.copies / inside, ignore_errors=True)

    def drop_checkpoint(self, study: str, number: int) -> int:
        """Remove the checkpoint of a trial that has ended for good; one that cannot be removed now is left to gc."""
        freed = super().drop_checkpoint(study, number)
        self._published.get((study, number), {}).pop(CHECKPOINT, None)
        self._remove(f"{study}/{number}/{CHECKPOINT}")
        return freed

    def _bring(self, study: str, attempt: int) -> None:
        folder, there = self.path(study, attempt), f"{study}/{attempt}"
        if (folder / CHECKPOINT).is_file():  # it was trained here, and what is here is newer than what was published
            return
        if not folder.exists():
            self._guests.append(folder)
        taken = folder / f".{CHECKPOINT}.fetched"
        if not self.remote.get(f"{there}/{CHECKPOINT}", taken):
            return
        try:
            for name in CARRIED_ON:  # after the checkpoint, which alone may be older: see `Artifacts`
                self.remote.get(f"{there}/{name}", folder / name)
            taken.replace(folder / CHECKPOINT)
        except OSError as error:
            raise RunError(f"an earlier attempt cannot be fetched: {error.strerror}.", where=str(folder)) from error
        finally:
            taken.unlink(missing_ok=True)

    def _bring_whole(self, study: str, attempt: int) -> None:
        folder = self.path(study, attempt)
        if folder.is_dir() and any(folder.iterdir()):  # it was trained here, and may be newer than what was published
            return
        if not folder.exists():
            self._guests.append(folder)
        for path in self.remote.tree(f"{study}/{attempt}"):
            if all(FILE_NAME.fullmatch(part) for part in path.split("/")):
                self.remote.get(f"{study}/{attempt}/{path}", folder / path)

    def _fetch(self, file: RemoteFile, there: str, folder: Path) -> None:
        mark = folder / f".{file.name}.token"
        known = mark.read_text(encoding="utf-8") if mark.is_file() and (folder / file.name).is_file() else None
        if known != file.token and self.remote.get(f"{there}/{file.name}", folder / file.name):
            mark.write_text(file.token, encoding="utf-8")

    def _published_files(self, study: str, number: int) -> list[RemoteFile]:
        return [file for file in self.remote.files(f"{study}/{number}") if FILE_NAME.fullmatch(file.name)]

    def _remove(self, path: str) -> None:
        try:
            self.remote.remove(path)
        except (UnreachableError, OSError) as error:
            logger.warning("%s is left where it is: %s", path, error)


def _in_order(folder: Path) -> list[str]:
    """Return the files to publish by their paths from the folder, first those without which later ones are of no use.

    Programs of the user's own write into sub-folders as well; links are not followed, nor hidden files published.
    """
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if FILE_NAME.fullmatch(name)]
        paths = [Path(place) / name for name in files if FILE_NAME.fullmatch(name)]
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file() and not path.is_symlink()]
    first = [name for name in FIRST if name in found]
    return first + sorted(set(found) - set(FIRST), key=lambda name: (name.count("/"), name))


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
