"""Notifications: events of a study (done, stopped, stalled, better trial) posted to a webhook as JSON.

Sending never holds anything up: it has a thread of its own, little time, and may fail.

Who sends is decided in the database (`tuner.storage.notifications`), by whoever sees the event first: the worker
whose trial brought it about, or a launch or a service that watches.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tuner import __version__
from tuner.errors import RequestError, TunerError
from tuner.settings import Settings
from tuner.storage.storage import Storage

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Seconds that a receiver may take for an answer."""
PAUSES_S = (1.0, 4.0, 16.0)
"""Seconds before each further try, more or less."""
CLOSE_S = 10.0
"""Seconds that a process that ends waits for what is still to be sent."""
_BACKLOG = 100


@dataclass(frozen=True, slots=True)
class Event:
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


def redact_webhook(url: str) -> str:
    """Write a webhook for logs: path and query may be its secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"


class WebhookSender:
    """Posts documents, one after the other, in a thread of its own.

    Args:
        url: Where to.
        secret: Signs the body: `X-Tuner-Signature: sha256=<HMAC in hex>`.
    """

    def __init__(self, url: str, secret: str | None = None) -> None:
        self._url, self._secret = check_webhook(url), secret
        self._waiting: queue.Queue[Event | None] = queue.Queue(_BACKLOG)
        self._over = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.sent: queue.SimpleQueue[Event] = queue.SimpleQueue()
        """What was delivered, or given up for good; to be fetched by whoever writes it down."""
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def put(self, notice: Event) -> None:
        """Have a notice sent; dropped when too many wait already."""
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            logger.warning(
                "webhook %s: too much waits to be sent; %s is dropped", redact_webhook(self._url), notice.event
            )

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

    def _deliver(self, notice: Event) -> bool:
        """Try until it is delivered, refused for good, or given up; False when another process may try later."""
        body = json.dumps(notice.document, allow_nan=False, default=str).encode()
        for pause in (*PAUSES_S, None):
            failure, again = self._post(body, f"{notice.study_id}-{notice.event}-{notice.subject}")
            if failure is None:
                return True
            if not again or pause is None:
                logger.warning("webhook %s: %s is not delivered: %s", redact_webhook(self._url), notice.event, failure)
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


POLL_INTERVAL_S = 10.0
"""Seconds between two looks of a watcher."""
STALLED_AFTER_S = 60.0
"""A study that nobody works on is announced after so long: between two workers there is always a moment."""
_OVER = ("failures", "timeout")
"""Reasons for which a study stops by itself."""


class Notifier:
    """Looks at studies, and has sent what nobody has announced yet. All its reading and writing is the caller's."""

    def __init__(self, store: Storage, sender: WebhookSender) -> None:
        self._store, self._sender = store, sender

    def after_trial(self, name: str, number: int) -> None:
        """Announce what the end of a trial has brought about. Never raises: nothing here is worth a trial."""

        def look() -> None:
            document = self._store.queries.status(name)
            found = [ending] if (ending := ending_of(document)) else []
            if document["best"] and document["best"]["number"] == number:
                found.append("new_best")
            self.announce(document, found)

        self._quietly(look)

    def announce(self, document: Mapping[str, Any], events: list[str]) -> list[str]:
        """Have those events of a study sent that are still to be; return those that somebody else is sending."""
        self._write_down()
        held = []
        study_id = self._store.studies.get(document["name"]).study_id if events else 0
        for event in events:
            subject = self._subject(document, event, study_id)
            taken = self._store.notifications.claim(study_id, event, subject)
            if taken == "yours":
                self._sender.put(Event(study_id, event, subject, message(document, event)))
            elif taken == "others":
                held.append(event)
        return held

    def close(self) -> None:
        """Send what waits, and write down what was sent."""
        self._sender.close()
        self._quietly(self._write_down)

    def _subject(self, document: Mapping[str, Any], event: str, study_id: int) -> str:
        if event == "new_best":
            return str(document["best"]["number"])
        if event == "done":
            return str(document["trials"]["total"])  # a raised budget ends once more
        return f"{document['phase_reason'] or event}-{self._store.notifications.claims(study_id)}"

    def _write_down(self) -> None:
        while not self._sender.sent.empty():
            notice = self._sender.sent.get()
            self._store.notifications.sent(notice.study_id, notice.event, notice.subject)

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TunerError as error:
            logger.warning("nothing is announced: %s", error)


def make_notifier(store: Storage, settings: Settings) -> Notifier | None:
    """Return an announcer where a webhook is named, else None. Raises RequestError for an address that is none."""
    if not settings.webhook:
        return None
    return Notifier(store, WebhookSender(settings.webhook, settings.webhook_secret))


@contextmanager
def notify_while(store: Storage, settings: Settings, name: str | None = None) -> Iterator[None]:
    """Announce, while the body runs, what happens to a study (or to all): what was so before is no news."""
    announcer = make_notifier(store, settings)
    if announcer is None:
        yield
        return
    over = threading.Event()
    watcher = _Watcher(store, announcer, name)
    watcher.look()
    thread = threading.Thread(target=watcher.run, args=(over,), name="announcer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(CLOSE_S)
        announcer.close()


class _Watcher:
    """Compares what studies are with what they were at the last look."""

    def __init__(self, store: Storage, announcer: Notifier, name: str | None) -> None:
        self._store, self._announcer, self._name = store, announcer, name
        self._known: dict[str, tuple[tuple[str, int] | None, int | None]] = {}
        self._stalled: dict[str, int] = {}
        self._open: dict[str, set[str]] = {}

    def run(self, over: threading.Event) -> None:
        """Look until it is over, and once more then."""
        while not over.wait(POLL_INTERVAL_S):
            self.look()
        self.look()

    def look(self) -> None:
        """Look once. Never raises: a storage that is away is looked at again later."""
        try:
            for document in self._documents():
                self._compare(document)
        except TunerError as error:
            logger.warning("nothing is announced: %s", error)

    def _documents(self) -> list[dict[str, Any]]:
        if self._name is not None:
            return [self._store.queries.status(self._name)]
        return [document for document in self._store.queries.studies() if not document["foreign"]]

    def _compare(self, document: dict[str, Any]) -> None:
        name, ending = document["name"], ending_of(document)
        now = ((ending, document["trials"]["total"]) if ending else None, (document["best"] or {}).get("number"))
        looks = self._stalled[name] = self._stalled.get(name, 0) + 1 if document["phase"] == "stalled" else 0
        before = self._known.get(name)
        self._known[name] = now
        if before is None:  # what is so at the first look is no news, and is not stalled since this moment either
            self._stalled[name] = -(10**9) if looks else 0
            return
        news = self._open.setdefault(name, set())
        news &= {ending, "new_best", "stalled" if looks else None} - {None}
        if ending and now[0] != before[0]:
            news.add(ending)
        if now[1] is not None and now[1] != before[1]:
            news.add("new_best")
        if (looks - 1) * POLL_INTERVAL_S < STALLED_AFTER_S <= looks * POLL_INTERVAL_S:
            news.add("stalled")
        if news:
            self._open[name] = set(self._announcer.announce(document, sorted(news)))


def ending_of(document: Mapping[str, Any]) -> str | None:
    """Return `done`, or `stopped` where a study has stopped by itself."""
    if document["phase"] == "done":
        return "done"
    return "stopped" if document["phase"] == "stopped" and document["phase_reason"] in _OVER else None


def message(document: Mapping[str, Any], event: str) -> dict[str, Any]:
    """Return what is posted; `text` is what a chat shows."""
    name, best, counts = document["name"], document["best"], document["trials"]
    metric = document["objectives"][0]["metric"]
    loss = f", {best['loss']}" if best and best["loss"] else ""
    found = f"best {metric} {best['value']:.4g} (trial {best['number']}{loss})" if best else "no success yet"
    done = counts["complete"] + counts["pruned"] + counts["failed"]
    texts = {
        "done": f"Study {name} is done: {found}.",
        "stopped": f"Study {name} has stopped ({document['phase_reason']}) after {done} of {counts['total']} trials: "
        f"{found}.",
        "stalled": f"Study {name} has stalled: work is left ({done} of {counts['total']} trials are done), and nobody "
        "works on it.",
        "new_best": f"Study {name} has a new best trial: {found}, after {done} of {counts['total']} trials.",
    }
    kept = ("phase", "phase_reason", "message", "dataset", "model", "objectives", "trials", "best")
    return {
        "event": event,
        "study": name,
        "text": texts[event],
        **{key: document.get(key) for key in kept},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
