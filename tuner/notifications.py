"""Announcing to the outside that a study is done, has stopped or stalled, or has found something better.

Who sends is decided in the database (`tuner.storage.notifications`), by whoever sees the event first: the worker whose
trial brought it about, or a launch or a service that watches.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tuner.errors import TunerError
from tuner.settings import Settings
from tuner.storage.storage import Store
from tuner.webhooks import CLOSE_S, Notice, Sender

logger = logging.getLogger(__name__)

LOOK_S = 10.0
"""Seconds between two looks of a watcher."""
STALLED_FOR_S = 60.0
"""A study that nobody works on is announced after so long: between two workers there is always a moment."""
_OVER = ("failures", "timeout")
"""Reasons for which a study stops by itself."""


class Announcer:
    """Looks at studies, and has sent what nobody has announced yet. All its reading and writing is the caller's."""

    def __init__(self, store: Store, sender: Sender) -> None:
        self._store, self._sender = store, sender

    def after_trial(self, name: str, number: int) -> None:
        """Announce what the end of a trial has brought about. Never raises: nothing here is worth a trial."""

        def look() -> None:
            document = self._store.status(name)
            found = [ending] if (ending := ending_of(document)) else []
            if document["best"] and document["best"]["number"] == number:
                found.append("new_best")
            self.announce(document, found)

        self._quietly(look)

    def announce(self, document: Mapping[str, Any], events: list[str]) -> list[str]:
        """Have those events of a study sent that are still to be; return those that somebody else is sending."""
        self._write_down()
        held = []
        study_id = self._store.study(document["name"]).study_id if events else 0
        for event in events:
            subject = self._subject(document, event, study_id)
            taken = self._store.take_notice(study_id, event, subject)
            if taken == "yours":
                self._sender.put(Notice(study_id, event, subject, message(document, event)))
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
        return f"{document['phase_reason'] or event}-{self._store.claims(study_id)}"

    def _write_down(self) -> None:
        while not self._sender.sent.empty():
            notice = self._sender.sent.get()
            self._store.notice_sent(notice.study_id, notice.event, notice.subject)

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TunerError as error:
            logger.warning("nothing is announced: %s", error)


def make_announcer(store: Store, settings: Settings) -> Announcer | None:
    """Return an announcer where a webhook is named, else None. Raises RequestError for an address that is none."""
    if not settings.webhook:
        return None
    return Announcer(store, Sender(settings.webhook, settings.webhook_secret))


@contextmanager
def watching(store: Store, settings: Settings, name: str | None = None) -> Iterator[None]:
    """Announce, while the body runs, what happens to a study (or to all): what was so before is no news."""
    announcer = make_announcer(store, settings)
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

    def __init__(self, store: Store, announcer: Announcer, name: str | None) -> None:
        self._store, self._announcer, self._name = store, announcer, name
        self._known: dict[str, tuple[tuple[str, int] | None, int | None]] = {}
        self._stalled: dict[str, int] = {}
        self._open: dict[str, set[str]] = {}

    def run(self, over: threading.Event) -> None:
        """Look until it is over, and once more then."""
        while not over.wait(LOOK_S):
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
            return [self._store.status(self._name)]
        return [document for document in self._store.studies() if not document["foreign"]]

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
        if (looks - 1) * LOOK_S < STALLED_FOR_S <= looks * LOOK_S:
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
    found = f"best {metric} {best['value']:.4g} (trial {best['number']}, {best['loss']})" if best else "no success yet"
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
