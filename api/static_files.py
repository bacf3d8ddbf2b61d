"""Static files: our own, and plotly's script from its installed package."""

import gzip
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from api.http_cache import unless_matches
from tuner.errors import NotFoundError

FOLDER = Path(__file__).resolve().parent / "static"
PLOTLY = "plotly.min.js"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".ico": "image/x-icon"}

_MARK = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
def read_static(
    name: Annotated[str, PathParameter(max_length=80)], request: Request, v: Annotated[str | None, Query()] = None
) -> Response:
    """Return a file by its name; with `?v=` in the address it may be kept for ever."""
    if name not in _known():
        raise NotFoundError(f"there is no file {name!r}.")
    content, packed, tag = _read(name)
    unless_matches(request, tag)
    headers = {"ETag": tag, "Vary": "Accept-Encoding"}
    headers["Cache-Control"] = "public, max-age=31536000, immutable" if v is not None else "no-cache"
    if "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = packed, "gzip"
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])


def address(name: str) -> str:
    """Return the address of a file, different for every content."""
    return f"/static/{name}?v={_read(name)[2].strip('W/').strip(chr(34))}"


@cache
def _known() -> frozenset[str]:
    return frozenset(path.name for path in FOLDER.iterdir() if path.suffix in _TYPES) | {PLOTLY}


@cache
def _read(name: str) -> tuple[bytes, bytes, str]:
    """Read a file once: as it is, packed, and its ETag."""
    content = (_plotly() if name == PLOTLY else FOLDER / name).read_bytes()
    return content, gzip.compress(content, 6), f'"{hashlib.sha256(content).hexdigest()[:16]}"'


@cache
def plotly_marks() -> str:
    """Return the ids of style elements that plotly makes unless they are there: the content policy forbids them."""
    return " ".join(sorted({mark.decode() for mark in _MARK.findall(_read(PLOTLY)[0])}))


def _plotly() -> Path:
    """Find plotly's script without importing plotly, which takes a second."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise NotFoundError("the package plotly is not installed.", hint="Reinstall tuner.")
    return Path(spec.origin).parent / "package_data" / PLOTLY
