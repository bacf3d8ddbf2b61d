"""Pages: the list of studies, and signing in (the token becomes a cookie that scripts cannot read)."""

from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep
from api.pages.study import time_left
from api.schemas import Archived
from api.security import COOKIE, MAX_NEXT, client_of, session_cookie, too_many
from api.sessions import LASTS_S, Guesses, Sessions, logger
from api.study_filter import StudyFilter
from api.templating import page, render

router = APIRouter()


@router.get("/login")
def show_login(request: Request, next: Annotated[str, Query(max_length=MAX_NEXT)] = "/") -> Response:
    """Ask for the token."""
    return _form(request, 200, next, None)


@router.post("/login")
async def sign_in(request: Request, service: ServiceDep) -> Response:
    """Begin a session when the token is right. The body is small: the guard has bounded it."""
    guesses: Guesses = request.app.state.guesses
    sessions: Sessions = request.app.state.sessions
    address = client_of(request.scope)
    form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    target = form.get("next", ["/"])[0]
    wait = guesses.wait_s(address)
    if wait:
        logger.warning("sign-in from %s was refused: too many wrong tokens", address)
        answer = _form(request, 429, target, f"Too many wrong tokens came from here. Try again in {wait:.0f} s.")
        answer.headers["Retry-After"] = too_many(wait).headers["Retry-After"]
        return answer
    if not service.config.is_token(form.get("token", [""])[0].strip()):
        guesses.failed(address)
        logger.warning("sign-in from %s was refused: a wrong token", address)
        return _form(request, 401, target, "That is not the token that this server was started with.")
    sessions.end(session_cookie(request.headers))
    logger.info("sign-in from %s", address)
    answer = Response(status_code=303, headers={"Location": local_address(target)})
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, sessions.begin(), max_age=int(LASTS_S), httponly=True, samesite="strict", secure=secure, path="/"
    )
    return answer


@router.post("/logout")
def sign_out(request: Request) -> Response:
    """End the session, here and for every copy of its cookie."""
    sessions: Sessions = request.app.state.sessions
    sessions.end(session_cookie(request.headers))
    logger.info("sign-out from %s", client_of(request.scope))
    answer = Response(status_code=303, headers={"Location": "/login"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


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


SORTS = ("newest", "name", "progress", "best")
ON_A_PAGE = 50
ARCHIVED: dict[str, Archived] = {"archived": "only", "all": "include"}


@router.get("/")
def show_studies(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[Literal["newest", "name", "progress", "best"], Query()] = "newest",
    show: Annotated[Literal["active", "starred", "archived", "all"], Query()] = "active",
    tag: Annotated[str, Query(max_length=200)] = "",
    offset: Offset = 0,
) -> Response:
    """List studies: newest first unless asked otherwise, those that are archived only when they are asked for."""
    archived = ARCHIVED.get(show, "exclude")
    chosen = StudyFilter(archived, tag or None, True if show == "starred" else None, search)

    def context() -> dict[str, Any]:
        everything = service.store.queries.studies()[::-1]
        found = [s for s in everything if chosen.holds(s)]
        by_name = {s["name"]: s for s in found}
        if sort == "name":
            found.sort(key=lambda s: s["name"].lower())
        elif sort == "progress":
            found.sort(key=lambda s: -_done(s) / max(1, s["trials"]["total"]))
        elif sort == "best":
            found.sort(key=lambda s: (s["best"] is None, -(s["best"] or {"value": 0})["value"]))
        shown = found[offset : offset + ON_A_PAGE]
        running = [s["name"] for s in shown if s["phase"] == "running" and not s["foreign"]]
        return {
            "studies": shown,
            "left": {s: time_left(figures, service.store.studies.get(s).study_id, by_name[s]) for s in running},
            "total": len(found),
            "any": bool(everything),
            "search": search,
            "sort": sort,
            "sorts": SORTS,
            "words": {"search": search, "sort": sort, "show": show if show != "active" else "", "tag": tag},
            "show": show,
            "tag": tag,
            "archived": sum(s["archived"] for s in everything),
            "offset": offset,
            "step": ON_A_PAGE,
            "live": figures.live_count(),
        }

    return page(request, "studies.html", lambda: f"{figures.overview_revision()}-{figures.live_count()}", context)


def _done(study: dict[str, Any]) -> int:
    trials = study["trials"]
    return int(trials["complete"] + trials["pruned"] + trials["failed"])
