"""Saved views: addresses of a study's pages under names, kept in the browser."""

import pytest

from tests.api.browser import needed_chromium, opened, wait_until

pytestmark = pytest.mark.browser

NAME = "dice, <img src=x onerror=alert(1)>"
KEPT = "JSON.parse(localStorage.getItem('tuner-views:organs'))"


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
            f"localStorage.setItem('tuner-views:organs', JSON.stringify([...{KEPT}, 7, "
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
