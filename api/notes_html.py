"""Markdown of notes as HTML that can do nothing: no markup of its own, plain links, pictures of this server only."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

HEADINGS_BELOW = 2
"""A first heading of notes stands below those of the page."""
ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "th": {"align"}, "td": {"align"}, "ol": {"start"}}
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


@lru_cache(512)
def render_notes(text: str) -> Markup:
    """Return notes as HTML. What is no Markdown of CommonMark (with tables and ~~deleted~~) stands there as text."""
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + HEADINGS_BELOW)}"
        style = str(token.attrs.pop("style", ""))  # of cells; the pages' policy allows none
        if style:
            token.attrSet("align", style.removeprefix("text-align:"))
    html = _PARSER.renderer.render(tokens, _PARSER.options, {})
    clean = nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_checked,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)  # noqa: S704 (cleaned)


def is_local(address: str) -> bool:
    """Tell whether an address is one of this server, as a path from its root."""
    return address.startswith("/") and not address.startswith(("//", "/\\"))


def _checked(tag: str, attribute: str, value: str) -> str | None:
    return None if (tag, attribute) == ("img", "src") and not is_local(value) else value


def _picture(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Show a picture of this server; name others by their addresses, for the pages' policy loads none of them."""
    token = tokens[index]
    address, words = str(token.attrs.get("src", "")), token.content
    if is_local(address):
        return f'<img src="{escape(address)}" alt="{escape(words)}">'
    return f'<a href="{escape(address)}">{escape(words or address)}</a>'


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", lambda self, *found: _picture(*found))
    return parser


_PARSER = _parser()
