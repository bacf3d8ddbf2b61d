"""What somebody has typed, chosen, scrolled to or focused stays, whatever arrives meanwhile and in whatever order."""

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.browser import HeldBack, needed_chromium, opened, wait_until
from tests.api.test_contract import STUDY

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = pytest.mark.browser

ADDRESS = "decodeURIComponent(location.search)"
FOCUSED = "document.activeElement.getAttribute('href') ?? document.activeElement.getAttribute('aria-label')"


def is_own_request(route: "Route") -> bool:
    """Tell whether the page asks for itself again."""
    return route.request.resource_type == "fetch"


def test_what_was_chosen_before_the_scripts_have_come_counts(address: str) -> None:
    """A field that says one thing above a table that shows another misleads."""
    needed_chromium()
    with opened(address) as (page, watch):
        scripts = HeldBack(page, "**/words.js*")
        page.goto("/studies/organs/trials", wait_until="commit")
        page.check("tbody tr:nth-child(2) [data-pick]")
        picked = page.get_attribute("tbody tr:nth-child(2) [data-pick]", "data-pick")
        page.fill("[data-filter-text]", "kidney")
        scripts.release()
        wait_until(page, f"{ADDRESS}.includes('where=text=kidney')")
        assert page.input_value("[data-filter-text]") == "kidney"
        assert page.inner_text("[data-count]") == "1 selected"

        scripts = HeldBack(page, "**/words.js*")
        page.goto("/studies/organs/curves", wait_until="commit")
        page.select_option("[data-word=scale]", "log")
        scripts.release()
        wait_until(page, f"{ADDRESS}.includes('scale=log')")
        assert picked is not None
        assert watch.errors == []


def test_a_search_that_is_left_at_once_is_done(address: str) -> None:
    """The field waits for a pause in typing; another choice within it took the text away."""
    needed_chromium()
    with opened(address) as (page, _):
        page.goto("/studies/organs/trials")
        page.wait_for_selector("[data-count]:has-text('select trials')")
        page.evaluate("""() => {
            const search = document.querySelector('[data-filter-text]');
            search.focus();
            search.value = 'kidney';
            search.dispatchEvent(new Event('input', { bubbles: true }));
            search.blur();
            search.dispatchEvent(new Event('change', { bubbles: true }));
            document.querySelector('[data-starred-only]').click();
        }""")
        wait_until(page, f"{ADDRESS}.includes('starred=yes') && {ADDRESS}.includes('text=kidney')")
        page.wait_for_timeout(400)
        assert page.input_value("[data-filter-text]") == "kidney"
        assert "text=kidney" in page.evaluate(ADDRESS)


def test_a_dialog_that_is_asked_for_twice_keeps_what_is_typed(address: str) -> None:
    """It opens when the page has heard how the study stands; the second answer emptied its fields."""
    needed_chromium()
    with opened(address) as (page, _):
        page.goto("/studies/organs/settings")
        waiting: list[Route] = []
        held = True
        page.route(
            "**/studies/organs/settings",
            lambda route: waiting.append(route) if held and is_own_request(route) else route.continue_(),
        )
        page.click("[data-dialog=enqueue]")
        page.click("[data-dialog=enqueue]", no_wait_after=True)
        _await(page, waiting, 1)
        if page.locator("#enqueue[open]").count() == 0:
            waiting.pop(0).continue_()
        page.wait_for_selector("#enqueue[open]")
        page.fill("#enqueue [name='train.lr']", "0.003")
        held = False
        for route in waiting:
            route.continue_()
        page.wait_for_timeout(700)
        assert page.input_value("#enqueue [name='train.lr']") == "0.003"


def test_a_live_page_keeps_focus_scroll_and_folds(writer: httpx.Client) -> None:
    """A table that jumps to its top every few seconds cannot be read; a lost focus begins at the top."""
    needed_chromium()
    with opened(str(writer.base_url), height=560) as (page, watch):
        page.goto("/studies/organs/leaderboard")
        page.wait_for_selector("[data-figure=edf] .js-plotly-plot, [data-figure=edf] .plot")
        href = page.get_attribute("#leaderboard tbody tr:nth-child(9) a.trial", "href")
        page.focus("#leaderboard tbody tr:nth-child(9) a.trial")
        page.evaluate("document.querySelector('#leaderboard .scroll').scrollTop = 120")
        _change(page, writer, "leaderboard")
        assert page.evaluate("document.querySelector('#leaderboard .scroll').scrollTop") == 120
        assert page.evaluate(FOCUSED) == href

        page.focus("#head .star")
        page.keyboard.press("Enter")
        page.wait_for_selector(".toast")
        wait_until(page, "document.activeElement !== document.body")
        assert page.evaluate(FOCUSED) == "Star"

        page.goto("/studies/organs/trials")
        number = page.get_attribute("tbody tr:nth-child(3) a.trial", "href")
        page.focus("tbody tr:nth-child(3) a.trial")
        page.evaluate("document.querySelector('tbody tr').old = true")
        writer.patch(STUDY, json={"add_tags": ["now"]})
        wait_until(page, "!document.querySelector('tbody tr').old")
        assert page.evaluate(FOCUSED) == number
        assert watch.errors == []


def test_what_is_sent_is_sent_once_and_what_is_typed_meanwhile_stays(writer: httpx.Client) -> None:
    """An impatient second Enter queued a second trial; an answer to the notes took away what had been typed since."""
    needed_chromium()
    with opened(str(writer.base_url)) as (page, _):
        waiting: list[Route] = []
        held = True
        page.route(
            "**/api/v1/studies/fresh**",
            lambda route: waiting.append(route) if held and route.request.method != "GET" else route.continue_(),
        )

        def release() -> None:
            _await(page, waiting, 1)
            page.wait_for_timeout(100)
            while waiting:
                waiting.pop().continue_()

        page.goto("/studies/fresh")
        page.click("#notes [data-edit]")
        page.keyboard.type("The liver")
        page.keyboard.press("Control+Enter")
        page.keyboard.type(" is wrong")
        page.keyboard.press("Control+Enter")
        release()
        page.wait_for_selector(".toast")
        assert page.input_value("#notes textarea") == "The liver is wrong"
        assert writer.get("/api/v1/studies/fresh").json()["notes"] == "The liver"
        page.keyboard.press("Control+Enter")
        release()
        page.wait_for_selector("#notes [data-shown]:has-text('The liver is wrong')")

        before = writer.get("/api/v1/studies/fresh/activity").json()["total"]
        page.click("[data-dialog=enqueue]")
        page.wait_for_selector("#enqueue[open]")
        page.fill("#enqueue [name='train.lr']", "0.003")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        release()
        wait_until(page, "!document.querySelector('#enqueue').open")
        assert writer.get("/api/v1/studies/fresh/activity").json()["total"] == before + 1


def _await(page: Any, routes: "list[Route]", count: int) -> None:
    """Wait until so many requests are held back."""
    until = time.monotonic() + 30
    while len(routes) < count:
        assert time.monotonic() < until, f"{len(routes)} of {count} requests have come"
        page.wait_for_timeout(20)


def _change(page: Any, writer: httpx.Client, region: str) -> None:
    """Change the study, and wait until a region of the page has been replaced."""
    page.evaluate(f"document.getElementById('{region}').append(document.createComment('old'))")
    assert writer.patch(STUDY, json={"add_tags": ["changed"]}).status_code == 200
    wait_until(page, f"document.getElementById('{region}').lastChild.nodeType !== Node.COMMENT_NODE")
