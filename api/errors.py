"""Error responses: one JSON shape, the same four fields on a page, and what routes announce of them in OpenAPI."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.http_cache import NotModifiedError, not_modified
from api.pages import error_page
from api.schemas import ErrorBody
from tuner.errors import TunerError

_WORDS = {
    304: "Nothing has changed since the ETag that was sent.",
    400: "A wrong `Host`, or a body that is not JSON.",
    401: "The token is missing, wrong, revoked or has expired.",
    403: "The token has not the role that this needs; or a write from another origin.",
    404: "There is no such study, trial or file.",
    409: "The state of the study forbids this.",
    413: "The body has more than 1 MB.",
    416: "The range begins behind the end of the file.",
    422: "A value is not legal; the message says which and what would be.",
    429: "Too many wrong tokens of this address, or writes of this token: `Retry-After` tells the seconds.",
    503: "The storage does not answer.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses, and those that every route may answer."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in (*statuses, 400, 401, 403, 429, 503):
        found[status] = {"description": _WORDS[status]} | ({} if status == 304 else {"model": ErrorBody})
    return found


READ = errors(304, 404, 409, 422)
WRITE = errors(404, 409, 413, 422)


def content(*types: str) -> dict[int | str, dict[str, Any]]:
    """Describe a 200 of these media types, beside the JSON that the route declares."""
    return {200: {"description": "What was asked for.", "content": {name: {} for name in types}}}


logger = logging.getLogger(__name__)

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    429: "too_many_requests",
}
_HINTS = {
    404: "The API is under /api/v1 and described in /openapi.json; the pages begin at /.",
    405: "The header `Allow` and /openapi.json say which methods there are.",
}


def error_response(
    status: int,
    message: str,
    *,
    code: str | None = None,
    hint: str | None = None,
    where: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the contract's shape. Text is escaped to ASCII, for it may hold what is no legal UTF-8."""
    error = {
        "code": code or _CODES.get(status, "error"),
        "message": message,
        "hint": hint or _HINTS.get(status),
        "where": where,
    }
    return Response(json.dumps({"error": error}), status, dict(headers or {}), "application/json")


def wants_page(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request comes from somebody who looks at pages."""
    if str(scope.get("path", "")).startswith("/api/"):
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope.get("headers", ()))


def register_handlers(app: FastAPI) -> None:
    """Give the application its answers to every kind of failure."""
    app.add_exception_handler(TunerError, _tuner_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(NotModifiedError, _not_modified)
    app.add_exception_handler(Exception, _unexpected)


def _public(error: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out where the storage lies: a client knows it by no path of the server's."""
    where = str(error.get("where") or "")
    return {**error, "where": None if "://" in where or where.startswith("/") else error.get("where")}


def _answer(request: Request, status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None) -> Response:
    if wants_page(request.scope):
        return error_page(request, status, error, headers)
    return Response(json.dumps({"error": error}), status, dict(headers or {}), "application/json")


def _tuner_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TunerError)
    if error.status >= 500:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(request, error.status, _public(error.as_dict()), None)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [(_place(item["loc"]), _sentence(item)) for item in error.errors()]
    message = "; ".join(f"{place}: {text}" for place, text in found[:10])
    body = {"code": "invalid_request", "message": message, "hint": "/openapi.json says what is legal."}
    return _answer(request, 422, body | {"where": found[0][0] if found else None}, None)


def _sentence(item: Mapping[str, Any]) -> str:
    """Begin a message with a small letter, for it follows its place; names keep theirs."""
    text = str(item["msg"])
    if item.get("type") == "json_invalid":
        said = str((item.get("ctx") or {}).get("error", "")).lower()
        return f"not valid JSON{': ' if said else ''}{said}"
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _place(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail or HTTPStatus(error.status_code).phrase
    if error.status_code == 404 and message == "Not Found":
        message = f"there is nothing at {request.url.path!r}."
    body = {
        "code": _CODES.get(error.status_code, "error"),
        "message": message,
        "hint": _HINTS.get(error.status_code),
        "where": None,
    }
    headers = dict(error.headers or {})
    if error.status_code == 405:
        own = [method.strip() for method in headers.get("Allow", "").split(",") if method.strip()]
        headers["Allow"] = ", ".join(sorted({*own, *request.app.state.routes.methods(request.url.path)}))
    return _answer(request, error.status_code, body, headers)


def _not_modified(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotModifiedError)
    return not_modified(error.tag)


def _unexpected(request: Request, error: Exception) -> Response:
    logger.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {
        "code": "internal",
        "message": "the service failed to answer this.",
        "hint": "Its log says why; please report it.",
        "where": None,
    }
    return _answer(request, 500, body, None)
