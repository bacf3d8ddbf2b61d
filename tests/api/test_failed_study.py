"""A study that ended without a result does not look like one that is done."""

from pathlib import Path

import httpx
import pytest

from api.config import ServiceSettings
from tests.api import demo
from tests.api.conftest import served, settings_in
from tuner.storage.records import Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

PAGE = {"Accept": "text/html"}
FAILED = Outcome(State.FAIL, Reason.ERROR, "RuntimeError: no such class")
DIVERGED = Outcome(State.PRUNED, Reason.DIVERGED, "epoch 1: train_loss is nan")
COMPLETE = Outcome(State.COMPLETE, values=(0.5,), last=(1, 0.5))
ENDS = {"broken": [FAILED, FAILED], "diverged": [DIVERGED, FAILED], "mixed": [FAILED, COMPLETE], "pruned": [DIVERGED]}


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A storage with studies that have ended in several ways."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        for name, ends in ENDS.items():
            record = store.studies.create(demo.new_study(demo.spec_of(name, trials=len(ends))))
            worker = store.workers.register(pid=1, device="cpu", study=name, version="demo", host="node1")
            for end in ends:
                claim = store.trials.claim(record.study_id, worker)
                assert claim is not None
                store.trials.finish(claim, end)
        store.studies.create(demo.new_study(demo.spec_of("ill", trials=3)))
        store.studies.stop("ill", "failures", "five trials have failed one after the other")
    return url


def test_its_badge_says_so_wherever_it_stands(address: str, tmp_path: Path) -> None:
    """In the list, in the head of its pages, and as a word to search by; its phase stays the contract's."""
    with (
        served(ServiceSettings(settings_in(tmp_path))) as origin,
        httpx.Client(base_url=origin, timeout=60, headers=PAGE) as client,
    ):
        cards = {name: client.get("/", params={"search": name}).text for name in (*ENDS, "ill")}
        heads = {name: client.get(f"/studies/{name}/workers").text for name in (*ENDS, "ill")}
        found = client.get("/", params={"search": "failed"}).text
        overview, confirmation = (client.get(f"/studies/broken{tab}").text for tab in ("", "/confirmation"))
        phases = {s["name"]: s["phase"] for s in client.get("/api/v1/studies").json()}

    assert phases == dict.fromkeys(ENDS, "done") | {"ill": "stopped"}
    for text in (cards, heads):
        assert {name for name in text if "chip ph-failed" in text[name]} == {"broken", "diverged", "pruned", "ill"}
        assert {name for name in text if "no result" in text[name]} == {"broken", "diverged", "pruned"}
        assert "no trial is complete: 1 failed, 1 pruned" in text["diverged"]
        assert "chip ph-done" in text["mixed"]
        assert "failures" in text["ill"]
    assert "/studies/broken" in found
    assert "/studies/mixed" not in found
    assert "What did not complete, and why" in overview
    assert "Train them again" not in confirmation
