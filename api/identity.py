"""Who sends a request, and with which role: by a token, a session, or the header of a trusted proxy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from starlette.datastructures import Headers

from api.config import ServiceSettings
from api.sessions import Sessions, logger, session_cookie
from tuner.errors import RequestError
from tuner.tokens import ROLES, allows


class RoleError(RequestError):
    """Somebody's role does not suffice."""

    code = "forbidden"
    status = 403


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who is known to the service."""

    name: str
    """Name of the token, or of the proxy's user."""
    role: str
    via: Literal["token", "session", "proxy"]

    def may(self, needed: str) -> bool:
        """Tell whether the role suffices."""
        return allows(self.role, needed)

    def require(self, needed: str) -> None:
        """Raise RoleError when the role does not suffice."""
        if not self.may(needed):
            who = f"the user {self.name!r}" if self.via == "proxy" else f"the token {self.name!r}"
            raise RoleError(
                f"this needs the role {needed}, and {who} has the role {self.role}.",
                hint=f"An administrator gives a token with that role: tuner token add NAME --role {needed}.",
                where="Authorization",
            )


class Authenticator:
    """Finds out who sends a request."""

    def __init__(self, config: ServiceSettings, sessions: Sessions) -> None:
        self.config = config
        self.sessions = sessions
        self._warned: set[str] = set()

    def identify(self, scope: Mapping[str, Any], headers: Headers) -> Identity | None:
        """Return who sends a request; None for somebody unknown.

        What was presented on purpose goes first: a token, then a session, then what the proxy says.

        Raises:
            ProxyHeaderError: A trusted proxy's header cannot be understood.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        found = self.config.holder_of(token.strip()) if kind.lower() == "bearer" else None
        if found is not None:
            return Identity(found.name, found.role, "token")
        cookie = session_cookie(headers)
        session = self.sessions.find(cookie)
        if session is not None:
            holder = self.config.holder_by_hash(session.token_hash)
            if holder is not None:
                return Identity(holder.name, holder.role, "session")
            self.sessions.end(cookie)
            logger.warning("a session of %s has ended: its token was revoked or has expired", session.name)
        peer = peer_of(scope)
        user = self.config.proxies.user_of(peer, headers)
        if user is not None:
            return Identity(*user, "proxy")
        self._warn_of_a_stranger(peer, headers)
        return None

    def address_of(self, scope: Mapping[str, Any]) -> str:
        """Return the address of whoever sends a request, through trusted proxies."""
        return self.config.proxies.client_behind(peer_of(scope), Headers(scope=dict(scope)))

    def is_secure(self, request: Request) -> bool:
        """Tell whether the browser speaks TLS, with this server or with a trusted proxy."""
        return request.url.scheme == "https" or self.config.proxies.is_secure(peer_of(request.scope), request.headers)

    def _warn_of_a_stranger(self, peer: str, headers: Headers) -> None:
        """Say once for each address that its header is not believed: it is a forgery, or a proxy that is not named."""
        header = self.config.proxies.user_header
        if header and header in headers and not self.config.proxies.trusts(peer) and len(self._warned) < 1000:
            if peer not in self._warned:
                logger.warning("%s sends %s and is not in TUNER_TRUSTED_PROXIES: the header is ignored", peer, header)
            self._warned.add(peer)


def identity_of(request: Request) -> Identity | None:
    """Return who sends a request, as the middleware has found."""
    found = request.scope.get("state", {}).get("identity")
    return found if isinstance(found, Identity) else None


def require_role(request: Request, needed: str) -> None:
    """Raise RoleError in a route of which a part needs more than the route does (`api/roles.py`)."""
    identity = identity_of(request)
    if identity is not None:
        identity.require(needed)


def rights_of(request: Request) -> tuple[str, ...]:
    """Return the roles that whoever looks at a page has; all of them where nobody need sign in.

    Somebody who has not signed in is shown every button: what needs a role leads to the sign-in.
    """
    identity = identity_of(request)
    return ROLES if identity is None else ROLES[: ROLES.index(identity.role) + 1]


def peer_of(scope: Mapping[str, Any]) -> str:
    """Return the address that a connection comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "an unknown address"
