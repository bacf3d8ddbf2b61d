"""Pages: rendered on the server, alive without a reload, usable without a network."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from api.templating import render


def error_page(request: Request, status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None) -> Response:
    """Return an error as a page: the four fields that JSON errors carry."""
    body = render("error.html", request, status=status, error=error).encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), "text/html; charset=utf-8")
