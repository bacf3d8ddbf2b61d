"""Everything that this package raises on purpose.

TunerError                      code, status (HTTP), exit_code, message, hint, where
├── RequestError                the request was wrong; nothing was created, changed or started   (exit 2)
│   ├── UnknownNameError        a registry was asked for a name that it does not have
│   ├── SpecError               a study file or an override holds one or several problems
│   ├── DataError               a data set is missing, broken or too small
│   ├── ConfigError             an exported configuration cannot be used as it is
│   ├── NotFoundError           a study, trial or file that is not there
│   ├── ConflictError           the stored state forbids what was asked
│   ├── LossInputError          logits, target or options that a loss cannot take
│   └── EntryError              `entry: package.module:function` that may not or cannot be imported
└── RunError                    it failed while running                                          (exit 1)
    ├── StorageError            the database cannot be reached, or is of another version
    │   └── NoStorageError      what was named is no storage of tuner                        (exit 2)
    ├── DiskFullError           no space left where something had to be written
    ├── UnreachableError        files of trials cannot be written to, or read from, where they are kept
    ├── EffectiveConfigError    a trial would not train what was suggested
    └── NoSuccessError          a study ended without one successful trial                        (exit 3)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any


class TunerError(Exception):
    """A failure that is explained to the user: what was wrong, what would be right, and where."""

    code = "error"
    status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        """One line for people: where, what, and what to do next."""
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"

    def as_dict(self) -> dict[str, str | None]:
        """Return the four fields that every JSON error carries."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "where": self.where}


class RequestError(TunerError):
    """The request was wrong; nothing was created, changed or started."""

    code = "bad_request"
    status = 422
    exit_code = 2


class UnknownNameError(RequestError):
    """A registry was asked for a name that it does not have."""

    code = "unknown_name"

    def __init__(self, *, kind: str, name: str, known: Iterable[str], where: str | None = None) -> None:
        names = sorted({*known})
        self.kind, self.name, self.known = kind, name, names
        near = closest(name, names)
        guess = f"Did you mean {near!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}.", hint=f"{guess}Known: {', '.join(names)}.", where=where)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what was asked for; as a text it is the line that people read."""

    path: str
    """Dotted key (`train.lr`), flag or parameter that it is about; empty where the error says where."""
    message: str
    """What is wrong, the value included as it was written."""
    value: Any = None
    """The value that was found, where there is one."""
    hint: str | None = None
    """What would be right, where the message does not say so already: known names, the closest one."""
    line: int | None = None
    """Line of the file in which it stands, from 1."""

    def __str__(self) -> str:
        """Write one line: where, what, what would be right."""
        place = f"{self.path}: " if self.path else ""
        advice = f" {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}" + (f" (line {self.line})" if self.line else "")

    def below(self, path: str) -> "Problem":
        """Return the same problem of a part, told of the whole: its path begins with that of the whole."""
        return replace(self, path=f"{path}.{self.path}")


class Problems(list[Problem]):
    """What is wrong with a request, collected so that one answer tells all of it."""

    def add(self, path: str, message: str, value: Any = None, *, hint: str | None = None) -> None:
        """Add one; see `Problem`."""
        self.append(Problem(path, message, value, hint))

    def refuse(self, *, where: str | None = None) -> None:
        """Raise SpecError with all of them, if there are any."""
        if self:
            raise SpecError(self, where=where)


def unknown_name(kind: str, name: str, known: Iterable[str], where: str) -> Problem:
    """Tell of an unknown name that stands at the key `where`, with the closest known one."""
    names = sorted({*known})  # `boundary` is a loss and a family
    near = closest(name, names)
    guess = f"Did you mean {near!r}? " if near else ""
    return Problem(where, f"unknown {kind} {name!r}.", name, hint=f"{guess}Known: {', '.join(names) or 'none'}.")


class SpecError(RequestError):
    """A study file or an override holds one or several problems; all of them are listed.

    A text among the problems is one without a path: `where` says what it is about.
    """

    code = "bad_spec"

    def __init__(self, problems: Sequence[Problem | str], *, where: str | None = None, hint: str | None = None) -> None:
        self.problems = tuple(Problem("", item) if isinstance(item, str) else item for item in problems)
        lead = "" if len(self.problems) == 1 else f"{len(self.problems)} problems:\n  "
        super().__init__(lead + "\n  ".join(map(str, self.problems)), where=where, hint=hint)


class DataError(RequestError):
    """A data set is missing, broken or too small for what is asked of it."""

    code = "bad_data"


class ConfigError(RequestError):
    """An exported configuration cannot be used as it is."""

    code = "bad_config"


class NotFoundError(RequestError):
    """A study, trial or file that is not there."""

    code = "not_found"
    status = 404


class ConflictError(RequestError):
    """The stored state forbids what was asked."""

    code = "conflict"
    status = 409


class LossInputError(RequestError):
    """Logits, target or options that a loss cannot take."""

    code = "bad_loss_input"


class EntryError(RequestError):
    """`entry: package.module:function` that may not or cannot be imported on this machine."""

    code = "bad_entry"


class RunError(TunerError):
    """It failed while running."""

    code = "failed"


class StorageError(RunError):
    """The database cannot be reached, or is of another version."""

    code = "storage"
    status = 503


class NoStorageError(StorageError):
    """What was named is no storage of tuner: missing, empty, no database, or where none may lie."""

    exit_code = 2


class DiskFullError(RunError):
    """No space left where something had to be written."""

    code = "disk_full"


class UnreachableError(RunError):
    """The place of the trials' files does not answer, or does not let one in; it may again later."""

    code = "artifacts"
    status = 503


class EffectiveConfigError(RunError):
    """A trial would not train what was suggested: the built parts hand back other option values."""

    code = "effective_config"


class NoSuccessError(RunError):
    """A study ended without one successful trial."""

    code = "no_success"
    exit_code = 3


_LONGEST_NAME = 100
"""Characters: the work of comparing grows with their square, and nobody mistypes a longer name."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that the user most likely meant, if one is near."""
    if len(name) > _LONGEST_NAME:
        return None
    near = get_close_matches(name, list(known), n=1)
    return near[0] if near else None


def shortened(text: str | None, most: int = 300) -> str:
    """Return the beginning of a message, on one line, for lists; the whole stands where one thing is shown alone."""
    words = " ".join((text or "").split())
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"
