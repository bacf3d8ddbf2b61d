"""Blocks of a document, without a format: headings, paragraphs, tables, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Heading:
    """Title of a section; level 1 is the document's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Words; `strong` for the answer that the report exists for."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Points:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Band:
    """A row of a table that names what follows."""

    text: str


@dataclass(frozen=True)
class Table:
    """Columns and rows of texts; a `Band` names the rows below it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str] | Band]
    caption: str
    marked: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    """Cells (row, column) that stand out: the best of their column."""
    words: int = 1
    """So many first columns are words, the others numbers."""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption; `alt` says what it shows to those who do not see it."""

    content: bytes
    media: Literal["image/png", "image/svg+xml"]
    caption: str
    alt: str


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    text: str
    language: str = ""


Block = Heading | Paragraph | Points | Table | Picture | Code
