"""The dashboard in a real browser: a study from the form to the download, with real workers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.browser import needed_chromium, opened, scroll_through, wait_until
from tuner.client import Client
from tuner.errors import RunError

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = pytest.mark.browser

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
    "/studies/organs/compare",
    "/losses",
    "/datasets",
    "/workers",
    "/new",
    "/login",
)


FIGURES = {
    "": ("history",),
    "curves": ("curves", "history"),
    "parameters": ("importance", "contour", "slice", "parallel"),
    "workers": ("timeline",),
}
"""Figures by the page that shows them."""


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """`tuner serve` with two workers, as a user starts it, in an empty folder."""
    needed_chromium()
    environment = {**os.environ, "TUNER_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tuner", "serve", "--port", "0", "--workers", "2", "--devices", "cpu"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[0-9.:]+", line)
        assert found, line + process.stderr.read()
        _await_answer(found[0])
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stderr is not None:
            process.stderr.close()


def _await_answer(origin: str) -> None:
    for _ in range(600):
        try:
            Client(origin).studies()
        except RunError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{origin} does not answer")


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        pytest.param(1440, False, id="desk, light", marks=pytest.mark.slow),
        pytest.param(390, True, id="telephone, dark"),
    ],
)
def test_every_page_fits_and_is_silent(address: str, width: int, dark: bool) -> None:
    """No console error, no request to elsewhere, nothing that sticks out of a telephone's screen."""
    needed_chromium()
    with opened(address, width=width, dark=dark) as (page, watch):
        for path in PAGES:
            page.goto(path)
            scroll_through(page)
            overhang = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overhang <= 0, (path, overhang)

        assert watch.errors == []
        assert watch.strangers == []


def test_figures_are_drawn_and_told_as_tables(address: str) -> None:
    """A figure that stays empty looks like a study without results."""
    needed_chromium()
    with opened(address) as (page, watch):
        for tab, names in FIGURES.items():
            page.goto(f"/studies/organs/{tab}".rstrip("/"))
            for name in names:
                page.locator(f"[data-figure={name}]").scroll_into_view_if_needed()
                page.wait_for_selector(f"[data-figure={name}] svg.main-svg")
        page.goto("/studies/organs/curves")
        page.wait_for_selector("[data-figure=curves] svg.main-svg")
        page.locator("[data-figure=history]").scroll_into_view_if_needed()
        page.click("[data-figure=history] [data-tool=table]")
        page.wait_for_selector("[data-figure=history] .tabled tbody tr")
        with page.expect_download() as download:
            page.click("[data-figure=curves] [data-tool=png]")
        assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
        page.goto("/studies/organs/parameters")
        page.select_option("[data-word=loss]", "tversky")
        page.locator("[data-figure=slice]").scroll_into_view_if_needed()
        wait_until(
            page, "document.querySelector('[data-figure=slice] .plot').textContent.includes('loss.tversky.alpha')"
        )

        assert watch.errors == []


def test_figures_keep_their_height_when_the_window_changes(address: str) -> None:
    """Plotly's own answer to it drew every figure as high as an empty one: what was below was cut off."""
    needed_chromium()
    sizes = """[...document.querySelectorAll(".js-plotly-plot")].map((p) => [
        p._fullLayout.width, p._fullLayout.height, p.clientWidth, p.clientHeight])"""
    with opened(address, width=1024) as (page, watch):
        page.goto("/studies/organs/parameters")
        page.wait_for_selector("[data-figure=parallel] svg.main-svg")
        (before, *_) = page.evaluate(sizes)
        page.set_viewport_size({"width": 1300, "height": 900})
        wait_until(page, f"document.querySelector('.js-plotly-plot')._fullLayout.width > {before[0] + 100}")

        for width, height, wide, high in page.evaluate(sizes):
            assert (width, height <= high) == (wide, True)
        assert page.evaluate(sizes)[0][1] == before[1]
        assert watch.errors == []


def test_a_point_in_a_figure_leads_to_its_trial_and_its_predictions(address: str) -> None:
    """From an outlier in a figure it is one step to what the network got wrong."""
    needed_chromium()
    with opened(address) as (page, watch):
        page.goto("/studies/organs")
        page.locator("[data-figure=history]").scroll_into_view_if_needed()
        page.wait_for_selector("[data-figure=history] svg.main-svg")
        page.evaluate(
            "document.querySelector('[data-figure=history] .plot').emit('plotly_click', {points: [{customdata: [0]}]})"
        )
        offers = page.locator(".offer a")
        assert offers.count() == 2
        assert offers.nth(0).get_attribute("href") == "/studies/organs/trials/0"
        page.keyboard.press("Escape")
        assert offers.count() == 0
        page.evaluate(
            "document.querySelector('[data-figure=history] .plot').emit('plotly_click', {points: [{customdata: [0]}]})"
        )
        offers.nth(1).click()
        page.wait_for_url("**/compare?trials=0,*#wall")
        assert page.locator(".compare thead .trial").count() == 2

        assert watch.errors == []


def test_the_table_of_trials_filters_without_a_reload(address: str) -> None:
    """Filter, sort, choose columns, select, compare: with the keyboard's focus where it was."""
    needed_chromium()
    with opened(address) as (page, watch):
        page.goto("/studies/organs#trials")
        page.wait_for_url("**/studies/organs/trials")
        page.evaluate("window.stayed = true")
        page.select_option("#trials select[name=state]", "PRUNED")
        wait_until(page, "[...document.querySelectorAll('#table .state')].every(x => x.textContent.includes('pruned'))")
        page.select_option("#trials select[name=state]", "")
        page.click("#table th a:has-text('Trial')")
        page.wait_for_selector("#table th[aria-sort=ascending] a:has-text('Trial')")
        page.click(".columns summary")
        page.uncheck("[data-columns] input[value='train.lr']")
        page.check("[data-columns] input[value='hd95']")
        page.wait_for_selector("#table th[data-column=hd95]")
        assert page.locator("#table th[data-column='train.lr']").count() == 0
        assert "columns=hd95" in page.url
        assert page.evaluate("window.stayed")
        page.locator("#table [data-pick]").nth(0).check()
        page.locator("#table [data-pick]").nth(1).check()
        page.click("[data-act=compare]")
        page.wait_for_url("**/compare?trials=*")
        assert page.locator(".compare thead .trial").count() == 2

        assert watch.errors == []


def test_a_view_that_is_answered_late_does_not_replace_a_later_one(address: str) -> None:
    """Two choices of columns in a row: the answer to the first arrives last, and the second is what was asked for."""
    needed_chromium()
    with opened(address) as (page, _):
        page.goto("/studies/organs/trials")
        late: list[Route] = []
        page.route(
            "**/trials?*", lambda route: route.continue_() if "hd95" in route.request.url else late.append(route)
        )
        page.click(".columns summary")
        page.uncheck("[data-columns] input[value='train.lr']")
        page.check("[data-columns] input[value='hd95']")
        page.wait_for_selector("#table th[data-column=hd95]")
        with page.expect_event("requestfinished"):
            late[0].continue_()
        page.evaluate("new Promise((done) => setTimeout(done, 100))")
        assert page.locator("#table th[data-column='hd95']").count() == 1


def test_keys_and_theme(address: str) -> None:
    """Somebody who leaves it open all day has the hands on the keyboard and the light off."""
    needed_chromium()
    with opened(address) as (page, _):
        page.goto("/")
        page.keyboard.press("/")
        page.keyboard.type("goals")
        wait_until(page, "document.querySelectorAll('.study').length === 1")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_study_from_the_form_to_the_download(origin: str) -> None:
    """Created in the form, watched while real workers run, paused, resumed, a trial enqueued, compared, exported."""
    with opened(origin) as (page, watch):
        page.goto("/")
        page.click("text=New study")
        _fill_form(page)
        page.click("text=Create the study")
        page.wait_for_url("**/studies/clicked")
        page.evaluate("window.stayed = true")
        page.wait_for_selector("#running .spark, #now .hero .trial", timeout=120_000)

        page.click("text=Pause")
        page.wait_for_selector("#head .ph-paused")
        page.click("#head >> text=Resume")
        page.wait_for_selector("#head .ph-running")
        page.click("text=Enqueue trial")
        page.select_option("#enqueue select[name=loss]", '"focal"')
        page.fill("#enqueue input[name='loss.focal.gamma']", "2.5")
        page.click("text=Put at the head of the queue")
        page.wait_for_selector(".toast:has-text('is next')")
        client = Client(origin)
        enqueued = next(
            t["number"] for t in client.iter_trials("clicked") if t["params"].get("loss.focal.gamma") == 2.5
        )
        _await_end(client, enqueued)
        page.click("text=Stop")
        page.wait_for_selector("#head .ph-stopped")
        assert page.evaluate("window.stayed"), "the page must live without a reload"

        page.goto("/studies/clicked/compare")
        page.wait_for_selector(".wall-table img")
        page.goto("/studies/clicked")
        page.click("[aria-label=More]")
        with page.expect_download() as download:
            page.click("text=Best as JSON")
        assert json.loads(Path(download.value.path()).read_text())["loss"]["name"] in ("dice", "focal")

        assert watch.errors == []
        assert watch.strangers == []


def _await_end(client: Client, number: int) -> None:
    for _ in range(240):
        if client.trial("clicked", number)["state"] == "COMPLETE":
            return
        time.sleep(0.5)
    raise AssertionError(client.trial("clicked", number))


def _fill_form(page: Any) -> None:
    """Describe a study that two CPU workers finish in seconds; fields and file stay in step."""
    page.fill("[data-key=name]", "clicked")
    for key, value in {
        "dataset.size": 32,
        "dataset.cases": 4,
        "dataset.slices": 4,
        "model.width": 4,
        "model.depth": 2,
    }.items():
        page.locator(f"form.new [data-key='{key}']:visible").fill(str(value))
    for box in page.locator("[name=losses]").all():
        box.set_checked(box.get_attribute("value") in ("dice", "focal"))
    page.fill("[name=epochs]", "2")
    page.fill("[name=trials]", "1.9")
    page.wait_for_selector("[data-field='budget.trials'] .wrong:has-text('1.9')")
    assert page.get_attribute("[name=trials]", "aria-invalid") == "true"
    assert page.is_disabled("form.new [type=submit]")
    page.fill("[name=trials]", "300")
    page.wait_for_selector(".says:has-text('300 trials, 2 losses')")
    wait_until(page, "document.querySelector('#yaml').value.includes('name: clicked')")

    edited = page.input_value("#yaml") + "seed: 5\n"
    page.fill("#yaml", edited)
    wait_until(page, "document.querySelector('[data-key=seed]').value === '5'")
    page.fill("[data-key='budget.retries']", "2")
    wait_until(page, "document.querySelector('#yaml').value.includes('retries: 2')")
    assert "seed: 5" in page.input_value("#yaml"), "an edit of the file stays when a field changes"
    assert "width: 4" in page.input_value("#yaml")
    page.wait_for_selector("form.new [type=submit]:enabled")
