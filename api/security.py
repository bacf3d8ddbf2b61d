"""Security middleware: Host, body size, token or session, Origin, and response headers."""

import asyncio
import math
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_response, wants_page
from api.identity import Authenticator, Identity, RoleError
from api.proxies import ProxyHeaderError
from api.roles import role_for_write
from api.route_table import RouteTable
from api.sessions import MAX_WRITES, WINDOW_S, RateLimit, logger

MAX_BODY = 1_000_000
"""Bytes of a request's body."""
MAX_DRAINED_BYTES = 16 * MAX_BODY
"""So much of a body that is too large is still read, so that the client comes to hear the refusal."""
BODY_S = 20.0
"""Within this a body must have come."""
MAX_NEXT = 500
"""Characters of the address that a sign-in leads back to."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_PATHS = ("/healthz", "/readyz", "/login", "/logout")
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""Hash of nothing: plotly makes an empty style sheet and fills it by rules, which the policy allows."""
POLICY = (
    f"default-src 'self'; style-src 'self' {_EMPTY}; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityMiddleware:
    """ASGI middleware; the outermost one."""

    def __init__(self, app: ASGIApp, *, callers: Authenticator, routes: RouteTable, guesses: RateLimit) -> None:
        self.app = app
        self.callers = callers
        self.config = callers.config
        self.routes = routes
        self.guesses = guesses
        self.writes = RateLimit(MAX_WRITES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what must not reach a route."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] == "HEAD":  # the server leaves the body out by itself
            scope = {**scope, "method": "GET"}
        refusal = self._refuse(scope)
        if refusal is None and scope["method"] not in _SAFE:
            try:
                async with asyncio.timeout(BODY_S):
                    body = await _whole_body(receive)
            except TimeoutError:
                refusal = _too_slow()
            else:
                if body is None:
                    refusal = _too_large()
                else:
                    receive = _replay(body, receive)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not self.config.answers_to(headers["host"]):
            return error_response(
                400,
                f"{headers.get('host', '')!r} is not a name of this server.",
                code="bad_host",
                hint="Name further hosts in TUNER_ALLOWED_HOSTS.",
                where="Host",
            )
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > MAX_BODY:
            return _too_large()
        try:
            identity = self.callers.identify(scope, headers)
            if identity is not None:
                scope.setdefault("state", {})["identity"] = identity
            return (
                self._unauthorized(scope, headers, identity)
                or self._foreign(scope, headers, identity)
                or self._busy(scope, identity)
            )
        except (ProxyHeaderError, RoleError) as error:
            return error_response(error.status, error.message, code=error.code, hint=error.hint, where=error.where)

    def _unauthorized(self, scope: Scope, headers: Headers, identity: Identity | None) -> Response | None:
        path, writes = scope["path"], scope["method"] not in _SAFE
        if not self.config.is_guarded or path in _OPEN_PATHS or path.startswith("/static/"):
            return None
        if not (writes or self.config.private):
            return None
        if identity is not None:
            identity.require(self._needed(scope))
            return None
        token = headers.get("authorization", "").partition(" ")[2]
        if token:
            refusal = self._too_many(scope)
            if refusal is not None:
                return refusal
        if wants_page(scope) and not writes:
            return Response(status_code=303, headers={"Location": f"/login?next={quote(_address(scope), safe='')}"})
        return error_response(
            401,
            "this needs a token of the service." if not token else "that is no token of the service, or not any more.",
            hint="Send `Authorization: Bearer <token>`; pages sign in at /login.",
            where="Authorization",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _needed(self, scope: Scope) -> str:
        """Return the role that a request needs; where there is no route, that is said to everybody."""
        if scope["method"] in _SAFE:
            return "read"
        route = self.routes.name(scope["method"], scope["path"])
        return "read" if route is None else role_for_write(route)

    def _too_many(self, scope: Scope) -> Response | None:
        """Note a wrong token; refuse an address that has sent too many of them."""
        address = self.callers.address_of(scope)
        wait = self.guesses.wait_s(address)
        if wait:
            return too_many(wait)
        self.guesses.note(address)
        logger.warning("a wrong token from %s for %s %r", address, scope["method"], scope["path"])
        return None

    def _busy(self, scope: Scope, identity: Identity | None) -> Response | None:
        """Note a write; refuse who has written too often."""
        if identity is None or scope["method"] in _SAFE or scope["path"] in _OPEN_PATHS:
            return None
        wait = self.writes.wait_s(identity.name)
        if not wait:
            self.writes.note(identity.name)
            return None
        return error_response(
            429,
            f"{identity.name!r} has written {MAX_WRITES} times within {WINDOW_S:.0f} s.",
            code="too_many_requests",
            hint=f"Try again in {math.ceil(wait)} s.",
            where="Authorization",
            headers={"Retry-After": str(math.ceil(wait))},
        )

    def _foreign(self, scope: Scope, headers: Headers, identity: Identity | None) -> Response | None:
        """Refuse writes that another site makes a browser send; a bearer token is sent by no browser by itself.

        A header that a proxy adds is: whoever is known by that, or by a cookie, writes from this server's pages only.
        """
        if scope["method"] in _SAFE:
            return None
        is_bearer = headers.get("authorization", "").lower().startswith("bearer ")  # browsers add Basic by themselves
        if is_bearer and (identity is None or identity.via == "token"):
            return None
        origin = headers.get("origin")
        if origin is None and not headers.get("cookie") and headers.get("sec-fetch-site") in (None, "none"):
            return None
        if origin is not None and urlsplit_netloc(origin) == headers.get("host", "").lower():
            return None
        return error_response(
            403,
            f"a write from {origin or 'an unknown origin'!r} was refused.",
            code="bad_origin",
            hint="Pages may write to the server that they come from; programs send `Authorization: Bearer …`.",
            where="Origin",
        )


def too_many(wait_s: float) -> Response:
    """Refuse somebody who has sent too many wrong tokens."""
    return error_response(
        429,
        "too many wrong tokens came from this address.",
        code="too_many_requests",
        hint=f"Try again in {math.ceil(wait_s)} s.",
        where="Authorization",
        headers={"Retry-After": str(math.ceil(wait_s))},
    )


def _address(scope: Scope) -> str:
    """Return path and query of a request, the path alone where that is long."""
    query = scope.get("query_string", b"").decode("latin-1")
    path = quote(scope["path"])
    whole = f"{path}?{query}" if query else path
    return next((text for text in (whole, path) if len(text) <= MAX_NEXT), "/")


def urlsplit_netloc(origin: str) -> str | None:
    """Return the authority of an origin; None when it is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _too_large() -> Response:
    return error_response(
        413,
        f"the body has more than {MAX_BODY} bytes.",
        code="too_large",
        hint="A study file is a few kilobytes.",
        headers={"Connection": "close"},
    )


def _too_slow() -> Response:
    return error_response(
        400, f"the body did not come within {BODY_S:.0f} s.", code="too_slow", headers={"Connection": "close"}
    )


async def _whole_body(receive: Receive) -> bytes | None:
    """Read the body, None when it is too large: a chunked one announces no length. `MAX_BODY` bytes are kept."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            parts.clear()
        else:
            parts.append(message.get("body", b""))
        if size > MAX_DRAINED_BYTES or not message.get("more_body"):
            return b"".join(parts) if size <= MAX_BODY else None


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replayed() -> Message:
        for message in pending:
            return message
        return await receive()

    return replayed
