"""Sessions of signed-in users, and the rate limit of sign-ins. Both live as long as the process."""

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

logger = logging.getLogger(__name__)
"""Says who signs in and who is refused; `tuner serve` shows it."""

LASTS_S = 7 * 86400.0
"""A session ends so long after its sign-in, used or not."""
IDLE_S = 86400.0
"""A session ends so long after its last request."""
MAX_SESSIONS = 10_000

WINDOW_S = 60.0
MAX_FAILURES = 10
"""Wrong tokens from one address within `WINDOW_S`; then it is refused unread until the oldest is past."""
MAX_ADDRESSES = 10_000


class Sessions:
    """Sessions by the hash of their secret: what is kept here opens nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Return the secret of a new session, for its cookie."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._until[_hash(secret)] = (now + LASTS_S, now + IDLE_S)
            while len(self._until) > MAX_SESSIONS:
                self._until.popitem(last=False)
        return secret

    def is_live(self, secret: str) -> bool:
        """Tell whether a session is signed in, and note that it was used."""
        key, now = _hash(secret), self._clock()
        with self._lock:
            end, idle = self._until.get(key, (0.0, 0.0))
            if now >= min(end, idle):
                self._until.pop(key, None)
                return False
            self._until[key] = (end, now + IDLE_S)
        return True

    def end(self, secret: str) -> None:
        """Sign a session out; a copy of its cookie opens nothing any more."""
        with self._lock:
            self._until.pop(_hash(secret), None)


class Guesses:
    """Wrong tokens by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Return the seconds until an address may try again; 0 when it may now."""
        now = self._clock()
        with self._lock:
            times = self._failures.get(address, deque())
            while times and times[0] <= now - WINDOW_S:
                times.popleft()
            return times[0] + WINDOW_S - now if len(times) >= MAX_FAILURES else 0.0

    def failed(self, address: str) -> None:
        """Note a wrong token."""
        with self._lock:
            times = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
            times.append(self._clock())
            self._failures.move_to_end(address)
            while len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
