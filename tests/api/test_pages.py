"""Pages as a server gives them: everything is there, markup in names is text, nothing comes from elsewhere."""

import asyncio
import csv
import html
import os
import re
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest
from sqlalchemy import event

from api.app import create_app
from api.config import ServiceSettings
from tests.api.conftest import settings_in
from tests.api.test_contract import STUDY, V1
from tuner.losses.catalog.registry import LOSSES
from tuner.storage.storage import Storage

PAGES = (
    "/",
    "/studies/organs",
    "/studies/organs/leaderboard",
    "/studies/organs/curves",
    "/studies/organs/parameters",
    "/studies/organs/trials",
    "/studies/organs/predictions",
    "/studies/organs/workers",
    "/studies/organs/confirmation",
    "/studies/organs/settings",
    "/studies/goals",
    "/studies/fresh",
    "/studies/organs/trials/0",
    "/studies/organs/compare",
    "/losses",
    "/datasets",
    "/workers",
    "/new",
    "/login",
)
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("path", PAGES)
def test_pages_answer_and_refer_to_nothing_elsewhere(reader: httpx.Client, path: str) -> None:
    """The dashboard works in a room without a network."""
    answer = reader.get(path, headers=HTML)

    assert answer.status_code == 200
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
        assert not re.match(r"(https?:)?//", address), address
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


def test_addresses_of_the_former_page_lead_to_the_table(reader: httpx.Client) -> None:
    """Filters of trials were shared as addresses of the study."""
    answer = reader.get("/studies/organs?state=PRUNED&sort=number&order=asc&offset=2")

    assert answer.status_code == 308
    assert answer.headers["Location"] == "/studies/organs/trials?state=PRUNED&sort=number&order=asc&offset=2"


@pytest.mark.parametrize("by", ["leaders", "loss", "family"])
@pytest.mark.parametrize("order", ["hardest", "easiest", "disagreement", "name"])
def test_cases_of_the_predictions_are_ordered(reader: httpx.Client, by: str, order: str) -> None:
    """Hard cases are what a network is judged by; easy ones show that it works."""
    words = {"order": order} | ({} if by == "leaders" else {"by": by})
    text = reader.get("/studies/organs/predictions", params=words, headers=HTML).text
    means = [float(found) for found in re.findall(r'class="quiet">dice ([0-9.]+)', text)]

    assert len(means) > 1
    assert text.count('data-zoom><img loading="lazy" data-view alt="truth of') == len(means)
    if order in ("hardest", "easiest"):
        assert means == sorted(means, reverse=order == "easiest")


@pytest.mark.parametrize("path", [p for p in PAGES if p != "/login"])
def test_unchanged_pages_are_304(reader: httpx.Client, path: str) -> None:
    """An open page asks every five seconds."""
    tag = reader.get(path, headers=HTML).headers["ETag"]

    assert reader.get(path, headers={**HTML, "If-None-Match": tag}).status_code == 304


def test_static_files_are_kept_for_ever_under_their_hash(reader: httpx.Client) -> None:
    """Plotly's 5 MB travel once."""
    page = reader.get("/studies/organs").text
    script = re.search(r'data-plotly="([^"]+)"', page)
    assert script is not None
    answer = reader.get(script[1])

    assert "immutable" in answer.headers["Cache-Control"]
    assert b"plotly.js" in answer.content[:200]
    assert reader.get("/static/..%2fapp.py").status_code in (404, 405)


def test_the_trials_table_can_be_saved(reader: httpx.Client) -> None:
    """What is on the screen is wanted in a spreadsheet."""
    text = reader.get("/studies/organs/trials.csv?state=COMPLETE").text
    total = reader.get(f"{STUDY}/trials?state=COMPLETE").json()["total"]

    assert text.startswith("number,state,value,loss")
    assert len(text.splitlines()) == total + 1


def test_curves_can_be_saved(reader: httpx.Client) -> None:
    """Every figure has its numbers; those of a trial and of a comparison are the curves that papers show."""
    number = reader.get(STUDY).json()["best"]["number"]
    epochs = reader.get(f"{STUDY}/trials/{number}").json()["history"]
    page = reader.get(f"/studies/organs/trials/{number}").text
    trial = list(csv.DictReader(reader.get(f"/studies/organs/trials/{number}/curves.csv").text.splitlines()))
    compared = reader.get(f"/studies/organs/compare.csv?trials={number},0").text
    rows = list(csv.DictReader(compared.splitlines()))

    assert f'href="/studies/organs/trials/{number}/curves.csv"' in page
    assert len(trial) == len(epochs)
    assert [float(row["dice"]) for row in trial] == [row["metrics"]["dice"] for row in epochs]
    assert [float(row["dice liver"]) for row in trial] == [row["per_class"]["dice"]["liver"] for row in epochs]
    assert {row["trial"] for row in rows} == {str(number), "0"}
    assert [float(row["dice"]) for row in rows if row["trial"] == str(number)] == [row["value"] for row in epochs]
    assert f"compare.csv?trials={number},0" in reader.get(f"/studies/organs/compare?trials={number},0").text
    assert reader.get("/studies/organs/trials/99999/curves.csv").status_code == 404


def test_the_best_of_each_loss_and_family_stand_side_by_side(reader: httpx.Client) -> None:
    """The survey's qualitative figure, live: one column a loss, or a family, on the same cases."""
    families = {row["family"] for row in reader.get(f"{V1}/losses").json()}
    by_loss = reader.get("/studies/organs/compare?by=loss", headers=HTML).text
    by_family = reader.get("/studies/organs/compare?by=family", headers=HTML).text

    assert "Trials 1–8 of 14, at the best epoch of each" in by_loss
    assert "wall-table" in by_loss
    assert f"{len(families) - 1} trials" in by_family, "no boundary loss competes in the demo"
    assert "predictions?by=loss" in reader.get("/studies/organs/leaderboard", headers=HTML).text


def test_an_unchanged_study_costs_one_connection_and_few_statements(folder: Path) -> None:
    """Each is a way to the database server and back, on a page that fifty people leave open."""
    statements: list[str] = []
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        app = create_app(store, ServiceSettings(settings_in(folder)))
        event.listen(store.context.database.reader, "before_cursor_execute", lambda *found: statements.append(found[2]))
        event.listen(store.context.database.reader, "checkout", lambda *found: statements.append("connect"))

        async def ask(path: str) -> int:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return (await client.get(path, headers=HTML)).status_code

        assert asyncio.run(ask("/studies/goals")) == 200
        statements.clear()
        assert asyncio.run(ask("/studies/goals?loss=")) == 200

    assert statements.count("connect") == 1
    assert len(statements) <= 13, statements  # one of them looks for a confirmation


def test_running_studies_say_how_long_they_take(writer: httpx.Client, folder: Path) -> None:
    """Whoever opens the list wants to know which study is done tonight."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        store.workers.register(pid=os.getpid(), device="cpu", study="organs", version="demo")

    assert writer.get(STUDY).json()["phase"] == "running"
    assert re.search(r"about [^<]+ left</p>", writer.get("/?search=organs", headers=HTML).text)
    assert "left</p>" not in writer.get("/?search=rested", headers=HTML).text


def test_workers_say_what_memory_they_hold(writer: httpx.Client, folder: Path) -> None:
    """A worker that grows is seen before the machine swaps."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        worker = store.workers.register(pid=os.getpid(), device="cuda:0", study="organs", version="demo")
        store.workers.heartbeat(worker, progress={"rss_mib": 1234, "cuda_mib": 5678})

    page = writer.get("/workers", headers=HTML).text

    assert "1\u202f234 MiB · GPU 5\u202f678 MiB" in page


def test_pictures_of_predictions(reader: httpx.Client) -> None:
    """The wall is what a segmentation person looks at."""
    number = reader.get(STUDY).json()["best"]["number"]
    page = reader.get(f"/studies/organs/trials/{number}").text
    for address in re.findall(r'src="(/studies/organs/trials/\d+/pictures/[^"]+)"', page)[:4]:
        picture = reader.get(address.replace("&amp;", "&"))
        assert picture.status_code == 200
        assert picture.content.startswith(b"\x89PNG")
    base = f"/studies/organs/trials/{number}/pictures"
    assert reader.get(f"{base}/nobody").status_code == 404
    assert reader.get(f"{base}/phantom000?slice=999").status_code == 404
    assert reader.get(f"{base}/phantom000?view=x-ray").status_code == 422


def test_broken_artifacts_are_no_server_error(writer: httpx.Client, folder: Path) -> None:
    """A disk that fills up leaves half files; the page of the trial still opens."""
    number = writer.get(STUDY).json()["best"]["number"]
    trial = folder / "artifacts" / "organs" / str(number)
    for name in ("predictions.npz", "confusion.npy", "cases.jsonl"):
        (trial / name).write_bytes(b"\x00 not what it says")

    assert writer.get(f"/studies/organs/trials/{number}", headers=HTML).status_code == 200


def test_foreign_studies_are_shown_and_left_alone(writer: httpx.Client, folder: Path) -> None:
    """A storage may be shared with other Optuna programs, whose names may hold anything."""
    name = "<img src=x onerror=alert(1)>"
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'tuner.db'}")
    optuna.create_study(study_name=name, storage=storage).optimize(
        lambda trial: trial.suggest_float("x", 0, 1), n_trials=2
    )
    optuna.create_study(study_name="plain", storage=storage)
    storage.engine.dispose()

    page = writer.get("/", headers=HTML).text
    assert name not in page
    assert "&lt;img src=x" in page
    assert writer.get(f"{V1}/studies/plain").json()["foreign"] is True
    assert writer.get("/studies/plain", headers=HTML).status_code == 200
    assert writer.post(f"{V1}/studies/plain/pause").status_code == 409
    assert writer.delete(f"{V1}/studies/plain").status_code == 409


def test_fields_change_their_keys_and_leave_the_rest(writer: httpx.Client) -> None:
    """Nobody should lose what was written by hand, or learn from a failed submission what a form could have said."""
    text = "name: drafted\ndataset: phantom\nsearch: {loss: [{mine: [dice, focal]}, dice], train.lr: [0.001, 0.01]}\n"
    changes = {"search.loss": ["dice", "focal"], "budget.trials": 7, "model.width": 4, "dataset.size": 32}
    draft = writer.post("/new/draft", json={"yaml": text, "changes": changes}).json()
    assert draft["problems"] == []
    assert "7 trials, 3 losses" in draft["says"]
    assert draft["fields"]["search.train.lr"] == [0.001, 0.01]
    assert draft["fields"]["search.loss"] == ["focal", "dice"]
    assert "mine: [dice, focal]" in draft["yaml"]
    gone = writer.post(
        "/new/draft", json={"yaml": draft["yaml"], "changes": {"search.train.lr": None, "budget.trials": None}}
    )
    assert "train.lr" not in gone.json()["yaml"]
    assert "budget" not in gone.json()["yaml"]

    created = writer.post("/new", json={"yaml": draft["yaml"]})
    assert created.status_code == 201
    assert writer.get(f"{V1}/studies/drafted").json()["trials"]["total"] == 7


@pytest.mark.parametrize(
    ("text", "changes", "path", "words"),
    [
        ("dataset: phantom", {"budget.trials": 1.9}, "budget.trials", "1.9"),
        ("dataset: phantom", {"train.lr": "fast"}, "train.lr", "fast"),
        ("{dataset: phantom, search: {train.lr: {low: 3, high: 1}}}", {}, "search.train.lr", "upside down"),
        ("{dataset: phantom, search: {loss: [dyce]}}", {}, "search.loss", "dyce"),
        ("{dataset: phantom, name: organs}", {}, "name", "already"),
        ("dataset: [", {"seed": 3}, "", "not valid YAML"),
        ("{dataset: phantom, train: fast}", {"train.lr": 3}, "train", "no mapping"),
    ],
)
def test_what_is_wrong_is_said_at_its_key(
    reader: httpx.Client, text: str, changes: dict[str, Any], path: str, words: str
) -> None:
    """A number is not cut to fit, a name that is taken is said before the submission, an edit is never overwritten."""
    draft = reader.post("/new/draft", json={"yaml": text, "changes": changes}).json()

    assert (draft["problems"][0]["path"], words in draft["problems"][0]["text"]) == (path, True)
    if draft["fields"] is None:
        assert draft["yaml"] == text


def test_studies_begin_as_earlier_ones_and_as_files_of_the_package(reader: httpx.Client) -> None:
    """A copy is a study file that is accepted, under a name that is free."""
    for address in ("/new", "/new?template=survey-synapse", "/new?study=organs"):
        page = reader.get(address, headers=HTML).text
        found = re.search(r'<textarea id="yaml"[^>]*>(.*?)</textarea>', page, re.DOTALL)
        assert found is not None
        draft = reader.post("/new/draft", json={"yaml": html.unescape(found[1])}).json()
        assert draft["problems"] == [], address
    assert draft["fields"]["name"] == "organs-copy"
    assert draft["fields"]["train.epochs"] == 12
    assert "threads" not in found[1]
    assert re.search(r"s an epoch as in (the confirmation of )?[\w-]+\.$", draft["says"]), "a study that is listed"
    assert reader.get("/new?template=nothing").status_code == 422
    assert reader.get("/new?study=nothing").status_code == 404


def test_a_missing_data_root_is_said(reader: httpx.Client) -> None:
    """Workers of other machines may have the data: it is said, not refused."""
    draft = reader.post("/new/draft", json={"yaml": "{name: far, dataset: synapse, search: {loss: [dice]}}"}).json()

    assert draft["problems"] == []
    assert "synapse in the data root" in draft["note"]


def test_whole_families_are_named(reader: httpx.Client) -> None:
    """A study file that lists forty losses says less than `all`."""
    losses = [x for x in reader.get(f"{V1}/losses").json() if not LOSSES[x["name"]].same_as]
    pixel = [x["name"] for x in losses if x["family"] == "pixel"]
    for names, written in (([x["name"] for x in losses], "loss: [all]"), (pixel, "loss: [pixel]")):
        draft = reader.post("/new/draft", json={"yaml": "dataset: phantom", "changes": {"search.loss": names}}).json()
        assert written in draft["yaml"]


def test_a_poll_may_be_a_moment_old_and_nothing_else(writer: httpx.Client) -> None:
    """Fifty polling pages share one look at the storage; somebody who has just pressed a button sees what it did."""
    page = "/studies/organs"
    first = writer.get(page, headers=HTML)
    writer.post(f"{STUDY}/pause")

    polled = writer.get(page, headers={**HTML, "X-Poll": "1", "If-None-Match": first.headers["ETag"]})
    asked = writer.get(page, headers={**HTML, "If-None-Match": first.headers["ETag"]})

    assert polled.status_code in (200, 304)
    assert asked.status_code == 200
    assert "ph-paused" in asked.text


def test_the_catalogue_shows_how_every_loss_answers_to_errors(reader: httpx.Client) -> None:
    """The survey's third figure: which losses feel an error of a large object, and which of a small one."""
    page = reader.get("/losses").text

    assert page.count('class="pair"') == 5 * len(LOSSES)


def test_a_device_that_was_quarantined_is_shown(writer: httpx.Client, folder: Path) -> None:
    """The lab sees which card is broken, on the page of workers and on that of the study."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        worker = store.workers.register(host="node7", pid=os.getpid(), device="cuda:3", study="goals", version="t")
        store.workers.quarantine_device(worker, "goals", "its last 3 trials <all> failed")

    for path in ("/workers", "/studies/goals", "/studies/goals/workers"):
        page = writer.get(path, headers=HTML).text
        assert "cuda:3 of node7 is quarantined" in page
        assert "its last 3 trials &lt;all&gt; failed" in page
    document = writer.get("/api/v1/studies/goals").json()
    assert [(d["host"], d["device"]) for d in document["put_aside"]] == [("node7", "cuda:3")]
