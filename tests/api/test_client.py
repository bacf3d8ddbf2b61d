"""The Python client, against a real service."""

from pathlib import Path

import httpx
import pytest

from api.config import ServiceSettings
from tests.api.conftest import served, settings_in
from tuner.client import Client, ServiceError
from tuner.errors import RequestError, RunError


def test_everything_that_the_client_can_do(writer: httpx.Client) -> None:
    """A notebook drives a study from end to end with it."""
    client = Client(str(writer.base_url))

    search = {"loss": ["dice", "focal"]}
    created = client.create({"name": "remote", "dataset": "phantom", "search": search, "budget": {"trials": 2}})
    assert created["name"] == "remote"
    number = client.enqueue("remote", {"loss": "dice"})
    assert client.trial("remote", number)["state"] == "WAITING"
    assert client.pause("remote")["phase"] == "paused"
    assert client.stop("remote")["phase"] == "stopped"
    assert client.wait("remote", timeout_s=1)["phase"] == "stopped"
    assert client.annotate("remote", archived=True)["archived"]
    assert "remote" not in [study["name"] for study in client.studies()]
    assert "remote" in [study["name"] for study in client.studies(archived="only")]
    noted = client.annotate("remote", notes="Why.", notes_revision=0, add_tags=["a"], archived=False)
    assert (noted["notes"], noted["tags"], noted["archived"]) == ("Why.", ["a"], False)
    with pytest.raises(ServiceError, match="revision 1"):
        client.annotate("remote", notes="Another.", notes_revision=0)
    client.annotate_trials("remote", [0, 1], add_tags=["b"], starred=True)
    assert client.annotate_trial("remote", 1, remove_tags=["b"])["tags"] == []
    assert client.resume("remote", trials=5)["trials"]["total"] == 5
    client.stop("remote")
    assert client.rename("remote", "nearer")["name"] == "nearer"
    assert [e["action"] for e in client.activity("nearer")["items"]][:2] == ["rename", "stop"]
    client.delete("nearer")
    assert client.activity(limit=1)["items"][0]["action"] == "delete"
    assert "remote" not in [study["name"] for study in client.studies()]


def test_reading(reader: httpx.Client) -> None:
    """Every document of the contract has a method."""
    client = Client(str(reader.base_url))
    best = client.best("organs")

    assert len(list(client.iter_trials("organs"))) == client.study("organs")["trials"]["total"]
    assert client.trials("organs", state="COMPLETE", limit=3)["items"][0]["state"] == "COMPLETE"
    assert client.export("organs", trial=best["number"], format="json").startswith("{")
    assert client.figure("organs", "slice", loss="tversky")["data"]
    assert client.artifact("organs", best["number"], "predictions.png").startswith(b"\x89PNG")
    assert client.losses()
    assert client.datasets()
    assert client.models()
    assert isinstance(client.workers(), list)
    assert client.study("organs") is client.study("organs")


def test_errors_speak_the_services_words(reader: httpx.Client) -> None:
    """A user of the client sees what a user of the command line would."""
    with pytest.raises(ServiceError, match="there is no study 'organ'") as caught:
        Client(str(reader.base_url)).study("organ")

    assert (caught.value.status, caught.value.code, caught.value.exit_code) == (404, "not_found", 2)
    assert caught.value.hint == "Did you mean 'organs'?"


def test_the_token_is_sent(folder: Path) -> None:
    """With a token set, only those who have it write."""
    with served(ServiceSettings(settings_in(folder, "secret"))) as url:
        with pytest.raises(ServiceError, match="token"):
            Client(url).pause("organs")
        assert Client(url, token="secret").pause("organs")["phase"] == "paused"


def test_a_service_that_is_not_there() -> None:
    """No traceback of urllib for a typing mistake."""
    with pytest.raises(RunError, match="cannot be reached"):
        Client("http://127.0.0.1:9", timeout_s=2).studies()
    with pytest.raises(RequestError, match="not the address"):
        Client("file:///etc/passwd")


def test_a_confirmation_is_asked_for_and_read(writer: httpx.Client) -> None:
    """Its runs are queued for the study's workers; until they are over, nothing is claimed."""
    client = Client(str(writer.base_url))
    before = client.study("organs")
    assert before["confirmation"] is None
    assert "Not confirmed" in client.verdict("organs")["text"]
    with pytest.raises(ServiceError, match="not over") as caught:
        client.confirm("organs", top=2, seeds=3)
    assert caught.value.status == 409

    client.stop("organs")
    after = client.confirm("organs", top=2, seeds=3, baseline="dice")

    assert after["confirmation"]["runs"]["total"] == after["confirmation"]["runs"]["waiting"] >= 6
    assert after["trials"] == before["trials"]
    verdict = client.verdict("organs")
    assert verdict["pairs"] == []
    assert verdict["confirmation"] == after["confirmation"]
    assert client.confirm("organs", seeds=3)["confirmation"] == after["confirmation"]
    for section, status in (({"top": 3}, 409), ({"on": "test", "folds": 3}, 422), ({"sedes": 3}, 422)):
        with pytest.raises(ServiceError) as caught:
            client.confirm("organs", **section)
        assert caught.value.status == status
    with pytest.raises(ServiceError, match="there is no study"):
        client.verdict("orgns")
