"""What routes are given, and the parameters that many of them share."""

from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request, Response

from api.config import Service
from api.http_cache import tag_of, unless_matches
from tuner.storage.dashboard_queries import FigureQueries

MAX_NUMBER = 2**31 - 1
"""Largest number of a trial, offset or epoch: what the databases' integers hold."""


async def get_service(request: Request) -> Service:
    """Return what `create_app` was given. Like `get_figures`, it waits for nothing and needs no thread."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


async def get_figures(service: ServiceDep) -> FigureQueries:
    """Return the queries that figures and pages need."""
    return FigureQueries(service.store)


FiguresDep = Annotated[FigureQueries, Depends(get_figures)]

StudyName = Annotated[
    str,
    Path(description="Name of a study.", examples=["organs"], max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$"),
]
TrialNumber = Annotated[int, Path(description="Number of a trial, from 0.", ge=0, le=MAX_NUMBER, examples=[3])]
Limit = Annotated[int, Query(description="At most so many items.", ge=1, le=1000)]
Offset = Annotated[int, Query(description="Items that are passed over.", ge=0, le=MAX_NUMBER)]


def study_tag(name: StudyName, request: Request, response: Response, service: ServiceDep) -> str:
    """Return the ETag of a study as it is now, after answering 304 where nothing has changed."""
    tag = tag_of(service.store.queries.revision(name))
    unless_matches(request, tag)
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "no-cache"
    return tag


StudyTag = Annotated[str, Depends(study_tag)]
