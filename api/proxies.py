"""Trusted reverse proxies: which addresses may say, by headers, whose request they pass on."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from tuner.errors import ConfigError, RequestError
from tuner.tokens import ROLES

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NO_ROLE = "none"
"""As the default role: whoever the proxy gives no role is refused."""
MAX_NAME = 200


class ProxyHeaderError(RequestError):
    """A trusted proxy names no user, several, or a role that there is not."""

    code = "forbidden"
    status = 403


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """What is believed of the headers of a request, and from which addresses."""

    networks: tuple[Network, ...] = ()
    """Addresses of the proxies (TUNER_TRUSTED_PROXIES)."""
    user_header: str | None = None
    """Header with the name of a user that the proxy has signed in (TUNER_AUTH_HEADER)."""
    role_header: str | None = None
    """Header with the user's role (TUNER_AUTH_ROLE_HEADER)."""
    default_role: str = "read"
    """Role without such a header (TUNER_AUTH_DEFAULT_ROLE)."""

    @classmethod
    def resolve(cls, environment: Mapping[str, str]) -> "TrustedProxies":
        """Read the environment.

        Raises:
            ConfigError: An address is none, a role is none, or a header would be believed from anybody or nobody.
        """
        named = environment.get("TUNER_TRUSTED_PROXIES", "").replace(",", " ").split()
        user, role = environment.get("TUNER_AUTH_HEADER") or None, environment.get("TUNER_AUTH_ROLE_HEADER") or None
        default = environment.get("TUNER_AUTH_DEFAULT_ROLE") or "read"
        if user is not None and not named:
            raise ConfigError(
                "TUNER_AUTH_HEADER is set, but TUNER_TRUSTED_PROXIES is not: anybody could send that header.",
                hint="Name the addresses of the proxy, such as 127.0.0.1 or 10.0.3.0/24.",
                where="TUNER_TRUSTED_PROXIES",
            )
        if role is not None and user is None:
            raise ConfigError(
                "TUNER_AUTH_ROLE_HEADER is set, but TUNER_AUTH_HEADER is not: a role of whom?",
                hint="Name the header with the user, such as X-Forwarded-User.",
                where="TUNER_AUTH_ROLE_HEADER",
            )
        if default not in (*ROLES, NO_ROLE):
            raise ConfigError(
                f"{default!r} is no role.", hint=f"{', '.join(ROLES)} or {NO_ROLE}.", where="TUNER_AUTH_DEFAULT_ROLE"
            )
        return cls(tuple(map(_network, named)), user, role, default)

    def trusts(self, address: str) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self.networks)

    def client_behind(self, peer: str, headers: Headers) -> str:
        """Return the address that a request comes from: the last one of X-Forwarded-For that is no proxy of ours."""
        if not self.trusts(peer):
            return peer
        chain = [part.strip() for line in headers.getlist("x-forwarded-for") for part in line.split(",")]
        return next((address for address in reversed(chain) if address and not self.trusts(address)), peer)

    def is_secure(self, peer: str, headers: Headers) -> bool:
        """Tell whether a trusted proxy was reached over TLS."""
        return self.trusts(peer) and headers.get("x-forwarded-proto", "").strip().lower() == "https"

    def user_of(self, peer: str, headers: Headers) -> tuple[str, str] | None:
        """Return name and role of the user whom a trusted proxy names; None where there is none.

        Raises:
            ProxyHeaderError: The header stands there twice, holds no plain name, or the role is none.
        """
        if self.user_header is None or not self.trusts(peer):
            return None
        names = headers.getlist(self.user_header)
        if not names or names == [""]:
            return None
        name = names[0].strip()
        if len(names) > 1 or not name or not name.isprintable() or "," in name or len(name) > MAX_NAME:
            raise ProxyHeaderError(
                f"the proxy's header {self.user_header} must hold one name, and once.",
                hint="The proxy has to replace what a client sends under this name.",
                where=self.user_header,
            )
        return name, self._role(name, headers)

    def _role(self, name: str, headers: Headers) -> str:
        given = headers.getlist(self.role_header) if self.role_header else []
        if len(given) > 1:
            raise ProxyHeaderError(f"the proxy's header {self.role_header} stands there twice.", where=self.role_header)
        role = given[0].strip().lower() if given and given[0].strip() else self.default_role
        if role not in ROLES:
            raise ProxyHeaderError(
                f"{name!r} has no role here (found {role!r}).",
                hint=f"The proxy gives one of {', '.join(ROLES)} by {self.role_header or 'TUNER_AUTH_ROLE_HEADER'}.",
                where=self.role_header or self.user_header,
            )
        return role


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no address of a proxy.",
            hint="Addresses or networks, such as 127.0.0.1 or 10.0.3.0/24.",
            where="TUNER_TRUSTED_PROXIES",
        ) from error
