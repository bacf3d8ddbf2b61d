"""Trials: listed, put into the queue, ended by hand; their epochs and files."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.activity_log import RecorderDep
from api.annotation_change import annotation_change
from api.dependencies import Limit, Offset, ServiceDep, StudyName, StudyTag, TrialNumber
from api.errors import READ, WRITE, content, errors
from api.http_cache import tagged
from api.schemas import (
    Annotate,
    Created,
    Enqueue,
    Order,
    Retried,
    Retry,
    Sort,
    State,
    Trial,
    TrialChange,
    TrialDetail,
    TrialPage,
    TrialsChanged,
)
from tuner.errors import NotFoundError, Problem, RequestError, SpecError
from tuner.storage.activity import numbered
from tuner.storage.trial_selection import STARRED, TAG, TEXT, TrialFilter

router = APIRouter(tags=["trials"])

_TYPES = {
    ".png": "image/png",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".yaml": "text/plain",
    ".txt": "text/plain",
}
_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class RangeError(RequestError):
    """A range of bytes that a file does not have."""

    code = "bad_range"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes, and the range begins behind them.", where="Range")


@router.get("/studies/{name}/trials", summary="List trials", response_model=TrialPage, responses=READ)
def list_trials(
    name: StudyName,
    service: ServiceDep,
    tag: StudyTag,
    state: Annotated[State | None, Query(description="Only trials in this state.")] = None,
    loss: Annotated[str | None, Query(description="Only trials of this loss.", max_length=200)] = None,
    sort: Annotated[Sort, Query(description="What is sorted by; rows without it come last.")] = "number",
    order: Annotated[Order, Query(description="Direction.")] = "asc",
    limit: Limit = 100,
    offset: Offset = 0,
    all: Annotated[bool, Query(description="Earlier attempts as well.")] = False,
    with_tag: Annotated[str | None, Query(alias="tag", description="Only trials with it.", max_length=200)] = None,
    starred: Annotated[bool | None, Query(description="Only trials with a star, or without one.")] = None,
    text: Annotated[str | None, Query(description="Only trials with it in notes or tags.", max_length=200)] = None,
) -> Response:
    """Return a page of trials, one row per trial of the budget (its newest attempt)."""
    page = service.store.queries.page(
        name,
        all_attempts=all,
        state=state,
        loss=_clean(loss),
        sort=sort,
        order=order,
        limit=limit,
        offset=offset,
        filters=[
            TrialFilter(name, choices=(given,))
            for name, given in ((TAG, _clean(with_tag)), (STARRED, starred), (TEXT, _clean(text)))
            if given is not None
        ],
    )
    return tagged(json.dumps(page), tag)


@router.post(
    "/studies/{name}/trials", summary="Enqueue a trial", status_code=201, response_model=Created, responses=WRITE
)
def enqueue_trial(
    name: StudyName,
    body: Annotated[Enqueue, Body()],
    service: ServiceDep,
    response: Response,
    record_activity: RecorderDep,
) -> dict[str, int]:
    """Put parameters at the head of the queue: they take one empty waiting trial, else the total grows by one."""
    if not body.params:
        raise SpecError([Problem("params", "empty; name at least one parameter, the sampler chooses the others")])
    number = service.store.studies.enqueue(name, body.params)
    record_activity(name, "enqueue", numbered([number]))
    response.headers["Location"] = f"/api/v1/studies/{name}/trials/{number}"
    return {"number": number}


@router.post("/studies/{name}/retry", summary="Retry failed trials", response_model=Retried, responses=WRITE)
def retry_trials(
    name: StudyName, body: Annotated[Retry, Body()], service: ServiceDep, record_activity: RecorderDep
) -> dict[str, Any]:
    """Put failed trials back into the queue, as `tuner retry` does: after their cause is mended."""
    again = service.store.studies.retry(name, body.trials)
    record_activity(name, "retry", numbered(list(again)))
    return {"retried": [{"trial": old, "attempt": new} for old, new in again.items()]}


@router.post(
    "/studies/{name}/trials/{number}/prune", summary="Prune a running trial", response_model=Trial, responses=WRITE
)
def prune_trial(
    name: StudyName, number: TrialNumber, service: ServiceDep, record_activity: RecorderDep
) -> dict[str, Any]:
    """End one hopeless running trial at its next report."""
    service.store.queries.trial(name, number)
    service.store.studies.prune_manually(name, number)
    record_activity(name, "prune", numbered([number]))
    return service.store.queries.trial(name, number)


@router.post("/studies/{name}/annotate", summary="Tag or star trials", response_model=TrialsChanged, responses=WRITE)
def annotate_trials(
    name: StudyName, body: Annotated[Annotate, Body()], service: ServiceDep, record_activity: RecorderDep
) -> dict[str, int]:
    """Add and remove tags of several trials, and set their stars: of all of them or of none."""
    change, words = annotation_change(body)
    if words:
        service.store.annotations.change_trials(name, body.trials, change)
        record_activity(name, "annotate", f"{numbered(body.trials)}: {words}")
    return {"trials": len(set(body.trials))}


@router.patch(
    "/studies/{name}/trials/{number}", summary="Change notes, tags, star", response_model=Trial, responses=WRITE
)
def change_trial(
    name: StudyName,
    number: TrialNumber,
    body: Annotated[TrialChange, Body()],
    service: ServiceDep,
    record_activity: RecorderDep,
) -> dict[str, Any]:
    """Change what people have written beside a trial, as `PATCH /studies/{name}` does; all its attempts share it."""
    change, words = annotation_change(body)
    if words:
        service.store.annotations.change_trials(name, [number], change)
        record_activity(name, "annotate", f"{numbered([number])}: {words}")
    return service.store.queries.trial(name, number)


@router.get("/studies/{name}/trials/{number}", summary="Read a trial", response_model=TrialDetail, responses=READ)
def read_trial(name: StudyName, number: TrialNumber, service: ServiceDep, tag: StudyTag) -> Response:
    """Return a trial with its epochs (`history`) and its files."""
    trial = service.store.queries.trial(name, number)
    history = service.store.queries.epochs(name, number)
    files = [
        {"name": f.name, "size": f.size, "url": artifact_url(name, number, f.name)}
        for f in service.artifacts.listing(name, number)
    ]
    return tagged(json.dumps(trial | {"history": history, "artifacts": files}), tag)


@router.get(
    "/studies/{name}/trials/{number}/artifacts/{file}",
    summary="Download a file of a trial",
    response_class=Response,
    responses=errors(404, 416, 422) | content(*_TYPES.values(), "application/octet-stream"),
)
def read_artifact(
    name: StudyName,
    number: TrialNumber,
    file: Annotated[str, Path(description="Name of the file.", max_length=200, examples=["metrics.jsonl"])],
    request: Request,
    service: ServiceDep,
) -> Response:
    """Return a file as it is, or one range of its bytes; never as something that a browser would run."""
    record = service.store.studies.get(name)
    handle = service.artifacts.open(name, number, file)
    size = handle.seek(0, 2)
    first, last, status = byte_range(request.headers.get("range"), size)
    length = {"Content-Length": str(last - first + 1)}
    if status == 206:
        length["Content-Range"] = f"bytes {first}-{last}/{size}"
    elif status == 416:
        handle.close()
        raise RangeError(size)
    handle.seek(first)
    suffix = "." + file.rpartition(".")[2]
    by_program = (record.spec.get("train") or {}).get("command") is not None  # nothing of what it writes is believed
    shown = suffix == ".png" and not by_program
    return StreamingResponse(
        _chunks(handle, last - first + 1),
        status_code=status,
        media_type=_TYPES.get(suffix, "application/octet-stream"),
        headers={
            "Content-Disposition": "inline" if shown else f'attachment; filename="{name}-{number}-{file}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "no-cache",
            "Accept-Ranges": "bytes",
            "Content-Encoding": "identity",
            **length,
        },
    )


def artifact_url(name: str, number: int, file: str) -> str:
    """Return where a file of a trial is found."""
    return f"/api/v1/studies/{quote(name)}/trials/{number}/artifacts/{quote(file)}"


def byte_range(asked: str | None, size: int) -> tuple[int, int, int]:
    """Return first byte, last byte and status of the answer to a `Range` header (RFC 9110, 14.2).

    One range is answered by 206, one that lies beyond the end by 416; several, or another unit, by the whole file.
    """
    found = _RANGE.fullmatch((asked or "").strip())
    if found is None or not (found[1] or found[2]):
        return 0, size - 1, 200
    if not found[1]:
        count = int(found[2])
        return (max(0, size - count), size - 1, 206) if count and size else (0, -1, 416)
    first, last = int(found[1]), min(int(found[2] or size), size - 1)
    if found[2] and int(found[2]) < first:
        return 0, size - 1, 200
    return (first, last, 206) if first < size else (0, -1, 416)


def _chunks(handle: BinaryIO, left: int) -> Iterator[bytes]:
    """Yield so many bytes: a file that grows meanwhile is not sent beyond the length that was announced."""
    with handle:
        while left > 0 and (chunk := handle.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _clean(text: str | None) -> str | None:
    """Refuse what no database takes as a text."""
    if text is not None and "\x00" in text:
        raise NotFoundError(f"{text!r} is no text that anything can be found by.")
    return text
