"""Rendering of blocks: one HTML file without scripts or links, or one Markdown file with pictures as data."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from tuner.report.blocks import Band, Block, Code, Heading, Paragraph, Picture, Points, Table

_KINDS = {
    Heading: "heading",
    Paragraph: "paragraph",
    Points: "points",
    Table: "table",
    Picture: "picture",
    Code: "code",
}


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the document. Whatever the blocks hold is text, never markup."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["source"] = _source
    environment.tests["band"] = lambda row: isinstance(row, Band)
    template = resources.files("tuner.report").joinpath("report.html").read_text(encoding="utf-8")
    items = [(_KINDS[type(block)], block, f"part-{place}") for place, block in enumerate(blocks)]
    contents = [(block.text, name) for kind, block, name in items if isinstance(block, Heading) and block.level == 2]
    return environment.from_string(template).render(title=title, items=items, contents=contents)


def _source(picture: Picture) -> Markup:
    return Markup(f"data:{picture.media};base64,{b64encode(picture.content).decode()}")  # noqa: S704 - base64 of ours


_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def render_markdown(blocks: Sequence[Block]) -> str:
    """Return the document."""
    return "\n\n".join(_WRITERS[type(block)](block) for block in blocks) + "\n"


def _heading(block: Heading) -> str:
    return f"{'#' * block.level} {_text(block.text)}"


def _paragraph(block: Paragraph) -> str:
    return f"**{_text(block.text)}**" if block.strong else _text(block.text)


def _points(block: Points) -> str:
    return "\n".join(f"- {_text(item)}" for item in block.items)


def _table(block: Table) -> str:
    lines = [_text(block.caption), "", _line(map(_text, block.columns))]
    lines.append(_line("---" if place < block.words else "---:" for place in range(len(block.columns))))
    for place, row in enumerate(block.rows):
        if isinstance(row, Band):
            lines.append(_line([f"*{_text(row.text)}*", *[""] * (len(block.columns) - 1)]))
            continue
        cells = [_text(cell) for cell in row]
        lines.append(_line(f"**{c}**" if (place, n) in block.marked and c else c for n, c in enumerate(cells)))
    return "\n".join(lines)


def _picture(block: Picture) -> str:
    data = b64encode(block.content).decode()
    return f"![{_text(block.alt)}](data:{block.media};base64,{data})\n\n*{_text(block.caption)}*"


def _code(block: Code) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", block.text)), 3)
    return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text).replace("\n", " ")


_WRITERS: dict[type, Callable[[Any], str]] = {
    Heading: _heading,
    Paragraph: _paragraph,
    Points: _points,
    Table: _table,
    Picture: _picture,
    Code: _code,
}
