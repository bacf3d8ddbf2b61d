"""The form of a new study: nothing that was typed is lost, whatever the network does meanwhile."""

import pytest

from tests.api.browser import HeldBack, needed_chromium, opened, wait_until

pytestmark = pytest.mark.browser


HELD = """[...document.querySelectorAll("form.new input, form.new select")]
    .filter((field) => !field.closest("[hidden]"))
    .map((field) => [
        field.dataset.key ?? field.name ?? "",
        field.type === "checkbox" ? field.checked
            : field.multiple ? [...field.selectedOptions].map((option) => option.value).join()
            : Number(field.value) || field.value,
        field.closest(".off") !== null])"""
"""What every field holds that is shown, and whether it is switched off."""


@pytest.mark.parametrize("query", ["", "?template=survey-synapse", "?study=organs"])
def test_the_page_comes_with_what_its_file_says(address: str, query: str) -> None:
    """A box that is only ticked by the first answer is unticked by who is faster and wants to tick it."""
    needed_chromium()
    with opened(address) as (page, _):
        scripts = HeldBack(page, "**/form.js*")
        page.goto(f"/new{query}", wait_until="commit")
        page.wait_for_selector("#yaml")
        wait_until(page, "document.readyState === 'interactive'")
        sent = page.evaluate(HELD)
        scripts.release()
        page.wait_for_selector(".says:has-text('losses'), .problems li")

        assert [held for held in sent if held[1] is True], "losses are ticked"
        assert page.evaluate(HELD) == sent


def test_what_is_typed_before_the_scripts_have_come_is_kept(address: str) -> None:
    """The first answer fills the fields with the file: what the file did not know yet was typed again."""
    needed_chromium()
    with opened(address) as (page, watch):
        scripts = HeldBack(page, "**/form.js*")
        page.goto("/new", wait_until="commit")
        page.fill("[data-key=name]", "early")
        page.check("[name=losses][value=tversky]")
        page.select_option("[data-key='sampler.name']", "random")
        scripts.release()
        wait_until(page, "document.querySelector('#yaml').value.includes('name: early')")
        text = page.input_value("#yaml")

        assert page.input_value("[data-key=name]") == "early"
        assert "tversky" in text
        assert "random" in text
        assert page.input_value("[data-key='model.name']") == "unet", "an untouched field keeps the file's value"
        assert watch.errors == []


def test_a_change_whose_request_failed_goes_with_the_next(address: str) -> None:
    """A network that was away for a second is no reason to type a name again."""
    needed_chromium()
    with opened(address) as (page, _):
        page.goto("/new")
        page.wait_for_selector(".says:has-text('losses')")
        page.route("**/new/draft", lambda route: route.abort())
        page.fill("[data-key=name]", "kept")
        page.wait_for_selector(".problems li")
        page.unroute("**/new/draft")
        page.fill("[name=trials]", "7")
        wait_until(page, "document.querySelector('#yaml').value.includes('trials: 7')")

        assert "name: kept" in page.input_value("#yaml")
        assert page.input_value("[data-key=name]") == "kept"
