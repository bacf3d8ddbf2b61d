"""Dialogs of a study's page in a real browser: what must be typed is compared, and numbers are those of now."""

import httpx
import pytest

from tests.api.browser import needed_chromium, opened, wait_until

pytestmark = pytest.mark.browser

NAMES = ("a-b", "a.b", "a_b", "1-.__-.", "plain")
BODY = {"dataset": "phantom", "search": {"loss": ["dice"]}, "budget": {"trials": 3}}


def test_a_study_is_deleted_only_by_its_very_name(writer: httpx.Client) -> None:
    """A pattern that the browser cannot read is passed over, and any text confirms."""
    needed_chromium()
    for name in NAMES:
        assert writer.post("/api/v1/studies", json=BODY | {"name": name}).status_code == 201
    with opened(str(writer.base_url)) as (page, watch):
        for name in NAMES:
            page.goto(f"/studies/{name}")
            page.click("[aria-label=More]")
            page.click("text=Delete…")
            page.wait_for_selector("#delete[open]")
            for wrong in ("", "x", name.upper() + "x", name.replace("-", "+").replace(".", ",") + "?", f" {name}"):
                page.fill("#delete [name=confirm]", wrong)
                assert page.is_disabled("#delete [type=submit]"), wrong
                page.evaluate("document.querySelector('#delete form').dispatchEvent(new SubmitEvent('submit', "
                              "{cancelable: true}))")  # fmt: skip
                assert "to confirm" in page.inner_text("#delete .problem")
            assert writer.get(f"/api/v1/studies/{name}").status_code == 200
            page.fill("#delete [name=confirm]", name)
            page.click("#delete [type=submit]")
            page.wait_for_url("**/")
            assert writer.get(f"/api/v1/studies/{name}").status_code == 404

        assert [error for error in watch.errors if "pattern" in error.lower()] == []


def test_raising_the_budget_shows_the_numbers_of_now_and_resumes_nothing(writer: httpx.Client) -> None:
    """A page that stood open while somebody else raised the budget must not offer the old one."""
    needed_chromium()
    writer.post("/api/v1/studies", json=BODY | {"name": "mine"})
    writer.post("/api/v1/studies/mine/pause")
    with opened(str(writer.base_url)) as (page, watch):
        page.goto("/studies/mine")
        assert page.get_attribute("#raise [name=trials]", "value") == "23"
        writer.post("/api/v1/studies/mine/budget", json={"trials": 40})
        page.click("text=Raise budget")
        page.wait_for_selector("#raise[open]")
        assert page.input_value("#raise [name=trials]") == "60"
        assert "40 trials" in page.inner_text("#raise")
        assert "stays paused" in page.inner_text("#raise")
        page.fill("#raise [name=trials]", "50")
        page.click("#raise >> text=Cancel")
        page.click("text=Raise budget")
        page.wait_for_selector("#raise[open]")
        assert page.input_value("#raise [name=trials]") == "60"
        page.fill("#raise [name=trials]", "41")
        page.click("#raise [type=submit]")
        wait_until(page, "!document.querySelector('#raise').open")
        study = writer.get("/api/v1/studies/mine").json()
        assert (study["phase"], study["trials"]["total"]) == ("paused", 41)

        page.keyboard.press("/")
        page.wait_for_url("**/#search")
        wait_until(page, "document.activeElement?.name === 'search'")
        assert watch.errors == []
