"""Files of trials, `<root>/<study>/<trial>/`, and no way out of that root.

The folder of a study carries its identity (`study.json`): one that was deleted leaves its files, and the next one of
the same name neither shows nor continues them.
"""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tuner.errors import DiskFullError, NotFoundError, RunError

logger = logging.getLogger(__name__)

STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
CONFIRMATION = "confirmation"
"""Folder below a study's artifacts that holds those of its confirmation: the study called `NAME/confirmation`; those
that have replaced it are called `NAME/confirmation-2` and so on."""
_CONFIRMATION_NAME = re.compile(rf"{CONFIRMATION}(-[1-9][0-9]{{0,5}})?")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

CARRIED_ON = (
    "metrics.jsonl",
    "cases.jsonl",
    "best.safetensors",
)
"""What a retry begins with, beside the checkpoint."""

OF_ATTEMPT = ("log.txt", "environment.json", "config.yaml")
"""What belongs to one attempt only."""
CHECKPOINT = "last.ckpt"
MARK = "study.json"
"""File in the folder of a study that says which study of the name it belongs to: `{"identity": …}`."""
WORKER_LOGS = "workers"
"""Folder below a study's artifacts that holds a log for each worker slot."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of a trial."""

    name: str
    size: int


Owner = Callable[[str], str | None]
"""Returns the identity that the folder of a study must be marked with; None for one that may have any."""


def _any_owner(study: str) -> str | None:
    return None


class Artifacts:
    """The folders of all trials below one root, which need not exist yet.

    Args:
        root: The folder.
        owner: Knows the studies; without it, folders are taken for what their names say.
    """

    def __init__(self, root: Path, owner: Owner = _any_owner) -> None:
        self.root = root.absolute()
        self._owner = owner

    @property
    def place(self) -> str:
        """Where the files are, for messages."""
        return str(self.root)

    def create(self, study: str, number: int, *, earlier: Iterable[int] = (), whole: bool = False) -> Path:
        """Return the folder of a trial, created; a retry's begins with what the last attempt can continue from.

        That is the checkpoint with what belongs to it (a folder that has one already is left as it is), or with `whole`
        everything that a training of the user's own has left: it moves here. Raises DiskFullError, and RunError where
        the folder may not be written.
        """
        path = self.path(study, number)
        self.take(study)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explain(error, path) from error
        if not self._is_inside(path, study, number):
            raise RunError("the folder of a trial is a link to somewhere else.", where=str(path))
        for attempt in sorted(earlier, reverse=True):
            if whole:
                self._bring_whole(study, attempt)
                self._move_on(self.path(study, attempt), path)
                continue
            if (path / CHECKPOINT).exists():
                break
            self._bring(study, attempt)
            self._carry_on(self.path(study, attempt), path)
        return path

    def take(self, study: str, *, logs: bool = False) -> str | None:
        """Make the folder of a study its own. What an earlier study of that name has left is put beside it.

        With `logs`, those of its workers too: before the first worker of this one is started. Returns where the files
        of the earlier study lie now, None when there were none. Raises DiskFullError, RunError, UnreachableError.
        """
        identity = self._owner(study)
        if identity is None or self._mark_as(study) == identity:
            return None
        if "/" in study:  # else the folder of the study that is confirmed would pass for an earlier one's
            self.take(study.partition("/")[0])
        folder = self.path(study, 0).parent
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / ".studies.lock"):
                if self._mark_as(study) == identity:
                    return None
                aside = self._set_aside(folder, logs=logs)
                folder.mkdir(parents=True, exist_ok=True)
                write_mark(folder, identity)
        except OSError as error:
            raise _explain(error, folder) from error
        if aside is not None:
            logger.warning("files of an earlier study %s lie in %s now", study, aside)
        return aside

    def has_folder(self, study: str) -> bool:
        """Tell whether there are files of a study of that name, whichever that is."""
        folder = self.path(study, 0).parent
        return folder.is_dir() and any(folder.iterdir())

    def is_owned(self, study: str) -> bool:
        """Tell whether the folder of a study is its own, and not that of an earlier one of the same name.

        One without a mark was filled by hand.
        """
        identity = self._owner(study)
        return identity is None or self._mark_as(study) in (None, identity)

    def mark_of(self, study: str) -> str | None:
        """Return the identity that the folder of a study says it belongs to, None where it says nothing."""
        return self._mark_as(study)

    def sign(self, study: str, identity: str) -> None:
        """Mark the folder of a study that is deleted, where an older version has not: no other one takes it then."""
        folder = self.path(study, 0).parent
        if self._mark_as(study) is None and folder.is_dir() and not folder.is_symlink():
            try:
                write_mark(folder, identity)
            except OSError as error:
                raise _explain(error, folder) from error

    def rename(self, study: str, new: str) -> None:
        """Move the files of a study, and of its confirmations, to its new name; asked again it finishes what it began.

        What an earlier study of the new name has left is put beside it. Raises DiskFullError, RunError.
        """
        source, target = self.path(study, 0).parent, self.path(new, 0).parent
        if source.is_symlink() or not source.is_dir():
            return
        try:
            with _locked(self.root / ".studies.lock"):
                self._set_aside(target, logs=True)
                source.replace(target)
        except OSError as error:
            raise _explain(error, source) from error

    def continues(self, study: str, number: int) -> bool:
        """Tell whether a trial has a checkpoint to continue from."""
        return (self.path(study, number) / CHECKPOINT).is_file()

    def path(self, study: str, number: int) -> Path:
        """Return where the folder of a trial is or would be. Raises NotFoundError for names that no study has."""
        searched, slash, below = study.partition("/")
        if not STUDY_NAME.fullmatch(searched) or (slash and not _CONFIRMATION_NAME.fullmatch(below)):
            raise NotFoundError(f"{study!r} is not the name of a study.")
        if isinstance(number, bool) or number < 0:
            raise NotFoundError(f"{number!r} is not the number of a trial.")
        return self.root / study / str(number)

    def open(self, study: str, number: int, name: str) -> BinaryIO:
        """Open a file of a trial to read it.

        Raises:
            NotFoundError: It is not there, or the name would lead out of the folder (separators, `..`, links).
        """
        if not FILE_NAME.fullmatch(name):
            raise NotFoundError(f"{name!r} is not the name of an artifact.", hint="Artifacts lie in no sub-folder.")
        folder = self.path(study, number)
        missing = NotFoundError(f"trial {number} of {study!r} has no file {name!r}.")
        if not self._is_inside(folder, study, number) or not self.is_owned(study):
            raise missing
        try:
            # No link is followed, not even one that appears between a look and the opening.
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise missing from error
        if not _is_regular(handle):
            os.close(handle)
            raise missing
        return os.fdopen(handle, "rb")

    def listing(self, study: str, number: int) -> list[ArtifactFile]:
        """Return the files of a trial by name; nothing when it has no folder."""
        folder = self.path(study, number)
        if folder.is_symlink() or not folder.is_dir() or not self.is_owned(study):
            return []
        with os.scandir(folder) as entries:
            found = [
                ArtifactFile(entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if FILE_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
        return sorted(found, key=lambda file: file.name)

    def fetched(self, study: str, number: int, names: Sequence[str] | None = None) -> Path:
        """Return a folder in which the files of a trial can be read now: all, or those that are named."""
        path = self.path(study, number)
        return path if self.is_owned(study) else self.root / ".none" / study / str(number)

    def keep(self, study: str, number: int, name: str) -> None:
        """Take in what was written into the folder that `fetched` returned."""

    def publish(self, study: str, number: int, tick: Callable[[], bool] = lambda: False) -> None:
        """Make what has changed in the folder of a trial known to other machines, before anybody relies on it.

        `tick` is called meanwhile; True ends all trying again. Raises UnreachableError, DiskFullError.
        """

    def check(self) -> None:
        """Raise SpecError unless files can be published."""

    def release(self, study: str, number: int) -> None:
        """Say that this process has done with a trial, which has ended here or was returned to the queue."""

    def delete(self, study: str, number: int | None = None) -> None:
        """Remove the folder of a trial, or of a whole study; what is not there needs no removing."""
        folder = self.path(study, 0).parent if number is None else self.path(study, number)
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)

    def drop_checkpoint(self, study: str, number: int) -> int:
        """Remove the checkpoint of a trial that ended for good (COMPLETE, PRUNED) and return the freed bytes.

        Nothing continues from it: resume needs those of interrupted trials only, export the configuration.
        """
        path = self.path(study, number) / CHECKPOINT
        try:
            size = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def _mark_as(self, study: str) -> str | None:
        """Return the identity of the study to which a folder belongs; None when it does not say."""
        try:
            return read_mark((self.path(study, 0).parent / MARK).read_bytes())
        except OSError:
            return None

    def _set_aside(self, folder: Path, *, logs: bool) -> str | None:
        """Put the content of a folder into a new one beside it; None when there is nothing but logs that stay."""
        if folder.is_symlink():
            folder.unlink()
        if not folder.is_dir():
            return None
        entries = [entry for entry in folder.iterdir() if logs or entry.name != WORKER_LOGS]
        if not entries:
            return None
        aside = folder.with_name(name_aside(folder.name))
        aside.mkdir()
        for entry in entries:
            entry.rename(aside / entry.name)
        return str(aside)

    def _bring(self, study: str, attempt: int) -> None:
        """Have the files of an earlier attempt here, where that takes doing."""

    def _bring_whole(self, study: str, attempt: int) -> None:
        """The same, for all files of a training of the user's own."""

    def _move_on(self, source: Path, target: Path) -> None:
        """Move what an earlier attempt has left, its log and what it was aside."""
        if source.is_symlink() or not source.is_dir():
            return
        for entry in sorted(source.iterdir()):
            if entry.name in OF_ATTEMPT or os.path.lexists(target / entry.name):
                continue
            try:
                entry.rename(target / entry.name)
            except OSError as error:
                raise _explain(error, target) from error

    def _carry_on(self, source: Path, target: Path) -> None:
        if not (source / CHECKPOINT).is_file():
            return
        # Read first, put in its place last: an attempt that was taken for dead may still be writing, and of its files
        # only the checkpoint may be older than the others.
        try:
            taken = _copy_beside(source / CHECKPOINT, target / CHECKPOINT)
        except _UnreadableError as error:
            logger.warning("%s cannot be read: %s", source / CHECKPOINT, error)
            return
        try:
            for name in CARRIED_ON:
                if (source / name).is_file() and not (source / name).is_symlink():
                    _copy_beside(source / name, target / name).replace(target / name)
            taken.replace(target / CHECKPOINT)
        except _UnreadableError as error:
            logger.warning("%s: %s; its checkpoint is not used", source, error)
            return
        finally:
            taken.unlink(missing_ok=True)
        (source / CHECKPOINT).unlink(missing_ok=True)  # nothing continues from it any more, and disks are finite

    def _is_inside(self, path: Path, study: str, number: int) -> bool:
        return path.resolve() == self.root.resolve() / study / str(number)


def read_mark(content: bytes) -> str | None:
    """Return the identity that a mark holds, None for a damaged one."""
    try:
        found = json.loads(content)["identity"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def write_mark(folder: Path, identity: str) -> None:
    """Say in a folder which study it belongs to."""
    part = folder / f".{MARK}.part"
    part.write_text(json.dumps({"identity": identity}), encoding="utf-8")
    part.replace(folder / MARK)


def name_aside(study: str) -> str:
    """Return a new name for the folder of a study that was deleted; `tuner gc --unknown-studies` finds it."""
    return f"{study[:63]}.deleted-{uuid.uuid4().hex[:8]}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class _UnreadableError(Exception):
    """A file of an earlier attempt that is there and cannot be read: on a lost disk, or of another user."""


def _copy_beside(source: Path, target: Path) -> Path:
    """Copy a file beside `target` under a temporary name, and return that name."""
    part = target.with_name(f".{target.name}.part")
    try:
        with _readable(source) as handle, part.open("wb") as copy:
            while chunk := _read(handle):
                copy.write(chunk)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _explain(error, target) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def _readable(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise _UnreadableError(f"{source.name}: {error.strerror}") from error


def _read(handle: BinaryIO) -> bytes:
    try:
        return handle.read(_CHUNK)
    except OSError as error:
        raise _UnreadableError(f"{Path(handle.name).name}: {error.strerror}") from error


def _explain(error: OSError, path: Path) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space left for artifacts ({error.strerror}).", where=str(path))
    return RunError(
        f"artifacts cannot be written: {error.strerror}.",
        hint="Name a folder that may be written with --artifacts or TUNER_ARTIFACTS.",
        where=str(path),
    )


def _is_regular(handle: int) -> bool:
    return stat.S_ISREG(os.fstat(handle).st_mode)
