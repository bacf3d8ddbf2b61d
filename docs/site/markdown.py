"""Pieces of Markdown that survive a table."""

from html import escape


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(map(cell, cells)) + " |"


def cell(text: str) -> str:
    """Return a text on one line, without what would end the cell."""
    return text.replace("|", "&#124;").replace("\n", " ")


def code(text: str) -> str:
    """Return literal text, or nothing for none."""
    return f"<code>{escape(text)}</code>" if text else ""


def value_text(value: object) -> str:
    """Return a value as a study file spells it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
