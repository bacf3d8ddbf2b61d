"""Error bodies that routes announce in OpenAPI."""

from typing import Any

from api.schemas import ErrorBody

_WORDS = {
    304: "Nothing has changed since the ETag that was sent.",
    400: "A wrong `Host`, or a body that is not JSON.",
    401: "The token is missing or wrong.",
    403: "A write from another origin.",
    404: "There is no such study, trial or file.",
    409: "The state of the study forbids this.",
    413: "The body has more than 1 MB.",
    422: "A value is not legal; the message says which and what would be.",
    503: "The storage does not answer.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses, and those that every route may answer."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in (*statuses, 400, 401, 503):
        found[status] = {"description": _WORDS[status]} | ({} if status == 304 else {"model": ErrorBody})
    return found


READ = errors(304, 404, 409, 422)
WRITE = errors(403, 404, 409, 413, 422)


def content(*types: str) -> dict[int | str, dict[str, Any]]:
    """Describe a 200 of these media types, beside the JSON that the route declares."""
    return {200: {"description": "What was asked for.", "content": {name: {} for name in types}}}
