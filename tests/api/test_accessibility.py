"""Every page for people who do not see it well, or have no mouse: axe-core finds nothing, and the keyboard suffices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.browser import opened, scroll_through, wait_until
from tests.api.conftest import served, settings_in
from tests.api.test_users import house

STUDY = "/studies/organs"
QUICK = ("/studies/organs", "/login")
PAGES = (
    "/",
    f"{STUDY}/trials",
    *(
        f"{STUDY}/{tab}"
        for tab in ("leaderboard", "curves", "parameters", "predictions", "workers", "confirmation", "settings")
    ),
    "/studies/goals",
    f"{STUDY}/trials/7",
    f"{STUDY}/compare",
    "/losses",
    "/datasets",
    "/workers",
    "/new",
    "/sessions",
    "/studies/nothing",
)
RUN = """axe.run(document, {resultTypes: ['violations']RULES}).then((found) => found.violations.map((one) =>
  `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' ')}`))"""


def axe_source() -> str:
    """Return axe-core's source, or skip."""
    package = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Any, source: str, path: str) -> list[str]:
    """Return what axe says of a page, with every figure drawn, in light and in dark."""
    page.goto(path)
    scroll_through(page)
    wait_until(page, "!document.querySelector('.plot .waiting')", retry_timeout_s=120)
    found = []
    for theme, rules in (("light", ""), ("dark", ", runOnly: ['color-contrast']")):  # else the two are the same
        page.emulate_media(color_scheme=theme)
        page.wait_for_timeout(300)
        found += [f"{path}, {theme}: {one}" for one in page.evaluate(f"{source}; {RUN.replace('RULES', rules)}")]
    return found


@pytest.mark.parametrize(
    "paths", [pytest.param(QUICK, id="two pages"), pytest.param(PAGES, id="the others", marks=pytest.mark.slow)]
)
def test_axe_finds_nothing(address: str, paths: tuple[str, ...]) -> None:
    """Names, roles, contrasts, order, landmarks: what a screen reader goes by."""
    source = axe_source()
    with opened(address) as (page, _):
        found = [one for path in paths for one in violations(page, source, path)]

    assert found == []


def test_nobody_sees_less_with_a_name_in_the_header(folder: Path) -> None:
    """Signed in, on a telephone: nothing sticks out, and the account is named for a screen reader."""
    source = axe_source()
    with house(folder, private=True) as place, opened(place.url, width=390) as (page, _):
        page.goto("/login?next=/sessions")
        page.fill("input[name=token]", place.tokens["admin"])
        page.click("main button[type=submit]")
        page.wait_for_selector("h1:has-text('Sessions')")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert "admin-token" in page.get_attribute("header .account a", "aria-label")
        assert page.evaluate(f"{source}; {RUN.replace('RULES', '')}") == []


class Keyboard:
    """A page that is never touched by a mouse."""

    MOST = 400

    def __init__(self, page: Any) -> None:
        self.page = page

    def reach(self, selector: str) -> None:
        """Press Tab until something has the focus; it must be in sight then."""
        for _ in range(self.MOST):
            if self.page.evaluate(f"document.activeElement.matches({selector!r})"):
                assert self.page.evaluate("document.activeElement.matches(':focus-visible')"), selector
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached by Tab")

    def press(self, selector: str, key: str = "Enter") -> None:
        """Reach something and press a key."""
        self.reach(selector)
        self.page.keyboard.press(key)


@contextmanager
def keyboard(origin: str) -> Iterator[Keyboard]:
    """Open a page for the keyboard; dialogs of the browser are answered with yes."""
    with opened(origin) as (page, watch):
        page.on("dialog", lambda dialog: dialog.accept())
        yield Keyboard(page)
        assert watch.errors == []


@pytest.mark.slow
def test_the_keyboard_suffices(folder: Path) -> None:
    """Create a study, watch it, compare two trials, confirm, export."""
    from api.config import ServiceSettings

    with served(ServiceSettings(settings_in(folder))) as url, keyboard(url) as hands:
        page = hands.page
        page.goto("/")
        hands.press("a[href='/new']")
        page.wait_for_url("**/new")
        hands.reach("[data-key=name]")
        page.keyboard.type("by-keyboard")
        hands.press("[name=losses][value=dice]", "Space")
        hands.reach("[name=trials]")
        page.keyboard.type("4")
        page.wait_for_selector("form.new [type=submit]:enabled")
        hands.press("form.new [type=submit]")
        page.wait_for_url("**/studies/by-keyboard")

        hands.press("nav.tabs a[href$='/workers']")
        page.wait_for_url("**/by-keyboard/workers")

        page.goto("/studies/organs/trials")
        for number in (1, 2):
            hands.press(f"tr:nth-child({number}) input[type=checkbox]", "Space")
        page.evaluate("document.activeElement.blur()")
        hands.press("[data-act=compare]")
        page.wait_for_url("**/compare?*")
        hands.press("button[data-zoom]")
        page.wait_for_selector("#lightbox[open]")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        page.wait_for_selector("#lightbox", state="hidden")

        page.goto("/studies/goals/confirmation")
        hands.press("button[data-url$='/confirm']")
        page.wait_for_selector("#verdict .notice")
        confirmation = httpx.get(f"{url}/api/v1/studies/goals", timeout=60).json()["confirmation"]
        assert confirmation["runs"]["total"] > 0

        with page.expect_download() as export:
            hands.press("summary[aria-label=More]")
            hands.press("a[href$='/goals/export']")
        assert export.value.suggested_filename == "goals-best.yaml"
