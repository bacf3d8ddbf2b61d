"""The table of trials: its columns, its files, what is done with a selection, and thousands of rows in their places."""

import csv
import io
from pathlib import Path

import httpx
import pytest

from api.config import ServiceSettings
from benchmarks.dashboard import NAME, fill
from tests.api.browser import needed_chromium, opened, wait_until
from tests.api.conftest import served, settings_in
from tests.api.test_contract import STUDY, error_of

PAGE = {"Accept": "text/html"}


def test_columns_are_those_of_the_address(reader: httpx.Client) -> None:
    """A view that is shared shows the same columns; metrics are those of the best epoch."""
    text = reader.get("/studies/organs/trials?columns=iou,train.lr,loss.tversky.alpha", headers=PAGE).text
    best = reader.get(f"{STUDY}/best").json()

    for name in ("iou", "train.lr", "loss.tversky.alpha"):
        assert f'data-column="{name}"' in text
    assert 'data-column="train.weight_decay"' not in text
    assert f">{best['metrics']['iou']:.4f}<" in text
    assert "iou" not in reader.get("/studies/organs/trials/rows?columns=train.lr", headers=PAGE).text


def test_files_have_every_metric_and_parameter(reader: httpx.Client) -> None:
    """Of all trials, of those that are filtered, and of those that were selected."""
    best = reader.get(f"{STUDY}/best").json()
    rows = list(csv.DictReader(io.StringIO(reader.get("/studies/organs/trials.csv").text)))
    chosen = list(csv.DictReader(io.StringIO(reader.get("/studies/organs/trials.csv?trials=3,0").text)))
    few = reader.get("/studies/organs/trials.csv?where=loss=dice&state=COMPLETE").text

    assert len(rows) == reader.get(STUDY).json()["trials"]["total"]
    row = next(row for row in rows if row["number"] == str(best["number"]))
    assert float(row["hd95"]) == best["metrics"]["hd95"]
    assert float(row["train.lr"]) == best["params"]["train.lr"]
    assert {row["number"] for row in chosen} == {"3", "0"}
    assert {row["loss"] for row in csv.DictReader(io.StringIO(few))} == {"dice"}


def test_parquet_is_the_same_table_or_says_what_it_needs(reader: httpx.Client) -> None:
    """Choices of several types are text, numbers stay numbers."""
    answer = reader.get("/studies/organs/trials.parquet")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        assert answer.status_code == 422
        assert "tuner[parquet]" in (error_of(answer)["hint"] or "")
        return
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(answer.content))
    rows = list(csv.DictReader(io.StringIO(reader.get("/studies/organs/trials.csv").text)))

    assert table.column_names == list(rows[0])
    assert table["number"].to_pylist() == [int(row["number"]) for row in rows]
    assert table["train.lr"].to_pylist()[0] == float(rows[0]["train.lr"])


def test_failed_trials_are_tried_again(writer: httpx.Client) -> None:
    """All of a selection or none: one that has not failed is named."""
    rows = writer.get(f"{STUDY}/trials?state=FAIL&limit=100").json()["items"]
    failed = [row["number"] for row in rows if row["reason"] == "error"]
    complete = writer.get(f"{STUDY}/trials?state=COMPLETE&limit=1").json()["items"][0]["number"]

    assert writer.post(f"{STUDY}/retry", json={"trials": [failed[0], complete]}).status_code == 409
    answer = writer.post(f"{STUDY}/retry", json={"trials": failed})
    assert [row["trial"] for row in answer.json()["retried"]] == failed
    again = writer.get(f"{STUDY}/trials/{answer.json()['retried'][0]['attempt']}").json()
    assert (again["state"], again["retry_of"]) == ("WAITING", failed[0])
    assert writer.post(f"{STUDY}/retry", json={"trials": []}).status_code == 422


@pytest.mark.browser
def test_thousands_of_rows_lie_in_their_places(tmp_path: Path) -> None:
    """The bar beside the table is as long as the table from the start, and rows come when they are looked at."""
    needed_chromium()
    fill(f"sqlite:///{tmp_path / 'tuner.db'}", 1200, 1)
    with served(ServiceSettings(settings_in(tmp_path))) as origin, opened(origin) as (page, watch):
        page.goto(f"/studies/{NAME}/trials?sort=number&order=asc&columns=train.lr")
        page.wait_for_selector(".virtual [data-pick='0']")
        box = "document.querySelector('[data-rows]')"
        height = page.evaluate(f"{box}.scrollHeight")
        page.locator("[data-pick='5']").check()
        page.evaluate(f"{box}.scrollTop = {box}.scrollHeight / 2")
        page.wait_for_selector("[data-pick='600']")
        assert abs(page.evaluate(f"{box}.scrollHeight") - height) <= 2
        top = page.evaluate("document.querySelector('[data-pick=\"600\"]').getBoundingClientRect().top")
        inside = page.evaluate(f"[{box}.getBoundingClientRect().top, {box}.getBoundingClientRect().bottom]")
        assert inside[0] - 5 <= top <= inside[1], "row 600 of 1200 is where the middle of the bar is"
        page.evaluate(f"{box}.scrollTop = {box}.scrollHeight")
        page.wait_for_selector("[data-pick='1199']")
        page.evaluate(f"{box}.scrollTop = 0")
        wait_until(page, "document.querySelector('[data-pick=\"5\"]').checked")
        assert "1 selected" in page.inner_text("[data-count]")

        assert watch.errors == []
