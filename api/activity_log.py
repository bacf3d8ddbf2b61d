"""Who does what: every route that writes says it here, after it was done."""

from typing import Annotated

from fastapi import Depends, Request

from api.config import Service
from api.dependencies import ServiceDep
from api.identity import identity_of

ANONYMOUS = "anonymous"
"""Actor where the service needs no token."""


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
    identity = identity_of(request)
    return Recorder(service, ANONYMOUS if identity is None else identity.name)


RecorderDep = Annotated[Recorder, Depends(get_recorder)]
