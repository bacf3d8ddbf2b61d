"""Pages: signing in and out (a token becomes a cookie that scripts cannot read), and the sessions."""

from typing import Annotated
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import ServiceDep
from api.identity import Authenticator, identity_of
from api.routes.sessions import visible_sessions
from api.security import MAX_NEXT, too_many
from api.sessions import COOKIE, LASTS_S, RateLimit, Sessions, logger, session_cookie
from api.templating import render

router = APIRouter()


@router.get("/login")
def show_login(request: Request, next: Annotated[str, Query(max_length=MAX_NEXT)] = "/") -> Response:
    """Ask for the token."""
    return _form(request, 200, next, None)


@router.post("/login")
async def sign_in(request: Request, service: ServiceDep) -> Response:
    """Begin a session when the token is right. The body is small: the guard has bounded it."""
    guesses: RateLimit = request.app.state.guesses
    callers: Authenticator = request.app.state.callers
    sessions: Sessions = request.app.state.sessions
    address = callers.address_of(request.scope)
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    target = form.get("next", ["/"])[0]
    wait = guesses.wait_s(address)
    if wait:
        logger.warning("sign-in from %s was refused: too many wrong tokens", address)
        answer = _form(request, 429, target, f"Too many wrong tokens came from here. Try again in {wait:.0f} s.")
        answer.headers["Retry-After"] = too_many(wait).headers["Retry-After"]
        return answer
    holder = service.config.holder_of(form.get("token", [""])[0].strip())
    if holder is None:
        guesses.note(address)
        logger.warning("sign-in from %s was refused: a wrong token", address)
        return _form(request, 401, target, "That is no token of this service, or not any more.")
    sessions.end(session_cookie(request.headers))
    logger.info("sign-in of %s from %s", holder.name, address)
    answer = Response(status_code=303, headers={"Location": local_address(target)})
    agent = request.headers.get("user-agent", "")
    answer.set_cookie(
        COOKIE,
        sessions.begin(holder.name, holder.hash, address=address, agent=agent),
        max_age=int(LASTS_S),
        httponly=True,
        samesite="strict",
        secure=callers.is_secure(request),
        path="/",
    )
    return answer


@router.post("/logout")
def sign_out(request: Request) -> Response:
    """End the session, here and for every copy of its cookie."""
    sessions: Sessions = request.app.state.sessions
    callers: Authenticator = request.app.state.callers
    identity = identity_of(request)
    sessions.end(session_cookie(request.headers))
    logger.info("sign-out of %s from %s", identity.name if identity else "nobody", callers.address_of(request.scope))
    answer = Response(status_code=303, headers={"Location": "/login"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


@router.get("/sessions")
def show_sessions(request: Request) -> Response:
    """Show who is signed in: one's own sessions, all of them to an administrator."""
    body = render("sessions.html", request, identity=identity_of(request), sessions=visible_sessions(request))
    return Response(body, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})


def _form(request: Request, status: int, target: str, problem: str | None) -> Response:
    body = render("login.html", request, target=local_address(target), problem=problem)
    return Response(body, status, media_type="text/html; charset=utf-8")


def local_address(target: str) -> str:
    """Return path and query of an address of this server, `/` for any other: a sign-in leads nobody elsewhere.

    What is checked is what is sent: nothing is taken out of it afterwards.
    """
    sent = quote(target.strip(), safe="/?&=%+:;,@!$'()*~-._")
    try:
        parts = urlsplit(sent)
    except ValueError:
        return "/"
    fine = sent.startswith("/") and not sent.startswith("//") and not parts.scheme and not parts.netloc
    return sent if fine and target.strip().isprintable() and "\\" not in target else "/"
