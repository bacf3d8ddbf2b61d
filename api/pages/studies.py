"""List, login.

Signing in: the token is exchanged for a cookie that scripts cannot read and other sites cannot send.

All studies.
"""

from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep
from api.pages.study import time_left
from api.security import COOKIE
from api.templating import page, render

router = APIRouter()


@router.get("/login")
def show_login(request: Request, next: Annotated[str, Query(max_length=500)] = "/") -> Response:
    """Ask for the token."""
    return _form(request, 200, next, None)


@router.post("/login")
async def sign_in(request: Request, service: ServiceDep) -> Response:
    """Set the session's cookie when the token is right. The body is small: the guard has bounded it."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    target = form.get("next", ["/"])[0]
    if not service.config.is_token(form.get("token", [""])[0].strip()):
        return _form(request, 401, target, "That is not the token that this server was started with.")
    answer = Response(status_code=303, headers={"Location": _local(target)})
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, service.config.session(), httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@router.post("/logout")
def sign_out() -> Response:
    """Forget the session."""
    answer = Response(status_code=303, headers={"Location": "/login"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _form(request: Request, status: int, target: str, problem: str | None) -> Response:
    body = render("login.html", request, target=_local(target), problem=problem)
    return Response(body, status, media_type="text/html; charset=utf-8")


def _local(target: str) -> str:
    """Return a path of this server only: a sign-in must not send people elsewhere."""
    fine = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target.encode("ascii", "ignore").decode() if fine else "/"


SORTS = ("newest", "name", "progress", "best")
ON_A_PAGE = 50


@router.get("/")
def show_studies(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[Literal["newest", "name", "progress", "best"], Query()] = "newest",
    offset: Offset = 0,
) -> Response:
    """List studies: newest first unless asked otherwise."""

    def context() -> dict[str, Any]:
        everything = service.store.queries.studies()[::-1]
        found = [s for s in everything if search.lower() in f"{s['name']} {s['dataset']} {s['phase']}".lower()]
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
            "offset": offset,
            "step": ON_A_PAGE,
            "live": figures.live_count(),
        }

    return page(request, "studies.html", lambda: f"{figures.overview_revision()}-{figures.live_count()}", context)


def _done(study: dict[str, Any]) -> int:
    trials = study["trials"]
    return int(trials["complete"] + trials["pruned"] + trials["failed"])
