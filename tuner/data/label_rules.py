"""`dataset.labels`: which values, colours or ranges of a mask are which class. Importing this reads no file.

    labels: {background: 0, cell: [1, 2], vessel: ">=128"}      # values, several values, ranges
    labels: {road: [128, 64, 128], sky: "#87ceeb", ignore: "#000000"}   # colours; `ignore` counts for nothing

A term is a whole number, `#rrggbb`, `>=N`, `>N`, `<=N`, `<N`, `N..M`, three numbers (a colour where the masks are in
colour, else three values) or a list of these. Kept as JSON text, so that it is a scalar like every other option.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

LABELS = "labels"
"""The option's name."""
LARGEST = 65535
IGNORED = "ignore"
"""The name under which values count for nothing."""
MAX_TERMS = 1024

_RANGE = re.compile(r"(>=|<=|>|<)\s*([0-9]{1,5})|([0-9]{1,5})\s*(?:\.\.|-)\s*([0-9]{1,5})")
_LEGAL = "a value (0 to 65535), #rrggbb, '>=128', '<128', '1..5', [r, g, b], or a list of these"


@dataclass(frozen=True, slots=True)
class Term:
    """One entry: a value, a colour, a range of values, or three numbers that may be either."""

    low: int = 0
    high: int = 0
    """Of values, both included; a single value has both alike"""
    colour: int | None = None
    """0xrrggbb"""
    triple: tuple[int, int, int] | None = None


Labels = list[tuple[str, list[Term]]]
"""Classes in order, and their terms."""


def labels_text(value: object) -> object:
    """Return a mapping as the text that is kept, nothing as an empty one; anything else as it is."""
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        return value
    return json.dumps({str(name): term for name, term in value.items()}, ensure_ascii=False, default=str)


def labels_problem(value: object) -> str | None:
    """Say what is wrong with a value of `labels` (a mapping, or its text); None when it is sound."""
    try:
        parse_labels(str(labels_text(value)))
    except ValueError as error:
        return str(error)
    return None


def parse_labels(text: str) -> Labels:
    """Return the classes and their terms; empty of an empty text. Raises ValueError with the reason."""
    if not text.strip():
        return []
    if len(text) > 1 << 16:
        raise ValueError(f"{len(text)} characters are too many for labels")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{text[:80]!r} is no mapping of classes, as in {{background: 0, cell: '>=128'}}")
    labels = [(name.strip(), _terms(name, value)) for name, value in found.items()]
    if sum(len(terms) for _, terms in labels) > MAX_TERMS:
        raise ValueError(f"more than {MAX_TERMS} values are named")
    names = [name for name, _ in labels]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"a name of a class is empty or stands twice: {', '.join(map(repr, names))}")
    _refuse_overlaps(labels)
    return labels


def _terms(name: str, value: object) -> list[Term]:
    if isinstance(value, list) and not _is_triple(value):
        if not value:
            raise ValueError(f"{name!r} names no value; {_LEGAL} would do")
        return [_term(name, one) for one in value]
    return [_term(name, value)]


def _is_triple(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255 for one in value)
    )


def _term(name: str, value: object) -> Term:
    if isinstance(value, list) and _is_triple(value):
        red, green, blue = value
        return Term(colour=(red << 16) + (green << 8) + blue, triple=(red, green, blue))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return Term(value, value)
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            return Term(colour=int(text[1:], 16))
        if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= LARGEST:
            return Term(int(text), int(text))
        low, high = _range(text)
        if 0 <= low <= high <= LARGEST:
            return Term(low, high)
    raise ValueError(f"{value!r} of {name!r} is none of: {_LEGAL}")


def _range(text: str) -> tuple[int, int]:
    """Return both ends, included; (1, 0) of what is no range."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return 1, 0
    if match[3] is not None:
        return int(match[3]), int(match[4])
    limit = int(match[2])
    return {">=": (limit, LARGEST), ">": (limit + 1, LARGEST), "<=": (0, limit), "<": (0, limit - 1)}[match[1]]


def _refuse_overlaps(labels: Labels) -> None:
    colours: dict[int, str] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, terms in labels:
        for term in terms:
            if term.colour is not None:
                other = colours.setdefault(term.colour, name)
                if other != name:
                    raise ValueError(f"#{term.colour:06x} is in {other!r} and in {name!r}")
            else:
                ranges.append((term.low, term.high, name))
    ranges.sort()
    for (_, end, one), (start, _, other) in pairwise(ranges):
        if start <= end:
            raise ValueError(f"{start} is in {one!r} and in {other!r}" if one != other else f"{start} is named twice")
