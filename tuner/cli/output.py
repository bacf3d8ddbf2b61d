"""What commands print: JSON and tables on stdout, words on stderr. Tables are plain columns when nobody watches."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tuner.cli.failures import tell

__all__ = [
    "duration",
    "every_tenth",
    "format_value",
    "number",
    "percent",
    "put",
    "put_json",
    "put_table",
    "tell",
    "when",
]


def put(text: str = "") -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(f"{text}\n")


def every_tenth() -> Callable[[str, int, int], None]:
    """Return a progress that says on stderr when a further tenth of something is done."""
    last: dict[str, int] = {}

    def told(what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if total >= 100 and tenth > last.get(what, 0):
            last[what] = tenth
            tell(f"{what}: {done} of {total}")

    return told


def put_json(document: Any) -> None:
    """Write the one JSON document of a command; what is not finite becomes null."""
    put(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False))


def put_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Write a table: drawn on a terminal, else plain columns that nothing cuts off."""
    texts = [[format_value(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, texts, right)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in ([*columns], *texts):
        cells = [
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(columns, line, widths, strict=True)
        ]
        put("  ".join(cells).rstrip())


def format_value(value: object) -> str:
    """Write a value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value) or "-"
    return str(value)


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with so many significant digits."""
    return "-" if value is None else f"{value:.{digits}g}"


def loss_of(name: str | None) -> str:
    """Write `, loss NAME` behind a value; nothing for a study that is about no loss."""
    return f", loss {name}" if name else ""


def percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.3g} %"


def duration(seconds: float | None) -> str:
    """Write a time span: `42 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    units = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
    for size, name, below, below_name in units:
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def when(time: str | None) -> str:
    """Write a time of the database in this machine's zone."""
    if not time:
        return "-"
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
