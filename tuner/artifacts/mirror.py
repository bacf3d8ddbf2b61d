"""Files of trials at an address: trained in a working folder of this machine, published as they come about.

What is published of a trial can always be continued: its files go in the order in which the training writes them, each
whole or not at all, and before the epoch that they belong to is reported. Whoever reads, reads what was published.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from tuner.artifacts.local import CARRIED_ON, CHECKPOINT, FILE_NAME, ArtifactFile, Artifacts
from tuner.artifacts.remote import Remote, RemoteFile, shown
from tuner.errors import NotFoundError, RunError, UnreachableError
from tuner.settings import Settings

logger = logging.getLogger(__name__)

FIRST = ("metrics.jsonl", "cases.jsonl", CHECKPOINT)
"""A checkpoint without its epochs would start over; best weights that are missing are in the checkpoint as well."""
READ_PATIENCE_S = 5.0
"""Seconds that reading is tried again."""

_Stamp = tuple[int, int, int]


def artifacts_of(settings: Settings, *, patience_s: float | None = None) -> Artifacts:
    """Return the files of trials where the settings say that they are.

    Args:
        settings: Places.
        patience_s: How long a transfer to an address is tried again; None: as long as a reader waits.

    Raises:
        SpecError: The address cannot be opened here.
    """
    if settings.artifacts_url is None:
        return Artifacts(settings.artifacts)
    remote = Remote(settings.artifacts_url, patience_s=READ_PATIENCE_S if patience_s is None else patience_s)
    return MirroredArtifacts(settings.artifacts, remote)


def check_address(settings: Settings) -> None:
    """Raise SpecError unless files can be written, replaced and read at the address, where there is one."""
    if settings.artifacts_url is not None:
        Remote(settings.artifacts_url, patience_s=READ_PATIENCE_S).check()


class MirroredArtifacts(Artifacts):
    """Working folders below `root`, published at an address.

    A working folder belongs to the one worker that trains in it. Copies for readers lie beside, in `<root>.read`.
    """

    def __init__(self, root: Path, remote: Remote) -> None:
        super().__init__(root)
        self.remote = remote
        self.copies = self.root.with_name(f"{self.root.name}.read")
        self._published: dict[tuple[str, int], dict[str, _Stamp]] = {}
        self._earlier: dict[tuple[str, int], list[int]] = {}
        self._guests: list[Path] = []

    @property
    def place(self) -> str:
        """The address."""
        return shown(self.remote.url)

    def create(self, study: str, number: int, *, earlier: Iterable[int] = ()) -> Path:
        """Return the working folder of a trial; see `Artifacts.create`. Raises UnreachableError besides."""
        folder = self.path(study, number)
        if folder.is_dir() and not folder.is_symlink():  # of a study that had this name before: numbers are given once
            shutil.rmtree(folder)
        self._published.pop((study, number), None)
        before = self._earlier[study, number] = list(earlier)
        try:
            return super().create(study, number, earlier=before)
        finally:
            while self._guests:
                shutil.rmtree(self._guests.pop(), ignore_errors=True)

    def publish(self, study: str, number: int, tick: Callable[[], bool] = lambda: False) -> None:
        """Send the files that have changed. Raises UnreachableError, DiskFullError."""
        folder, done = self.path(study, number), self._published.setdefault((study, number), {})
        for path in _in_order(folder):
            stamp = _stamp(path)
            if stamp is None or done.get(path.name) == stamp:
                continue
            try:
                self.remote.put(path, f"{study}/{number}/{path.name}", tick)
            except FileNotFoundError:
                continue  # it was there for a moment only
            done[path.name] = stamp
        if (folder / CHECKPOINT).is_file():
            for attempt in self._earlier.pop((study, number), ()):  # nothing continues from theirs any more
                self._remove(f"{study}/{attempt}/{CHECKPOINT}")

    def check(self) -> None:
        """Raise SpecError unless files can be written, replaced and read at the address now."""
        self.remote.check(patience_s=0.0)

    def release(self, study: str, number: int) -> None:
        """Remove the working folder, if all that is in it was published."""
        done, folder = self._published.pop((study, number), {}), self.path(study, number)
        self._earlier.pop((study, number), None)
        if done and all(done.get(path.name) == _stamp(path) for path in _in_order(folder)):
            shutil.rmtree(folder, ignore_errors=True)

    def open(self, study: str, number: int, name: str) -> BinaryIO:
        """Open a published file; see `Artifacts.open`. Raises UnreachableError besides."""
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
        if self.remote.near is not None:
            return Artifacts(self.remote.near).listing(study, number)
        return [ArtifactFile(file.name, file.size) for file in self._published_files(study, number)]

    def fetched(self, study: str, number: int, names: Sequence[str] | None = None) -> Path:
        """Return a folder with copies of the published files: of all, or of those that are named."""
        folder = self.copies / self.path(study, number).relative_to(self.root)
        for file in self._published_files(study, number):
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


def _in_order(folder: Path) -> list[Path]:
    """Return the files to publish, those first without which the later ones are of no use."""
    found = {path.name: path for path in folder.iterdir() if FILE_NAME.fullmatch(path.name)} if folder.is_dir() else {}
    names = [name for name in FIRST if name in found]
    names += sorted(found.keys() - set(FIRST))
    return [found[name] for name in names if found[name].is_file() and not found[name].is_symlink()]


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
