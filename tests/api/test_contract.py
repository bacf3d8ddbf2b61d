"""The routes of the contract: shapes, limits, ETags."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.config import ServiceSettings
from api.schemas import Sort
from tests.api.conftest import served, settings_in
from tuner.artifacts.remote import FsspecClient
from tuner.storage.storage import Storage
from tuner.storage.trial_queries import SORTS

V1 = "/api/v1"
STUDY = f"{V1}/studies/organs"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the four fields of an error, and insist that there are no others."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint", "where"}
    assert body["error"]["message"]
    return dict(body["error"])


def test_status_is_the_document_of_the_command_line(reader: httpx.Client) -> None:
    """Scripts read one document, whether by command or by REST."""
    study = reader.get(STUDY).json()

    assert study["name"] == "organs"
    assert study["phase"] in ("running", "stalled")
    counts = study["trials"]
    assert counts["total"] == sum(counts[k] for k in ("waiting", "running", "complete", "pruned", "failed"))
    assert set(study["best"]) == {"number", "value", "params", "loss"}


def test_studies_are_listed_newest_first(reader: httpx.Client) -> None:
    """The study that somebody just began is the one that they look for."""
    answer = reader.get(f"{V1}/studies")

    assert [s["name"] for s in answer.json()] == ["organs", "fresh", "rested", "goals"]
    assert answer.headers["X-Total-Count"] == "4"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "offset=-1",
        "offset=99999999999999999999",
        "state=DONE",
        "sort=luck",
        "order=up",
    ],
)
def test_values_out_of_range_are_refused(reader: httpx.Client, query: str) -> None:
    """A silent default would show a client something other than it asked for."""
    answer = reader.get(f"{STUDY}/trials?{query}")

    assert answer.status_code == 422
    assert error_of(answer)["where"] == f"query.{query.split('=')[0]}"


def test_trials_are_filtered_sorted_and_paged(reader: httpx.Client) -> None:
    """A page must be a page of the right list."""
    whole = reader.get(f"{STUDY}/trials?state=COMPLETE&sort=value&order=desc&limit=1000").json()
    second = reader.get(f"{STUDY}/trials?state=COMPLETE&sort=value&order=desc&limit=5&offset=5").json()

    values = [t["value"] for t in whole["items"]]
    assert values == sorted(values, reverse=True)
    assert second["items"] == whole["items"][5:10]
    assert second["total"] == whole["total"] == len(whole["items"])


def test_every_sort_of_the_store_is_offered() -> None:
    """The API's list of sorts is written out for OpenAPI; it must not fall behind the store's."""
    assert set(Sort.__args__) == set(SORTS)


def test_a_trial_has_its_epochs_and_files(reader: httpx.Client) -> None:
    """The detail of a trial is what a notebook needs to draw its curves."""
    number = reader.get(STUDY).json()["best"]["number"]
    trial = reader.get(f"{STUDY}/trials/{number}").json()

    assert [row["epoch"] for row in trial["history"]] == list(range(1, trial["epochs"] + 1))
    assert {"train_loss", "metrics", "per_class", "lr", "seconds"} <= set(trial["history"][0])
    file = next(f for f in trial["artifacts"] if f["name"] == "metrics.jsonl")
    assert len(reader.get(file["url"]).content) == file["size"]


def test_best_and_export_hold_a_whole_configuration(reader: httpx.Client) -> None:
    """The winner is taken home by these two."""
    best = reader.get(f"{STUDY}/best").json()

    assert best["config"]["loss"]["name"] == best["loss"]
    assert "dice" in best["metrics"]
    for form, word in (("yaml", "loss:"), ("json", '"loss"'), ("python", "CONFIG =")):
        assert word in reader.get(f"{STUDY}/export?format={form}").text
    assert reader.get(f"{STUDY}/export?format=pickle").status_code == 422


def test_several_objectives_have_a_front(reader: httpx.Client) -> None:
    """With two goals there is no single best."""
    best = reader.get(f"{V1}/studies/goals/best").json()

    assert best["number"] in [point["number"] for point in best["front"]]


@pytest.mark.parametrize(
    "path",
    [STUDY, f"{STUDY}/trials", f"{STUDY}/trials/0", f"{STUDY}/best", f"{STUDY}/figures/history", f"{V1}/studies"],
)
def test_an_unchanged_answer_is_304(reader: httpx.Client, path: str) -> None:
    """Fifty pages that poll must cost next to nothing."""
    tag = reader.get(path).headers["ETag"]
    again = reader.get(path, headers={"If-None-Match": tag})

    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["ETag"] == tag


def test_a_write_changes_the_etag_and_a_heartbeat_does_not(writer: httpx.Client, folder: Any) -> None:
    """A page that misses a change lies; one that reloads at every heartbeat wastes the server."""
    tag = writer.get(STUDY).headers["ETag"]
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        store.workers.heartbeat(store.workers.live()[0]["id"])
        assert writer.get(STUDY, headers={"If-None-Match": tag}).status_code == 304
        store.studies.pause("organs")

    assert writer.get(STUDY, headers={"If-None-Match": tag}).status_code == 200


def test_life_of_a_study(writer: httpx.Client) -> None:
    """Create, enqueue, pause, raise, stop, resume, delete: the whole remote control."""
    created = writer.post(
        f"{V1}/studies",
        json={"name": "new", "dataset": "phantom", "search": {"loss": ["dice", "focal"]}, "budget": {"trials": 6}},
    )
    assert created.status_code == 201
    assert created.headers["Location"] == f"{V1}/studies/new"
    assert created.json()["phase"] == "queued"
    assert created.json()["next"] == "tuner worker --study new"

    point = writer.post(f"{V1}/studies/new/trials", json={"params": {"loss": "focal"}})
    assert point.status_code == 201
    assert writer.get(f"{V1}/studies/new/trials/{point.json()['number']}").json()["params"] == {"loss": "focal"}
    assert writer.post(f"{V1}/studies/new/pause").json()["phase"] == "paused"
    assert writer.post(f"{V1}/studies/new/stop").json()["phase"] == "stopped"
    raised = writer.post(f"{V1}/studies/new/resume", json={"trials": 9}).json()
    assert (raised["phase"], raised["trials"]["total"]) == ("queued", 9)
    assert writer.delete(f"{V1}/studies/new").status_code == 204
    assert writer.get(f"{V1}/studies/new").status_code == 404


def test_what_the_state_forbids_is_409(writer: httpx.Client) -> None:
    """A conflict must be told from a mistake in the request."""
    taken = {"name": "organs", "dataset": "phantom"}

    assert writer.post(f"{V1}/studies", json=taken).status_code == 409
    assert writer.delete(STUDY).status_code == 409
    assert writer.post(f"{STUDY}/trials/0/prune").status_code == 409
    assert writer.post(f"{STUDY}/trials/99999/prune").status_code == 404


def test_a_budget_larger_than_the_space_is_said(writer: httpx.Client) -> None:
    """As at a launch: whoever posts a study has no other place where it could be said."""
    small = {"dataset": "phantom", "search": {"train.batch_size": [2, 4]}, "loss": "dice", "budget": {"trials": 5}}

    made = writer.post(f"{V1}/studies", json={"name": "small", **small}).json()
    draft = writer.post("/new/draft", json={"yaml": json.dumps(small)}).json()

    assert "only 2 points for this budget: 3 of 5 trials repeat" in made["note"]
    assert "only 2 points for this budget" in draft["note"]
    large = small | {"name": "large", "search": {"train.lr": {"low": 1.0e-4, "high": 1.0e-2}}}
    assert writer.post(f"{V1}/studies", json=large).json()["note"] is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/studies", {"dataset": "phantm"}, id="unknown data set"),
        pytest.param("/studies", {"dataset": "phantom", "serch": {}}, id="unknown section"),
        pytest.param("/studies", {"dataset": {"name": "phantom", "size": "../../etc"}}, id="path for a number"),
        pytest.param("/studies", [1], id="not a mapping"),
        pytest.param("/studies", {"name": "a/../b", "dataset": "phantom"}, id="name with a path"),
        pytest.param("/studies", {"dataset": "phantom", "budget": {"trials": 1_000_000}}, id="too much at once"),
        pytest.param("/studies/fresh/trials", {"params": {"loss": "no such"}}, id="point outside the space"),
        pytest.param("/studies/fresh/trials", {"params": {}, "more": 1}, id="unknown field"),
        pytest.param("/studies/fresh/resume", {"trials": 3}, id="budget lowered"),
        pytest.param("/studies/fresh/resume", {"trials": 10**30}, id="huge budget"),
    ],
)
def test_wrong_bodies_are_422(reader: httpx.Client, path: str, body: Any) -> None:
    """Every problem is explained before anything is stored."""
    before = reader.get(f"{V1}/studies").json()
    answer = reader.post(f"{V1}{path}", json=body)

    assert answer.status_code == 422
    error_of(answer)
    assert [s["trials"] for s in reader.get(f"{V1}/studies").json()] == [s["trials"] for s in before]


def test_catalogues(reader: httpx.Client) -> None:
    """Forms of other programs are made from these."""
    losses = reader.get(f"{V1}/losses").json()

    assert {"name", "family", "survey", "options", "paper", "needs"} <= set(losses[0])
    assert {d["name"] for d in reader.get(f"{V1}/datasets").json()} >= {"phantom", "synapse"}
    assert "unet" in {m["name"] for m in reader.get(f"{V1}/models").json()}
    assert isinstance(reader.get(f"{V1}/workers").json(), list)


def test_classes_that_files_decide_are_not_said_to_be_none(reader: httpx.Client) -> None:
    """An empty list of classes reads as if a data set had none; what was prepared here has names."""
    rows = {row["name"]: row for row in reader.get(f"{V1}/datasets").json()}

    assert rows["folder"]["classes"] is None
    assert "files decide" in rows["folder"]["classes_note"]
    assert "liver" in rows["synapse"]["classes"]
    assert rows["phantom"]["prepared"][0]["classes"] == rows["phantom"]["classes"]
    assert len(rows["phantom"]["prepared"][0]["frequencies"]) == 9
    assert rows["phantom"]["studies"] == ["organs", "fresh", "rested", "goals"]


def test_signs_of_life(reader: httpx.Client) -> None:
    """Machines that watch the service look here."""
    assert reader.get("/healthz").json() == {"status": "ok"}
    assert reader.get("/readyz").json() == {"status": "ok"}
    text = reader.get("/metrics").text
    assert 'tuner_trials{study="organs",state="complete"}' in text


@pytest.mark.parametrize("path", ["/healthz", "/", STUDY])
def test_head_is_get_without_a_body(reader: httpx.Client, path: str) -> None:
    """Load balancers ask by HEAD."""
    answer = reader.head(path)

    assert answer.status_code == 200
    assert answer.content == b""


def test_openapi_describes_every_route(reader: httpx.Client) -> None:
    """Clients are generated from it: names, descriptions, error bodies."""
    document = reader.get("/openapi.json").json()
    paths = document["paths"]

    names = []
    for path, methods in paths.items():
        for method, route in methods.items():
            names.append(route["operationId"])
            assert route["summary"], path
            assert route["description"], path
            if path.startswith(V1):
                assert "401" in route["responses"], (path, method)
            assert {"token": []} in route["security"]
    assert set(document["components"]["securitySchemes"]) == {"token", "session"}
    assert len(set(names)) == len(names)


def test_the_service_imports_no_torch() -> None:
    """A dashboard that holds 300 MB of torch, or a GPU, takes them from those who train."""
    code = (
        "import sys, api.app, api.server, tuner.storage.storage;"
        "print(sorted({'torch', 'monai', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_files_at_an_address_are_served_like_those_in_a_folder(folder: Path) -> None:
    """A dashboard beside a bucket: files, pictures and the trial's page come from there, and nothing else does."""
    address = f"memory://{folder}/far"
    for path in (folder / "artifacts").rglob("*"):
        if path.is_file() and not path.is_symlink():
            FsspecClient(address).put(path, path.relative_to(folder / "artifacts").as_posix())
    places = replace(settings_in(folder), artifacts=folder / "nothing", artifacts_url=address)
    with served(ServiceSettings(places)) as url, httpx.Client(base_url=url, timeout=60) as client:
        number = client.get(STUDY).json()["best"]["number"]
        files = client.get(f"{STUDY}/trials/{number}").json()["artifacts"]
        for file in files:
            source = folder / "artifacts" / "organs" / str(number) / file["name"]
            assert client.get(file["url"]).content == source.read_bytes()
        assert "predictions.npz" in {file["name"] for file in files}
        assert client.get(f"/studies/organs/trials/{number}", headers={"Accept": "text/html"}).status_code == 200
        assert client.get(f"{STUDY}/trials/{number}/artifacts/absent.txt").status_code == 404
        assert client.get(f"{STUDY}/trials/{number}/artifacts/..%2F..%2Ftuner.db").status_code == 404
