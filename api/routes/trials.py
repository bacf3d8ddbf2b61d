"""Trials: listed, put into the queue, ended by hand; their epochs and files."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.responses import StreamingResponse

from api.dependencies import Limit, Offset, ServiceDep, StudyName, StudyTag, TrialNumber, tagged
from api.errors import READ, WRITE, content, errors
from api.schemas import Created, Enqueue, Order, Sort, State, Trial, TrialDetail, TrialPage
from tuner.errors import NotFoundError

router = APIRouter(tags=["trials"])

_TYPES = {
    ".png": "image/png",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".yaml": "text/plain",
    ".txt": "text/plain",
}
_CHUNK = 256 * 1024


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
    )
    return tagged(json.dumps(page), tag)


@router.post(
    "/studies/{name}/trials", summary="Try a point next", status_code=201, response_model=Created, responses=WRITE
)
def enqueue_trial(
    name: StudyName, body: Annotated[Enqueue, Body()], service: ServiceDep, response: Response
) -> dict[str, int]:
    """Put parameters at the head of the queue: they take one empty waiting trial, else the total grows by one."""
    number = service.store.studies.enqueue(name, body.params)
    response.headers["Location"] = f"/api/v1/studies/{name}/trials/{number}"
    return {"number": number}


@router.post(
    "/studies/{name}/trials/{number}/prune", summary="End a running trial", response_model=Trial, responses=WRITE
)
def prune_trial(name: StudyName, number: TrialNumber, service: ServiceDep) -> dict[str, Any]:
    """End one hopeless running trial at its next report."""
    service.store.queries.trial(name, number)
    service.store.studies.prune_manually(name, number)
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
    responses=errors(404, 422) | content(*_TYPES.values(), "application/octet-stream"),
)
def read_artifact(
    name: StudyName,
    number: TrialNumber,
    file: Annotated[str, Path(description="Name of the file.", max_length=200, examples=["metrics.jsonl"])],
    service: ServiceDep,
) -> Response:
    """Return a file as it is, never as something that a browser would run."""
    service.store.studies.get(name)
    handle = service.artifacts.open(name, number, file)
    suffix = "." + file.rpartition(".")[2]
    shown = suffix == ".png"
    return StreamingResponse(
        _chunks(handle),
        media_type=_TYPES.get(suffix, "application/octet-stream"),
        headers={
            "Content-Disposition": "inline" if shown else f'attachment; filename="{name}-{number}-{file}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "no-cache",
        },
    )


def artifact_url(name: str, number: int, file: str) -> str:
    """Return where a file of a trial is found."""
    return f"/api/v1/studies/{quote(name)}/trials/{number}/artifacts/{quote(file)}"


def _chunks(handle: BinaryIO) -> Iterator[bytes]:
    with handle:
        while chunk := handle.read(_CHUNK):
            yield chunk


def _clean(loss: str | None) -> str | None:
    """Refuse what no database takes as a text."""
    if loss is not None and "\x00" in loss:
        raise NotFoundError(f"{loss!r} is not the name of a loss.")
    return loss
