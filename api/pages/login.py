"""Signing in: the token is exchanged for a cookie that scripts cannot read and other sites cannot send."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import ServiceDep
from api.security import COOKIE
from api.templating import render

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
