"""Sessions of signed-in users, and rate limits. Both live as long as the process."""

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

logger = logging.getLogger(__name__)
"""Says who signs in and who is refused; `tuner serve` shows it."""

COOKIE = "tuner_session"
LASTS_S = 7 * 86400.0
"""A session ends so long after its sign-in, used or not."""
IDLE_S = 86400.0
"""A session ends so long after its last request."""
MAX_SESSIONS = 10_000
MAX_AGENT = 200

WINDOW_S = 60.0
MAX_FAILURES = 10
"""Wrong tokens from one address within `WINDOW_S`; then it is refused unread until the oldest is past."""
MAX_WRITES = 600
"""Writes of one token within `WINDOW_S`."""
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has signed in with a browser."""

    id: str
    """Names the session in lists; it opens nothing."""
    name: str
    """Name of the token that it was begun with."""
    token_hash: str
    """The session is as good as this token: it ends when the token does."""
    began: datetime
    used: datetime
    """Time of the last request."""
    address: str
    """Address that signed in."""
    agent: str
    """What the browser calls itself."""
    end: float
    idle_end: float


class Sessions:
    """Sessions by the hash of their secret: what is kept here opens nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, token_hash: str, *, address: str = "", agent: str = "") -> str:
        """Return the secret of a new session, for its cookie."""
        secret, now, moment = secrets.token_urlsafe(32), self._clock(), datetime.now(UTC)
        session = Session(
            id=secrets.token_hex(8),
            name=name,
            token_hash=token_hash,
            began=moment,
            used=moment,
            address=address,
            agent=agent[:MAX_AGENT],
            end=now + LASTS_S,
            idle_end=now + IDLE_S,
        )
        with self._lock:
            self._live[_hash(secret)] = session
            while len(self._live) > MAX_SESSIONS:
                self._live.popitem(last=False)
        return secret

    def find(self, secret: str) -> Session | None:
        """Return a session that is signed in, and note that it was used; None for any other."""
        if not secret:
            return None
        key, now = _hash(secret), self._clock()
        with self._lock:
            session = self._live.get(key)
            if session is None:
                return None
            if now >= min(session.end, session.idle_end):
                del self._live[key]
                return None
            self._live[key] = session = replace(session, used=datetime.now(UTC), idle_end=now + IDLE_S)
        return session

    def everyone(self) -> list[Session]:
        """Return the sessions that have not ended, the newest first."""
        now = self._clock()
        with self._lock:
            return [s for s in reversed(self._live.values()) if now < min(s.end, s.idle_end)]

    def end(self, secret: str) -> None:
        """Sign a session out; a copy of its cookie opens nothing any more."""
        with self._lock:
            self._live.pop(_hash(secret), None)

    def end_by_id(self, id: str) -> None:
        """Sign out the session that is listed under this name."""
        with self._lock:
            for key, session in list(self._live.items()):
                if session.id == id:
                    del self._live[key]


class RateLimit:
    """So many events for each key within a minute, in a window that slides."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """Return the seconds until there may be a further event; 0 when there may be one now."""
        now = self._clock()
        with self._lock:
            times = self._times.get(key, deque())
            while times and times[0] <= now - WINDOW_S:
                times.popleft()
            return times[0] + WINDOW_S - now if len(times) >= self._most else 0.0

    def note(self, key: str) -> None:
        """Note an event."""
        with self._lock:
            times = self._times.setdefault(key, deque(maxlen=self._most))
            times.append(self._clock())
            self._times.move_to_end(key)
            while len(self._times) > MAX_KEYS:
                self._times.popitem(last=False)


def session_cookie(headers: Headers) -> str:
    """Return the session's cookie; empty when there is none."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    found = cookies.get(COOKIE)
    return found.value if found else ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
