"""Which code of a mask is which class: given by the user, or read from the masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.data.images import Codes, code_text, parse_code
from tuner.data.source import IGNORE_INDEX, Label
from tuner.errors import DataError

MAX_VALUES = 64
"""Masks with more values than this are taken for photographs, or for masks that were resized or stored as JPEG."""

_WHERE = "dataset.classes"


@dataclass(frozen=True, slots=True)
class ClassCodes:
    """Classes by number, and the codes that stand for them."""

    names: tuple[str, ...]
    labels: dict[int, int]
    """Code -> class number, or 255 (ignored)"""

    def foreign(self, values: Iterable[int]) -> list[int]:
        """Return the codes that no class has."""
        return sorted(value for value in values if value not in self.labels)

    def apply(self, codes: Codes) -> Label:
        """Turn codes [H, W] into class numbers; DataError names the codes that no class has."""
        known = np.array(sorted(self.labels), np.int32)
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = codes[known[place] != codes]
        if wrong.size:
            raise DataError(f"holds {listed(np.unique(wrong).tolist())}, which no class has ({self.legal()}).")
        return np.array([self.labels[int(code)] for code in known], np.uint8)[place]

    def of_classes(self) -> list[int]:
        """Return the code of each class, by class number: what a predicted mask is written with."""
        codes = {label: code for code, label in sorted(self.labels.items(), reverse=True)}
        return [codes[number] for number in range(len(self.names))]

    def legal(self) -> str:
        """Describe the codes for messages."""
        shown = ", ".join(f"{code_text(code)}: {self._name(label)}" for code, label in sorted(self.labels.items())[:12])
        return shown + (", …" if len(self.labels) > 12 else "")

    def _name(self, label: int) -> str:
        return "ignored" if label == IGNORE_INDEX else self.names[label]


def listed(values: Sequence[int]) -> str:
    """Return at most eight codes for a message."""
    return ", ".join(code_text(int(value)) for value in values[:8]) + (", …" if len(values) > 8 else "")


def parse_classes(text: str) -> list[tuple[str, int | None]]:
    """Read the option `classes`: `NAME, NAME` in order of the codes, or `NAME=CODE, NAME=CODE`.

    Raises:
        DataError: A name is missing or stands twice, a code is none, or only some have a code.
    """
    found: list[tuple[str, int | None]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, code = (piece.strip() for piece in part.partition("="))
        value = parse_code(code) if separator else None
        if not name or (separator and value is None):
            raise DataError(f"{part!r} is not NAME or NAME=CODE; a code is 0 to 65535, or #rrggbb.", where=_WHERE)
        found.append((name, value))
    names, codes = [name for name, _ in found], [code for _, code in found if code is not None]
    for kind, items in (("name", names), ("code", codes)):
        if len(set(items)) < len(items):
            raise DataError(f"a {kind} stands twice in {text!r}.", where=_WHERE)
    if codes and len(codes) < len(names):
        raise DataError(f"only {len(codes)} of {len(names)} classes have a code in {text!r}.", where=_WHERE)
    if found and not 2 <= len(found) < IGNORE_INDEX:
        raise DataError(f"{len(found)} classes; 2 to {IGNORE_INDEX - 1} would do.", where=_WHERE)
    return found


def parse_ignored(text: str) -> int | None:
    """Read the option `ignore`: a code, or nothing. Raises DataError for anything else."""
    code = parse_code(text) if text else None
    if text and code is None:
        raise DataError(f"{text!r} is not a code: 0 to 65535, or #rrggbb.", where="dataset.ignore")
    return code


def given_codes(classes: Sequence[tuple[str, int | None]], ignored: int | None) -> ClassCodes | None:
    """Return the codes that were given; None when they have to be read from the masks."""
    pairs = [(name, code) for name, code in classes if code is not None]
    return _codes([name for name, _ in pairs], [code for _, code in pairs], ignored) if pairs else None


def codes_from(values: Iterable[int], classes: Sequence[tuple[str, int | None]], ignored: int | None) -> ClassCodes:
    """Number the codes that the masks hold, from the lowest up.

    Raises:
        DataError: There are too few or too many, or another number than there are names.
    """
    found = sorted(set(values) - {ignored})
    if not 2 <= len(found) <= MAX_VALUES:
        raise DataError(
            f"the masks hold {len(found)} values ({listed(found)}); 2 to {MAX_VALUES} can be classes.",
            hint="Name them, as in `classes: background=0, cell=255`.",
            where=_WHERE,
        )
    if classes and len(classes) != len(found):
        raise DataError(
            f"{len(classes)} classes are named and the masks hold {len(found)} values: {listed(found)}.",
            hint="Give every class its code, as in `classes: background=0, cell=255`.",
            where=_WHERE,
        )
    names = [name for name, _ in classes] or ["background", *(f"value {code_text(code)}" for code in found[1:])]
    return _codes(names, found, ignored)


def _codes(names: Sequence[str], codes: Sequence[int], ignored: int | None) -> ClassCodes:
    labels = {code: number for number, code in enumerate(codes)}
    if ignored is not None:
        labels[ignored] = IGNORE_INDEX
    return ClassCodes(tuple(names), labels)
