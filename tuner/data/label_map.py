"""Class codes: which value or colour of a mask is which class, and label maps in class ids.

    labels: {background: 0, cell: [1, 2], vessel: ">=128"}      # values, several values, ranges
    labels: {road: [128, 64, 128], sky: "#87ceeb", ignore: "#000000"}   # colours; `ignore` counts for nothing

A term is a whole number, `#rrggbb`, `>=N`, `>N`, `<=N`, `<N`, `N..M`, three numbers (a colour where the masks are in
colour, else three values) or a list of these. Kept as JSON text, so that it is a scalar like every other option.

Which code of a mask is which class: given by the user, or read from the masks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.data.images import COLOUR, Codes, code_text, parse_code
from tuner.data.label_rules import IGNORED, LARGEST, Labels, Term
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
    ranges: tuple[tuple[int, int, int], ...] = ()
    """Lowest value, highest value, class number"""

    def find(self, code: int) -> int | None:
        """Return the class of a code; None when no class has it."""
        if code in self.labels:
            return self.labels[code]
        return next((number for low, high, number in self.ranges if low <= code <= high), None)

    def foreign(self, values: Iterable[int]) -> list[int]:
        """Return the codes that no class has."""
        return sorted(value for value in values if self.find(value) is None)

    def apply(self, codes: Codes) -> Label:
        """Turn codes [H, W] into class numbers; DataError names the codes that no class has."""
        if self.ranges:
            found, places = np.unique(codes, return_inverse=True)
            whole = ClassCodes(self.names, {int(c): n for c in found.tolist() if (n := self.find(c)) is not None})
            if len(whole.labels) == len(found):
                return np.array([whole.labels[c] for c in found.tolist()], np.uint8)[places].reshape(codes.shape)
            foreign = self.foreign(found.tolist())
            raise DataError(f"holds {listed(foreign)}, which no class has ({self.legal()}).")
        known = np.array(sorted(self.labels), np.int32)
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = codes[known[place] != codes]
        if wrong.size:
            raise DataError(f"holds {listed(np.unique(wrong).tolist())}, which no class has ({self.legal()}).")
        return np.array([self.labels[int(code)] for code in known], np.uint8)[place]

    def of_classes(self) -> list[int]:
        """Return the code of each class, by class number: what a predicted mask is written with."""
        codes = {number: 0 if low == 0 else 255 if low <= 255 <= high else low for low, high, number in self.ranges}
        codes |= {label: code for code, label in sorted(self.labels.items(), reverse=True)}
        return [codes[number] for number in range(len(self.names))]

    def legal(self) -> str:
        """Describe the codes for messages."""
        parts = [f"{code_text(code)}: {self._name(label)}" for code, label in sorted(self.labels.items())]
        parts += [f"{low}..{high}: {self._name(label)}" for low, high, label in sorted(self.ranges)]
        return ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "")

    def value_text(self, number: int) -> str:
        """Spell the codes of a class: `255`, `#ff0000`, `128..65535`."""
        parts = [code_text(code) for code, label in sorted(self.labels.items()) if label == number]
        parts += [f"{low}..{high}" for low, high, label in sorted(self.ranges) if label == number]
        return ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "")

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


def codes_of_labels(labels: Labels, ignored: int | None, *, in_colour: bool, background: bool) -> ClassCodes:
    """Return the codes that `dataset.labels` maps.

    With `background` and none named so, 0 (black) is `background`, unless it is in a class of several; where ranges are
    named, so is every other value.

    Args:
        labels: Classes and their terms.
        ignored: `dataset.ignore`.
        in_colour: Whether the masks are read by colour: three numbers are one then, and three values otherwise.
        background: Whether class 0 is to be background.

    Raises:
        DataError: There are too few classes, or a value has two of them.
    """
    spans = [(name, span) for name, terms in labels for term in terms for span in _spans(term, in_colour=in_colour)]
    zero = COLOUR if in_colour else 0
    is_taken = any(low <= zero <= high for _, (low, high) in spans)
    names = [name for name, _ in labels if name != IGNORED]
    is_implied = background and "background" not in names and (len(names) < 2 or not is_taken)
    if background and (is_implied or "background" in names):
        names = ["background", *(name for name in names if name != "background")]
    exact: dict[int, int] = {} if ignored is None else {ignored: IGNORE_INDEX}
    ranges: list[tuple[int, int, int]] = []
    for name, (low, high) in spans:
        number = IGNORE_INDEX if name == IGNORED else names.index(name)
        if low < high:
            ranges.append((low, high, number))
        elif exact.setdefault(low, number) != number:
            raise DataError(f"{code_text(low)} stands in two classes.", where="dataset.labels")
    if is_implied:
        if not is_taken:
            exact.setdefault(zero, 0)
        ranges += [(low, high, 0) for low, high in _gaps(exact, ranges)] if ranges else []
    if not 2 <= len(names) < IGNORE_INDEX:
        raise DataError(
            f"{len(names)} class{'es' * (len(names) != 1)}; 2 to {IGNORE_INDEX - 1} would do.", where="dataset.labels"
        )
    return ClassCodes(tuple(names), exact, tuple(ranges))


def _spans(term: Term, *, in_colour: bool) -> list[tuple[int, int]]:
    """Return the lowest and highest code of a term; three numbers are one colour, or three values."""
    if term.triple is not None and not in_colour:
        return [(value, value) for value in term.triple]
    return [(term.low, term.high) if term.colour is None else (COLOUR + term.colour, COLOUR + term.colour)]


def _gaps(exact: dict[int, int], ranges: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Return the values that nothing names, as ranges with both ends included."""
    spans = sorted([*((low, high) for low, high, _ in ranges), *((code, code) for code in exact if code <= LARGEST)])
    found, start = [], 0
    for low, high in spans:
        if start < low:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, (start, LARGEST)] if start <= LARGEST else found


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
            hint="Name them, as in `classes: background=0, cell=255`, or map ranges, as in "
            "`labels: {background: '<128', cell: '>=128'}`.",
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
