"""Jinja environment, formats of numbers and times, small inline SVG. What is no template is text, never markup."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import tuner
from api import static_files
from api.http_cache import tag_of, unless_matches
from api.identity import identity_of, rights_of
from api.notes_html import render_notes
from api.study_outcome import without_result
from tuner.analysis.leaderboard import family_of
from tuner.figures.data import label
from tuner.figures.plots import THEME_COLOURS

_STATES = ("complete", "pruned", "failed", "running")


def strip(
    values: Sequence[float], low: float, high: float, family: str, median: float | None, maximize: bool
) -> Markup:
    """Dots of one loss on a scale that all rows share; the best one strong, the median a tick."""
    width, height = 240.0, 26.0
    parts = ['<line class="rule" x1="4" x2="236" y1="13" y2="13"/>']
    best = (max if maximize else min)(values) if values else None
    for index, value in enumerate(values):
        x = 6 + (width - 12) * _share(value, low, high)
        y = height / 2 + 9 * ((index * 0.618034) % 1.0 - 0.5)
        if value != best:
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')
    if median is not None:
        x = 6 + (width - 12) * _share(median, low, high)
        parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="3" y2="23"/>')
    if best is not None:
        x = 6 + (width - 12) * _share(best, low, high)
        parts.append(f'<circle class="best" cx="{x:.1f}" cy="13" r="4.4"/>')
    dots = Markup("".join(parts))  # noqa: S704 (numbers only)
    return Markup('<svg class="strip fam-{}" viewBox="0 0 240 26" aria-hidden="true">{}</svg>').format(family, dots)


def sparkline(values: Sequence[float], low: float, high: float, epochs: int) -> Markup:
    """A curve so far, on the width of all its epochs."""
    if not values:
        return Markup('<span class="quiet">no epoch yet</span>')
    width, height = 160.0, 32.0
    step = (width - 6) / max(1, epochs - 1)
    points = [(3 + i * step, height - 4 - (height - 8) * _share(v, low, high)) for i, v in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(
        '<svg class="spark" viewBox="0 0 160 32" aria-hidden="true">'
        '<line class="rule" x1="3" x2="157" y1="28" y2="28"/><polyline points="{}"/>'
        '<circle cx="{:.1f}" cy="{:.1f}" r="2.6"/></svg>'
    ).format(line, x, y)


def answer(words: str, amounts: Sequence[float], large: Sequence[float], small: Sequence[float]) -> Markup:
    """How a loss answers to a growing error, for a large and a small object, and the numbers as a table.

    Put together as plain text: only `words` is escaped, the rest is numbers, thousands of them on the page of losses.
    """
    low, high = min((0.0, *large, *small)), max((*large, *small))
    lines = "".join(
        f'<polyline class="{name}" points="'
        + " ".join(
            f"{4 + 112 * i / (len(values) - 1):.1f},{44 - 40 * _share(v, low, high):.1f}" for i, v in enumerate(values)
        )
        + '"/>'
        for name, values in (("large", large), ("small", small))
    )
    rows = "".join(
        "<tr>" + "".join(f'<td class="num mono">{value:.3g}</td>' for value in row) + "</tr>"
        for row in zip(amounts, large, small, strict=True)
    )
    return Markup(  # noqa: S704 (numbers, and words that are escaped)
        f'<figure><svg class="pair" viewBox="0 0 120 48" aria-hidden="true">{lines}</svg>'
        f"<figcaption>{escape(words)}</figcaption>"
        '<details class="fold"><summary>Table</summary><table><thead><tr><th scope="col" class="num">error</th>'
        '<th scope="col" class="num">large</th><th scope="col" class="num">small</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details></figure>"
    )


def progress(trials: Mapping[str, int]) -> Markup:
    """The budget as one bar: what is complete, pruned, failed, running; the rest waits."""
    total = max(1, trials["total"])
    x = 0.0
    parts = []
    for state in _STATES:
        wide = 100 * trials[state] / total
        if wide:
            parts.append(
                Markup('<rect class="st-{}" x="{:.2f}" y="0" width="{:.2f}" height="8"/>').format(state, x, wide)
            )
        x += wide
    said = ", ".join(f"{trials[state]} {state}" for state in (*_STATES, "waiting"))
    return Markup(
        '<svg class="progress" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="track" width="100" height="8"/>{}</svg>'
    ).format(said, Markup("").join(parts))


def meter(share: float, tone: str = "accent") -> Markup:
    """A share as a thin bar."""
    return Markup(
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="6"/><rect class="{}" width="{:.1f}" height="6"/></svg>'
    ).format(tone, 100 * min(1.0, max(0.0, share)))


def range_mark(place: float | None, default: float | None) -> Markup:
    """Where a value lies in its searched range, and where its published default does; both 0 to 1."""
    parts = [Markup('<line class="rule" x1="2" x2="98" y1="6" y2="6"/>')]
    if default is not None:
        parts.append(Markup('<line class="median" x1="{0:.1f}" x2="{0:.1f}" y1="1" y2="11"/>').format(2 + 96 * default))
    if place is not None:
        parts.append(Markup('<circle class="best" cx="{:.1f}" cy="6" r="3.5"/>').format(2 + 96 * place))
    return Markup('<svg class="range" viewBox="0 0 100 12" aria-hidden="true">{}</svg>').format(Markup("").join(parts))


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


CHARTS: Mapping[str, Callable[..., Any]] = {
    "strip": strip,
    "sparkline": sparkline,
    "progress": progress,
    "meter": meter,
    "range_mark": range_mark,
}


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
        "signed": signed,
        "duration": duration,
        "param": label,
        "size": size,
        "path": lambda text: quote(str(text), safe=""),
        "family": lambda loss: family_of(loss) if loss else "sum",
        "breakable": breakable,
        "notes": render_notes,
        "percent": lambda share: f"{100 * share:.0f} %",
        "log4": lambda positive: math.log10(positive) / 4,
    }
    found.tests["without_result"] = without_result
    found.globals |= {
        "static": static_files.address,
        "plotly_marks": static_files.plotly_marks,
        "version": tuner.__version__,
        "palette": dict(THEME_COLOURS),
        "query": query,
        **CHARTS,
    }
    return found


def compile_templates() -> None:
    """Compile every template, so that the first visitor of each page does not wait for it."""
    for name in environment().list_templates():
        environment().get_template(name)


ACCOUNT = "<!--account-->"
"""Stands in pages where the header says who is signed in: a page is made once for all who have the same role."""


def render(template: str, request: Request, **context: Any) -> str:
    """Render a page for whoever asks."""
    return _render(template, request, **context).replace(ACCOUNT, _account(request), 1)


def _render(template: str, request: Request, **context: Any) -> str:
    """Render a page for everybody with the same role."""
    rights = " ".join(rights_of(request))
    return environment().get_template(template).render(path=request.url.path, rights=rights, account=ACCOUNT, **context)


def _account(request: Request) -> str:
    """Render who is signed in, or the way to sign in; nothing where there is nobody to be."""
    config = request.app.state.service.config
    identity = identity_of(request)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return (
        environment()
        .get_template("account.html")
        .render(identity=identity, with_login=config.has_tokens, here=here, path=request.url.path)
    )


def page(
    request: Request, template: str, revision: Callable[[], str], context: Callable[[], Mapping[str, Any]]
) -> Response:
    """Answer with a page: 304 where the browser has it, from memory where another browser asked before."""
    state = request.app.state
    place = (request.url.path, request.url.query, rights_of(request)[-1])

    def make() -> tuple[str, bytes]:
        known = revision()
        content = state.remembered.get(
            (known, template, *place), lambda: _render(template, request, **context()).encode("utf-8", "replace")
        )
        return known, content

    known, content = state.service.store.read_snapshot(make)
    account = _account(request).encode()
    tag = tag_of(f"{known}-{hashlib.sha256(account + place[-1].encode()).hexdigest()[:12]}")
    unless_matches(request, tag)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Cookie, Authorization"}
    return Response(
        content.replace(ACCOUNT.encode(), account, 1), headers=headers, media_type="text/html; charset=utf-8"
    )


def query(words: Mapping[str, Any]) -> str:
    """Write the query of an address, without what is empty."""
    return urlencode({key: word for key, word in words.items() if word not in ("", None, [])}, doseq=True)


def number(count: float | None) -> str:
    """Write a count with thin groups."""
    return "–" if count is None else f"{count:,}".replace(",", "\u202f")


def value(metric: float | None, digits: int = 4) -> str:
    """Write a metric."""
    if metric is None:
        return "–"
    metric += 0.0  # no negative zero
    if metric and not 1e-3 <= abs(metric) < 1e4:
        return f"{metric:.3g}"
    return f"{metric:.{digits}f}" if abs(metric) < 10 else f"{metric:.{max(1, digits - 2)}f}"


def signed(difference: float, digits: int = 3) -> str:
    """Write a difference with its sign; one that rounds to zero has none."""
    text = f"{difference:+.{digits}f}"
    return text if float(text) else text[1:]


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
