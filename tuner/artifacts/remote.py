"""Files at an address that fsspec understands (`s3://`, `gs://`, `file://`, …): put there whole, and patiently.

A file appears under its name when all of it is there: object stores do that by themselves, elsewhere it is written
under a temporary name and moved. What fails for a moment is tried again with growing pauses.
"""

import errno
import importlib.util
import logging
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from tuner.errors import DiskFullError, SpecError, UnreachableError

logger = logging.getLogger(__name__)

PATIENCE_S = 120.0
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


class Remote:
    """One folder at an address. `path` is always relative to it, made of checked names and `/`.

    Args:
        url: Its address.
        patience_s: How long what fails is tried again.
        filesystem: One that is open already.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, filesystem: Any = None) -> None:
        check_protocol(url)
        self.url = url
        self.patience_s = patience_s
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
        found = [_described(entry) for entry in self._entries(folder) if entry["type"] == "file"]
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
        return {path[len(where) + 1 :]: _described(entry) for path, entry in found.items() if path != where}

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders in a folder. Raises UnreachableError."""
        return sorted(_name(entry) for entry in self._entries(folder) if entry["type"] == "directory")

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there needs no removing."""
        target = self._at(path)
        try:
            self._patiently(lambda: self._files.rm(target, recursive=True), path)
        except FileNotFoundError:
            return

    def check(self, *, patience_s: float | None = None) -> None:
        """Write, replace, read and remove a small file. Raises SpecError that says what does not work."""
        if patience_s is not None:
            Remote(self.url, patience_s=patience_s, filesystem=self._files).check()
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
                    where=shown(self.url),
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
        until, pause = time.monotonic() + self.patience_s, FIRST_PAUSE_S
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
            logger.warning("%s at %s: %s; trying again", path, shown(self.url), _words(problem))
            time.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _give_up_at_once(self, error: Exception, path: str) -> None:
        """Raise what waiting does not mend."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no space left for {path} ({error.strerror}).", where=shown(self.url)) from error
        if isinstance(error, (PermissionError, NotImplementedError, ImportError, TypeError)):
            raise self._unreachable(error, path) from error

    def _unreachable(self, error: Exception, path: str) -> UnreachableError:
        return UnreachableError(
            f"{path} could not be written or read: {_words(error)}.",
            hint="See that the address, the rights and the network are in order; trials wait until they are.",
            where=shown(self.url),
        )


def check_protocol(url: str) -> None:
    """Raise SpecError for an address that fsspec cannot open here, with the line to type when a package is missing."""
    from fsspec.registry import known_implementations, registry

    protocol = url.partition("://")[0]
    if "::" in url:
        raise SpecError(["chained addresses (`::`) are not supported"], where=shown(url))
    if protocol in registry:
        return
    if protocol not in known_implementations:
        raise SpecError(
            [f"{protocol}:// is not an address that fsspec knows"],
            where=shown(url),
            hint="Write a folder, or s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH.",
        )
    module = str(known_implementations[protocol]["class"]).rpartition(".")[0]
    package = NEEDS.get(protocol, module.partition(".")[0])
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise SpecError(
            [f"{protocol}:// needs the package {package}, which is not installed"],
            where=shown(url),
            hint=f"Type: pip install {package}",
        )


def shown(url: str) -> str:
    """Return an address without a password."""
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1:***@", url)


def _described(entry: dict[str, Any]) -> RemoteFile:
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
