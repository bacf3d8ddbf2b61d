"""Every page of a study is at most two screens long on a desk, in whatever state it opens."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.config import ServiceSettings
from api.pages.confirmation import EVIDENCE
from api.pages.study_frame import TABS
from tests.api import survey_demo
from tests.api.browser import needed_chromium, opened, scroll_through, wait_until
from tests.api.conftest import served, settings_in
from tests.api.test_accessibility import axe_source, violations

pytestmark = pytest.mark.browser

SCREEN = 900
HEIGHT = "document.documentElement.scrollHeight"
DRAWN = """[...document.querySelectorAll("[data-figure] .plot")].every(
    (plot) => plot.classList.contains("js-plotly-plot") || plot.classList.contains("bare"))"""


def test_the_pages_of_a_study_are_two_screens_long(address: str) -> None:
    """Whoever looks for something scrolls once."""
    needed_chromium()
    with opened(address, height=SCREEN) as (page, _):
        assert too_long(page, "organs", [key for key, _ in TABS]) == {}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service on a study of every loss, twenty of them confirmed."""
    needed_chromium()
    folder = tmp_path_factory.mktemp("survey")
    survey_demo.build(folder)
    with served(ServiceSettings(settings_in(folder))) as url:
        yield url


@pytest.mark.slow
def test_so_are_those_of_a_study_of_every_loss_with_twenty_confirmed(survey: str) -> None:
    """Whatever part of the evidence is shown."""
    paths = [key for key, _ in TABS] + [f"confirmation?show={show}" for show in EVIDENCE]
    with opened(survey, height=SCREEN) as (page, watch):
        assert too_long(page, survey_demo.NAME, paths) == {}
        assert watch.errors == []


@pytest.mark.slow
def test_axe_finds_nothing_on_the_evidence(survey: str) -> None:
    """Light and dark; what scrolls can be scrolled by the keyboard."""
    source = axe_source()
    with opened(survey, height=SCREEN) as (page, _):
        paths = [f"/studies/{survey_demo.NAME}/confirmation?show={show}" for show in EVIDENCE]
        assert [one for path in paths for one in violations(page, source, path)] == []


def too_long(page: Any, study: str, paths: list[str]) -> dict[str, int]:
    """Return the heights of the pages that are longer, in pixels."""
    found = {}
    for path in paths:
        page.goto(f"/studies/{study}/{path}".rstrip("/"))
        scroll_through(page)
        wait_until(page, DRAWN)
        height = int(page.evaluate(HEIGHT))
        if height > 2 * SCREEN:
            found[path] = height
    return found
