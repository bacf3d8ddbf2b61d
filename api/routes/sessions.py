"""Sessions: who is signed in with a browser; ended by their owner or by an administrator."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from api.errors import errors
from api.identity import identity_of
from api.schemas import SessionRow
from api.sessions import Sessions, logger, session_cookie
from tuner.errors import NotFoundError

router = APIRouter(tags=["sessions"])

SessionId = Annotated[
    str, Path(description="`id` of a session.", pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"])
]


@router.get("/sessions", summary="List sessions", response_model=list[SessionRow], responses=errors(422))
def list_sessions(request: Request) -> list[dict[str, Any]]:
    """Return the sessions of whoever asks, newest first, and everybody's to an administrator."""
    return visible_sessions(request)


@router.delete("/sessions/{id}", summary="End a session", status_code=204, responses=errors(404, 413, 422))
def end_session(id: SessionId, request: Request) -> None:
    """Sign a browser out: one's own, or any when an administrator asks."""
    row = next((row for row in visible_sessions(request) if row["id"] == id), None)
    if row is None:
        raise NotFoundError(f"there is no session {id!r} of yours.", hint="It may have ended already.")
    sessions: Sessions = request.app.state.sessions
    sessions.end_by_id(id)
    identity = identity_of(request)
    logger.info("%s has ended a session of %s", identity.name if identity else "nobody", row["name"])


def visible_sessions(request: Request) -> list[dict[str, Any]]:
    """Return the sessions that whoever asks may see and end; those whose token is no longer valid are none."""
    identity = identity_of(request)
    if identity is None:
        return []
    sessions: Sessions = request.app.state.sessions
    config = request.app.state.service.config
    mine = sessions.find(session_cookie(request.headers))
    return [
        {
            "id": session.id,
            "name": session.name,
            "role": holder.role,
            "began": session.began.isoformat(),
            "used": session.used.isoformat(),
            "address": session.address,
            "agent": session.agent,
            "current": mine is not None and session.id == mine.id,
        }
        for session in sessions.everyone()
        if (holder := config.holder_by_hash(session.token_hash)) is not None
        and (identity.may("admin") or session.name == identity.name)
    ]
