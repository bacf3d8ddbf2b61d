"""Chromium for tests: the system's, by playwright's Python driver. Absent, tests say so in one line; CI demands it."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")


def find_chromium() -> str | None:
    """Return the browser, where it and its driver are installed."""
    if find_spec("playwright") is None:
        return None
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needed_chromium() -> str:
    """Return the browser, or skip; an error where CI demands it."""
    found = find_chromium()
    if found is not None:
        return found
    message = "no browser: apt-get install chromium, and pip install playwright"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class Watch:
    """What a page did that it should not have done."""

    def __init__(self, page: Any, origin: str) -> None:
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.on("console", lambda message: self._say(message))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._ask(request.url, origin))

    def _say(self, message: Any) -> None:
        if message.type == "error" and "404 (Not Found)" not in message.text:
            self.errors.append(message.text)

    def _ask(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "data:", "blob:")):
            self.strangers.append(url)


@contextmanager
def opened(origin: str, *, width: int = 1440, height: int = 900, dark: bool = False) -> Iterator[tuple[Any, Watch]]:
    """Open a page; yields it and its watch."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=needed_chromium(), args=list(FLAGS))
        try:
            context = browser.new_context(
                base_url=origin,
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                accept_downloads=True,
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            yield page, Watch(page, origin)
        finally:
            browser.close()


class HeldBack:
    """Requests of a page that wait for `release`, those that it has not made yet included."""

    def __init__(self, page: Any, pattern: str) -> None:
        self._waiting: list[Any] = []
        self._released = False
        page.route(pattern, lambda route: self._take(route))

    def _take(self, route: Any) -> None:
        if self._released:
            route.continue_()
        else:
            self._waiting.append(route)

    def release(self) -> None:
        """Let them go on."""
        self._released = True
        for route in self._waiting:
            route.continue_()


def scroll_through(page: Any) -> None:
    """Bring everything into sight once, so that figures are drawn."""
    for top in range(0, int(page.evaluate("document.documentElement.scrollHeight")), 700):
        page.evaluate(f"scrollTo(0, {top})")
        page.wait_for_timeout(60)
    page.wait_for_timeout(400)
    page.evaluate("scrollTo(0, 0)")


def wait_until(page: Any, expression: str, *, retry_timeout_s: float = 60.0) -> None:
    """Wait until an expression is true; the driver's own way of waiting needs what the content policy forbids."""
    until = time.monotonic() + retry_timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < until, f"never true: {expression}"
        page.wait_for_timeout(100)
