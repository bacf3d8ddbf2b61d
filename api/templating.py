"""Jinja, and how pages write numbers, times and parameters. Everything that is not a template is text, never markup."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import tuner
from api import static_files
from api.charts import CHARTS
from api.dependencies import tag_of, unless_matches
from tuner.analysis.leaderboard import family_of
from tuner.figures.data import label

POLL = "x-poll"
"""Header of the polls of open pages."""

FOLDER = Path(__file__).resolve().parent / "templates"


@cache
def environment() -> Environment:
    """Return the one environment of all templates."""
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "number": number,
        "value": value,
        "duration": duration,
        "param": label,
        "size": size,
        "path": lambda text: quote(str(text), safe=""),
        "family": lambda loss: family_of(loss) if loss else "sum",
        "breakable": breakable,
        "percent": lambda share: f"{100 * share:.0f} %",
        "log4": lambda positive: math.log10(positive) / 4,
    }
    found.globals |= {
        "static": static_files.address,
        "plotly_marks": static_files.plotly_marks,
        "version": tuner.__version__,
        "query": query,
        **CHARTS,
    }
    return found


def render(template: str, request: Request, **context: Any) -> str:
    """Render a page."""
    signed = request.app.state.service.config.settings.api_token is not None
    return environment().get_template(template).render(path=request.url.path, with_login=signed, **context)


def page(
    request: Request, template: str, revision: Callable[[], str], context: Callable[[], Mapping[str, Any]]
) -> Response:
    """Answer with a page: 304 where the browser has it, from memory where another browser asked before.

    A poll (`X-Poll`) is content with the page as it was a moment ago; everything else gets it as it is now.
    """
    state = request.app.state
    place = (request.url.path, request.url.query)
    found = state.recent.get(place) if POLL in request.headers else None
    if found is None:

        def make() -> tuple[str, bytes]:
            tag = tag_of(revision())
            content = state.remembered.get(
                (tag, template, *place), lambda: render(template, request, **context()).encode("utf-8", "replace")
            )
            return tag, content

        found = state.service.store.at_once(make)
        state.recent.put(place, *found)
    tag, content = found
    unless_matches(request, tag)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Cookie"}
    return Response(content, headers=headers, media_type="text/html; charset=utf-8")


def query(words: Mapping[str, Any]) -> str:
    """Write the query of an address, without what is empty."""
    return urlencode({key: word for key, word in words.items() if word not in ("", None)})


def number(count: float | None) -> str:
    """Write a count with thin groups."""
    return "–" if count is None else f"{count:,}".replace(",", "\u202f")


def value(metric: float | None, digits: int = 4) -> str:
    """Write a metric."""
    if metric is None:
        return "–"
    if metric and not 1e-3 <= abs(metric) < 1e4:
        return f"{metric:.3g}"
    return f"{metric:.{digits}f}" if abs(metric) < 10 else f"{metric:.{max(1, digits - 2)}f}"


def duration(seconds: float | None) -> str:
    """Write a time span in its two largest units."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60):02d} s"
    if hours < 48:
        return f"{int(hours)} h {int(minutes % 60):02d} min"
    return f"{int(days)} d {int(hours % 24)} h"


def breakable(name: str) -> Markup:
    """Let a dotted name break where it may be read, not in the middle of a word."""
    return Markup(str(escape(name)).replace(".", ".<wbr>").replace("_", "_<wbr>"))  # noqa: S704 (escaped before)


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
