"""The log of who changed what."""

import json

from fastapi import APIRouter, Request, Response

from api.dependencies import Limit, Offset, ServiceDep, StudyName
from api.errors import READ, errors
from api.http_cache import tag_of, tagged, unless_matches
from api.schemas import ActivityPage
from tuner.storage.storage import Storage

router = APIRouter(tags=["studies"])


@router.get("/activity", summary="Read the log of all studies", response_model=ActivityPage, responses=errors(304, 422))
def read_all_activity(request: Request, service: ServiceDep, limit: Limit = 100, offset: Offset = 0) -> Response:
    """Return who changed what, newest first: of all studies, and of those that were deleted."""
    return _answer(request, service.store, None, limit, offset)


@router.get("/studies/{name}/activity", summary="Read the log of a study", response_model=ActivityPage, responses=READ)
def read_activity(
    name: StudyName, request: Request, service: ServiceDep, limit: Limit = 100, offset: Offset = 0
) -> Response:
    """Return who changed what of a study, newest first."""
    return _answer(request, service.store, name, limit, offset)


def _answer(request: Request, store: Storage, name: str | None, limit: int, offset: int) -> Response:
    etag = tag_of(f"activity-{store.activity.newest(name)}")
    unless_matches(request, etag)
    return tagged(json.dumps(store.activity.page(name, limit=limit, offset=offset)), etag)
