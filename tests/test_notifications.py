"""Announcing: each event once, whoever sees it; nothing waits for a receiver, and no secret is written down."""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import STUDY, run_apart
from tests.storage.conftest import *  # noqa: F403 (fixtures that ask for each other)
from tests.storage.examples import claimed, completed, new_study, pruned, run_all
from tests.worker.studies import create, entry, settings, tiny, work
from tuner import notifications
from tuner import notifications as webhooks
from tuner.errors import RequestError
from tuner.settings import Settings
from tuner.storage import notifications as notices
from tuner.storage.storage import Storage


class Receiver(ThreadingHTTPServer):
    """Takes what is posted; answers `codes` one after the other, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.codes: list[int] = []
        self.delay_s = 0.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/services/T0/hushhush?key=hushhush"

    @property
    def events(self) -> list[str]:
        """The events, in the order in which they came."""
        return [json.loads(body)["event"] for _, body in self.got]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take a document."""
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(receiver.delay_s)
        code = receiver.codes.pop(0) if receiver.codes else 204
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        if code < 300:
            receiver.got.append((dict(self.headers), body))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def told(receiver: Receiver, **more: Any) -> Settings:
    """Return places with that receiver."""
    return Settings.resolve({"TUNER_WEBHOOK": receiver.url}, **more)


def wait_for(receiver: Receiver, count: int) -> None:
    until = time.monotonic() + 90
    while len(receiver.got) < count and time.monotonic() < until:
        time.sleep(0.01)


def test_of_many_one_takes_a_notice(url: str) -> None:
    """Twenty processes see that a study is done; the chat hears it once. Who dies while sending is replaced."""
    with Storage.open(url) as store:
        store.studies.create(new_study())
        study_id = store.studies.get("organs").study_id
        answers: list[str] = []

        def take() -> None:
            with Storage.open(url) as own:
                answers.append(own.notifications.claim(study_id, "done", "3"))

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(answers) == ["others"] * 5 + ["yours"]
        assert store.notifications.claim(study_id, "done", "4") == "yours"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(notices, "CLAIM_TIMEOUT_S", -1.0)
            assert store.notifications.claim(study_id, "done", "3") == "yours"
            store.notifications.sent(study_id, "done", "3")
            assert store.notifications.claim(study_id, "done", "3") == "sent"
        store.studies.delete("organs")


def test_a_worker_announces_its_new_bests_and_the_end(tmp_path: Path, sqlite_url: str, receiver: Receiver) -> None:
    """From a real worker: every new best by its number, the end once, signed, and nothing secret in the log."""
    places = settings(tmp_path, sqlite_url)
    places = Settings.resolve(
        {"TUNER_WEBHOOK": receiver.url, "TUNER_WEBHOOK_SECRET": "s3", "TUNER_ALLOW_ENTRY": "tests"},
        storage=sqlite_url,
        artifacts=places.artifacts,
        cache=places.cache,
    )
    with Storage.open(sqlite_url, create=True) as store:
        create(store, tiny(entry("steady"), "budget.trials=4", "sampler=random", "pruner=none"))
        work(store, places)
        rows = store.queries.trials("tiny")
    best, records = -1.0, []
    for row in rows:
        if row["value"] > best:
            best = row["value"]
            records.append(row["number"])

    documents = [json.loads(body) for _, body in receiver.got]
    assert [d["best"]["number"] for d in documents if d["event"] == "new_best"] == records
    assert receiver.events.count("done") == 1
    assert documents[-1]["text"].startswith("Study tiny is done: best dice")
    for headers, body in receiver.got:
        assert headers["X-Tuner-Signature"] == f"sha256={hmac.new(b's3', body, hashlib.sha256).hexdigest()}"
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.got}) == len(receiver.got)


def test_a_receiver_that_fails_is_tried_again_and_never_holds_up_a_worker(
    tmp_path: Path,
    sqlite_url: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A chat that is down costs no trial, and its address, which is its password, is in no log."""
    monkeypatch.setattr(webhooks, "PAUSES_S", (0.01, 0.01))
    receiver.codes = [500, 429, 204, 302, 404, 500, 500, 500]
    sender = webhooks.WebhookSender(receiver.url)
    with caplog.at_level(logging.WARNING):
        for event in ("first", "moved", "gone", "down"):
            sender.put(webhooks.Event(1, event, "0", {"event": event}))
        sender.close()

    assert receiver.events == ["first"]
    delivered = []
    while not sender.sent.empty():
        delivered.append(sender.sent.get().event)
    assert delivered == ["first", "moved", "gone"]  # refused for good counts as done with; `down` may be tried later
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "it answers 302",
        "it answers 404",
        "it answers 500",
    ]
    assert "hush" not in caplog.text


def test_nobody_waits_for_a_receiver_that_hangs(
    sqlite_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announcing returns at once, and ending a process takes no longer than was agreed."""
    monkeypatch.setattr(webhooks, "ANSWER_S", 0.2)
    receiver.delay_s = 1.0
    with Storage.open(sqlite_url, create=True) as store:
        store.studies.create(new_study(trials=1))
        run_all(store, store.studies.get("organs").study_id, [0.5])
        announcer = notifications.Notifier(store, sender := webhooks.WebhookSender(receiver.url))
        begun = time.monotonic()
        announcer.after_trial("organs", 0)
        assert time.monotonic() - begun < 1
        sender.close(0.1)
        assert sender.sent.empty()


def test_a_watcher_tells_what_changes_and_not_what_was_so_before(
    url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that starts does not announce last year's studies; a study that nobody works on is missed by it."""
    monkeypatch.setattr(notifications, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(notifications, "STALLED_AFTER_S", 0.1)
    with Storage.open(url) as store:
        store.studies.create(new_study("old", trials=1))
        run_all(store, store.studies.get("old").study_id, [0.9])
        store.studies.create(new_study("organs", trials=3))
        study_id = store.studies.get("organs").study_id
        with notifications.notify_while(store, told(receiver)):
            run_all(store, study_id, [0.5])  # and then nobody is there
            wait_for(receiver, 2)
            run_all(store, study_id, [0.4])
            store.trials.finish(claimed(store, study_id), pruned())
            wait_for(receiver, 3)
        assert sorted(receiver.events) == ["done", "new_best", "stalled"]
        assert {json.loads(body)["study"] for _, body in receiver.got} == {"organs"}
        monkeypatch.setattr(notifications, "STALLED_AFTER_S", 1000.0)
        with notifications.notify_while(store, told(receiver)):
            store.studies.raise_budget("organs", 4)
            store.trials.finish(claimed(store, study_id), completed(0.1))
            wait_for(receiver, 4)
    assert receiver.events[3:] == ["done"]


@pytest.mark.parametrize("address", ["ftp://host/x", "file:///etc/passwd", "chat.lab/hush", "https:///hush", "hush"])
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    """When a launch starts, not when the study is done; and a typing error may hold the secret."""
    with pytest.raises(RequestError) as caught:
        webhooks.check_webhook(address)

    assert "hush" not in str(caught.value).replace("'hush'", "") or address == "hush"
    assert "hushhush" not in webhooks.redact_webhook("https://u:hushhush@chat.lab:444/hushhush?x=hushhush")


def test_without_an_address_there_is_no_thread(sqlite_url: str) -> None:
    """Who announces nothing pays nothing."""
    before = set(threading.enumerate())
    with Storage.open(sqlite_url, create=True) as store, notifications.notify_while(store, Settings.resolve({})):
        assert set(threading.enumerate()) <= before
        assert notifications.make_notifier(store, Settings.resolve({})) is None


@pytest.mark.slow
def test_a_launch_and_its_workers_tell_each_thing_once(tmp_path: Path, receiver: Receiver) -> None:
    """Two workers and the launch all see the end; and what they log as JSON lines is JSON, line by line."""
    (tmp_path / "tiny.yaml").write_text(STUDY, encoding="utf-8")

    words = ["--devices=cpu", "--workers=2", "--webhook", receiver.url, "--log-format", "json"]
    done = run_apart(tmp_path, "launch", "tiny.yaml", *words)

    assert done.code == 0, done.err
    assert receiver.events.count("done") == 1
    bests = [json.loads(body)["best"]["number"] for _, body in receiver.got if json.loads(body)["event"] == "new_best"]
    assert len(bests) == len(set(bests)) >= 1
    logs = list((tmp_path / "artifacts" / "tiny" / "workers").glob("*.log"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert len(logs) == 2
    assert {line["trial"] for line in lines if "trial" in line} == set(range(6))
    assert "hush" not in done.err + "".join(log.read_text() for log in logs)
