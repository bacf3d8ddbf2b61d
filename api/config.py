"""Settings of the service, and what its routes are given. The environment is never read later."""

import hmac
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from api.leaderboard_view import LeaderboardView
from api.proxies import TrustedProxies
from tuner.artifacts.local import Artifacts
from tuner.errors import ConfigError
from tuner.figures.data import LossNumbers
from tuner.settings import Settings
from tuner.storage.base import RevisionCache
from tuner.storage.storage import Storage
from tuner.tokens import OWNER, NamedToken, TokenFile, hash_token

if TYPE_CHECKING:
    from tuner.analysis.verdict import Verdict

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Who may reach the service, and how."""

    settings: Settings
    """Storage, artifacts, data root, cache, and the token of the environment."""
    host: str = "127.0.0.1"
    """Address that the server is bound to."""
    private: bool = False
    """Reading needs the token as well (TUNER_API_PRIVATE=1)."""
    allowed_hosts: frozenset[str] = frozenset()
    """Further values of the `Host` header, without a port (TUNER_ALLOWED_HOSTS)."""
    workers: int = 0
    """Workers that are kept beside the service."""
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Cores that the workers of a posted study are assumed to share."""
    tokens: TokenFile | None = None
    """Named tokens (TUNER_TOKENS)."""
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    """Reverse proxies whose headers are believed."""

    @classmethod
    def resolve(
        cls, environment: Mapping[str, str], settings: Settings, *, host: str = "127.0.0.1", workers: int = 0
    ) -> "ServiceSettings":
        """Combine flags and environment.

        Raises:
            ConfigError: An open address without a token; a file of tokens that is missing or broken; proxies that are
                no addresses.
        """
        named = environment.get("TUNER_ALLOWED_HOSTS", "").replace(",", " ").split()
        service = cls(
            settings=settings,
            host=host,
            private=environment.get("TUNER_API_PRIVATE", "") in ("1", "true", "yes"),
            allowed_hosts=frozenset(host_of(name) for name in named),
            workers=workers,
            tokens=_token_file(environment.get("TUNER_TOKENS", "")),
            proxies=TrustedProxies.resolve(environment),
        )
        service.check()
        return service

    def check(self) -> None:
        """Refuse an address that others can reach when there is no token, and privacy that nothing could grant."""
        if not self.is_guarded and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, and TUNER_API_TOKEN is not set.",
                hint="Set TUNER_API_TOKEN to a long random text, or TUNER_TOKENS to a file of named tokens, or serve "
                "on 127.0.0.1.",
                where="--host",
            )
        if self.private and not self.is_guarded:
            raise ConfigError(
                "TUNER_API_PRIVATE is set, but neither TUNER_API_TOKEN nor TUNER_TOKENS is: nobody could sign in.",
                hint="Set TUNER_API_TOKEN to a long random text, or TUNER_TOKENS to a file of named tokens.",
                where="TUNER_API_PRIVATE",
            )

    @property
    def is_guarded(self) -> bool:
        """Whether writes need somebody who is known."""
        return self.has_tokens or self.proxies.user_header is not None

    @property
    def has_tokens(self) -> bool:
        """Whether there is a token with which one could sign in."""
        return self.settings.api_token is not None or self.tokens is not None

    def answers_to(self, host: str) -> bool:
        """Tell whether a `Host` header names this server: no other site's name may lead a browser here."""
        name = host_of(host)
        return name == host_of(self.host) or name in self.allowed_hosts or is_loopback(name)

    def holder_of(self, token: str) -> NamedToken | None:
        """Return whose token this is; None when it opens nothing."""
        own = self.settings.api_token
        if own is not None and hmac.compare_digest(token.encode(), own.encode()):
            return _owner(own)
        return self.tokens.find(token) if self.tokens is not None and token else None

    def holder_by_hash(self, token_hash: str) -> NamedToken | None:
        """Return whose token has this hash; None when it opens nothing any more."""
        own = self.settings.api_token
        if own is not None and hmac.compare_digest(token_hash, hash_token(own)):
            return _owner(own)
        return self.tokens.find_hash(token_hash) if self.tokens is not None else None


def _owner(token: str) -> NamedToken:
    """Return the token of the environment as an entry: it may do everything, and has no end."""
    return NamedToken(OWNER, "admin", hash_token(token), created="")


def _token_file(path: str) -> TokenFile | None:
    return TokenFile(Path(path).expanduser().absolute()) if path else None


@dataclass(frozen=True, slots=True)
class Service:
    """What every route may use."""

    store: Storage
    artifacts: Artifacts
    config: ServiceSettings
    leaderboards: RevisionCache[list[LossNumbers]] = field(default_factory=RevisionCache)
    """Of the newest revision of each study: epochs and heartbeats change none, so most polls find theirs here."""
    standings: RevisionCache[LeaderboardView] = field(default_factory=RevisionCache)
    """What pages of studies say beside, remembered likewise."""
    selected_leaderboards: RevisionCache[list[LossNumbers]] = field(default_factory=lambda: RevisionCache(128))
    """By another stored metric, or of filtered trials: the newest revision of each selection that was asked for."""
    selected_standings: RevisionCache[LeaderboardView] = field(default_factory=lambda: RevisionCache(128))
    """What pages say of those."""
    verdicts: RevisionCache["Verdict | None"] = field(default_factory=RevisionCache)
    """On confirmations: every part of the evidence is shown below the same one."""
    newer_finalists: RevisionCache[tuple[str, ...]] = field(default_factory=RevisionCache)
    """Whom a search would have confirmed today, where these are others."""


def host_of(header: str) -> str:
    """Return the name in a `Host` header or an origin's authority: no port, no brackets, lower case."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") <= 1 else text


def is_loopback(host: str) -> bool:
    """Tell whether an address or name can only be this machine."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
