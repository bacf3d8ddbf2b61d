"""Who does what: every route that writes says it here, after it was done."""

from typing import Annotated

from fastapi import Depends, Request

from api.config import Service
from api.dependencies import ServiceDep

SERVICE_TOKEN, ANONYMOUS = "service token", "anonymous"
"""Actors that no named token stands for: whoever has the service's own, or anybody where it needs none."""


class Recorder:
    """The log of activity, with the actor of one request."""

    def __init__(self, service: Service, actor: str) -> None:
        self._service = service
        self.actor = actor

    def __call__(self, study: str, action: str, detail: str = "") -> None:
        """Record what was done to a study."""
        self._service.store.activity.record(study, action, actor=self.actor, detail=detail)


async def get_recorder(request: Request, service: ServiceDep) -> Recorder:
    """Return the log with the actor that the guard has found; it waits for nothing and needs no thread."""
    unnamed = ANONYMOUS if service.config.settings.api_token is None else SERVICE_TOKEN
    return Recorder(service, str(request.scope.get("state", {}).get("actor") or unnamed))


RecorderDep = Annotated[Recorder, Depends(get_recorder)]
