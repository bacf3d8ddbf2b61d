"""Blocks as one HTML file: no script, nothing loaded from anywhere, readable on a phone, in the dark, and on paper."""

from base64 import b64encode
from collections.abc import Sequence
from importlib import resources

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
