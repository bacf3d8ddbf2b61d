"""Saved views: addresses of a study's pages under names, kept in the browser."""

import httpx
import pytest

from tests.api.browser import needed_chromium, opened, wait_until

pytestmark = pytest.mark.browser

NAME = "dice, <img src=x onerror=alert(1)>"
KEY = "'tuner-views:' + document.querySelector('[data-views]').dataset.identity"
KEPT = f"JSON.parse(localStorage.getItem({KEY}))"


def test_a_view_is_saved_opened_and_deleted_by_the_keyboard(address: str) -> None:
    """Its name is text whatever it holds, and what others left in the browser leads nowhere else."""
    needed_chromium()
    with opened(address) as (page, watch):
        page.goto("/studies/organs/trials?loss=dice&columns=train.lr&offset=0")
        page.focus("[data-views] summary")
        for key in ("Enter", "Tab", "Enter"):
            page.keyboard.press(key)
        page.wait_for_selector("#save-view[open]")
        page.keyboard.press("Enter")
        assert "needs a name" in page.inner_text("#save-view .problem")
        page.keyboard.type(NAME)
        page.keyboard.press("Enter")
        wait_until(page, "!document.querySelector('#save-view').open")
        assert page.evaluate(KEPT) == [{"name": NAME, "tab": "trials", "words": "columns=train.lr&loss=dice"}]

        page.evaluate(
            f"localStorage.setItem({KEY}, JSON.stringify([...{KEPT}, 7, "
            "{name: 'bad', tab: '/../..//elsewhere.example', words: ''}]))"
        )
        page.goto("/studies/organs/leaderboard")
        page.focus("[data-views] summary")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[data-views] a:has-text('{NAME}')")
        assert page.locator("[data-views] a").count() == 1
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/studies/organs/trials?columns=train.lr&loss=dice")

        page.click("[data-views] summary")
        assert page.get_attribute("[data-views] a", "aria-current") == "true"
        page.focus("[data-views] .view button")
        page.keyboard.press("Enter")
        assert page.locator("[data-views] a").count() == 0
        assert page.evaluate(KEPT) == []
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.textContent") == "Views"
        assert watch.errors == []


def test_a_renamed_study_keeps_its_views(writer: httpx.Client) -> None:
    """Those of an older version too, which kept them by its name: they are taken along once."""
    needed_chromium()
    with opened(str(writer.base_url)) as (page, watch):
        page.goto("/studies/fresh/settings")
        page.evaluate("""localStorage.setItem('tuner-views:fresh', JSON.stringify([
            {name: 'older', tab: 'curves', words: 'scale=log'},
            {name: 'of both', tab: 'trials', words: 'loss=dice'}]))""")
        page.goto("/studies/fresh/trials?state=FAIL")
        page.click("[data-views] summary")
        page.click("[data-save-view]")
        page.fill("#save-view [name=name]", "of both")
        page.keyboard.press("Enter")
        wait_until(page, "!document.querySelector('#save-view').open")
        assert page.evaluate("localStorage.getItem('tuner-views:fresh')") is None

        assert writer.post("/api/v1/studies/fresh/rename", json={"name": "calm"}).status_code == 200
        page.goto("/studies/calm/leaderboard")
        page.click("[data-views] summary")
        links = page.locator("[data-views] a")
        assert [links.nth(i).get_attribute("href") for i in range(links.count())] == [
            "/studies/calm/trials?state=FAIL",
            "/studies/calm/curves?scale=log",
        ]
        assert watch.errors == []
