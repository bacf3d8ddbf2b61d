"""A webhook: a URL that gets a POST with one JSON document for each event.

Sending never holds anything up: it has a thread of its own, little time, and may fail.
"""

import hashlib
import hmac
import json
import logging
import queue
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tuner import __version__
from tuner.errors import RequestError

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Seconds that a receiver may take for an answer."""
PAUSES_S = (1.0, 4.0, 16.0)
"""Seconds before each further try, more or less."""
CLOSE_S = 10.0
"""Seconds that a process that ends waits for what is still to be sent."""
_BACKLOG = 100


@dataclass(frozen=True, slots=True)
class Notice:
    """One event of a study."""

    study_id: int
    event: str
    subject: str
    document: Mapping[str, Any]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: what is sent is meant for one receiver."""


def check_webhook(url: str) -> str:
    """Return the URL when it can be posted to. Raises RequestError that does not repeat it: it may hold a secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(
            f"a webhook is an address like https://host/path; this one begins with {url.split(':')[0][:8]!r}.",
            where="--webhook or TUNER_WEBHOOK",
        )
    return url


def shown(url: str) -> str:
    """Write a webhook for logs: path and query may be its secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"


class Sender:
    """Posts documents, one after the other, in a thread of its own.

    Args:
        url: Where to.
        secret: Signs the body: `X-Tuner-Signature: sha256=<HMAC in hex>`.
    """

    def __init__(self, url: str, secret: str | None = None) -> None:
        self._url, self._secret = check_webhook(url), secret
        self._waiting: queue.Queue[Notice | None] = queue.Queue(_BACKLOG)
        self._over = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.sent: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        """What was delivered, or given up for good; to be fetched by whoever writes it down."""
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Have a notice sent; dropped when too many wait already."""
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            logger.warning("webhook %s: too much waits to be sent; %s is dropped", shown(self._url), notice.event)

    def close(self, seconds: float = CLOSE_S) -> None:
        """Send what waits, at most so long."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)
        self._over.set()

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None:
            if self._deliver(notice):
                self.sent.put(notice)

    def _deliver(self, notice: Notice) -> bool:
        """Try until it is delivered, refused for good, or given up; False when another process may try later."""
        body = json.dumps(notice.document, allow_nan=False, default=str).encode()
        for pause in (*PAUSES_S, None):
            failure, again = self._post(body, f"{notice.study_id}-{notice.event}-{notice.subject}")
            if failure is None:
                return True
            if not again or pause is None:
                logger.warning("webhook %s: %s is not delivered: %s", shown(self._url), notice.event, failure)
                return not again
            if self._over.wait(pause * random.uniform(0.7, 1.3)):
                return False
        return False

    def _post(self, body: bytes, key: str) -> tuple[str | None, bool]:
        """Post once; return what went wrong, and whether trying again makes sense."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"tuner/{__version__}",
            "Idempotency-Key": key,
        }
        if self._secret:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Tuner-Signature"] = f"sha256={digest}"
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 (checked: http or https)
        try:
            with self._opener.open(request, timeout=ANSWER_S):
                return None, False
        except urllib.error.HTTPError as error:
            error.close()
            return f"it answers {error.code}", error.code >= 500 or error.code == 429
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            return f"{type(reason).__name__}: {getattr(reason, 'strerror', None) or 'no answer'}", True
