"""Figures of a page in a real browser: one theme, one selection, one trial that is pointed at, on any screen."""

from typing import Any

import pytest

from tests.api.browser import needed_chromium, opened, wait_until

pytestmark = pytest.mark.browser

COLOURS = """[...document.querySelectorAll('[data-figure] .plot.js-plotly-plot')].flatMap(plot => plot.data.flatMap(
  trace => [trace.line?.color, trace.marker?.color, trace.marker?.line?.color]))
  .filter(found => typeof found === 'string')"""
PLACES = """(() => { const plot = document.querySelector('[data-figure=parallel] .plot');
  const box = plot.getBoundingClientRect(); const { xaxis, yaxis } = plot._fullLayout;
  return { x: box.left + xaxis._offset + xaxis.l2p(1), top: box.top + yaxis._offset + yaxis.l2p(1.02),
    middle: box.top + yaxis._offset + yaxis.l2p(0.5) }; })()"""


def show(page: Any, name: str) -> None:
    """Bring a figure into sight and wait until it is drawn."""
    page.locator(f"[data-figure={name}]").scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-figure={name}] svg.main-svg")


def test_a_selection_in_one_figure_is_the_selection_of_all(address: str) -> None:
    """Brushed in parallel coordinates; the address has it, the table of trials as well, and a click takes it away."""
    needed_chromium()
    with opened(address) as (page, watch):
        page.goto("/studies/organs/parameters")
        show(page, "parallel")
        places = page.evaluate(PLACES)
        page.mouse.move(places["x"], places["middle"])
        page.mouse.down()
        page.mouse.move(places["x"], places["top"], steps=3)
        page.mouse.up()
        page.wait_for_selector(".chips .chip")
        assert "where=train.lr%3A0.001%3A0.01" in page.url
        show(page, "slice")
        wait_until(
            page,
            "Math.min(...document.querySelector('[data-figure=slice] .plot').data"
            ".filter(trace => !trace.xaxis || trace.xaxis === 'x').flatMap(trace => trace.x)) >= 0.001",
        )
        page.click(".tabs >> text=Trials")
        page.wait_for_url("**/trials?where=*")
        page.wait_for_selector(".chips .chip")
        rows = page.locator("#table tbody tr").count()
        page.click(".chips .chip")
        wait_until(page, f"document.querySelectorAll('#table tbody tr').length > {rows}")
        assert "where" not in page.url

        assert watch.errors == []


def test_a_trial_is_marked_wherever_it_shows(address: str) -> None:
    """Pointed at in a figure or as a row: its curve, its dot, its row and its picture belong together."""
    needed_chromium()
    with opened(address) as (page, watch):
        page.goto("/studies/organs")
        show(page, "history")
        best = int(page.get_attribute("[data-best]", "data-best"))
        plot = "document.querySelector('[data-figure=history] .plot')"
        page.evaluate(f"{plot}.emit('plotly_hover', {{points: [{{customdata: [{best}]}}]}})")
        page.wait_for_selector(f"tr.lit[data-trial='{best}']")
        page.wait_for_selector("#peek:visible img")
        page.evaluate(f"{plot}.emit('plotly_unhover', {{}})")
        wait_until(page, "!document.querySelector('tr.lit') && document.querySelector('#peek').hidden")
        page.hover(f"#leaders tr[data-trial='{best}'] td >> nth=0")
        page.wait_for_selector("[data-figure=history] svg.marks circle", state="attached")

        assert watch.errors == []


def test_figures_have_the_colours_of_the_dark_and_whole_epochs(address: str) -> None:
    """Light colours on black are what a screenshot of the dark must not have; nor ticks at 1.5 epochs."""
    needed_chromium()
    with opened(address, dark=True) as (page, watch):
        page.goto("/studies/organs/curves?smooth=0.5&scale=log")
        show(page, "curves")
        show(page, "history")
        palette = page.evaluate("Object.entries(JSON.parse(document.body.dataset.palette)).map(([colour]) => colour)")
        assert set(page.evaluate(COLOURS)) & set(palette) == set()
        ticks = page.evaluate(
            "[...document.querySelectorAll('[data-figure=curves] .xtick text')].map(x => x.textContent)"
        )
        assert all(text.isdecimal() for text in ticks), ticks
        assert page.evaluate("document.querySelector('[data-figure=curves] .plot').layout.yaxis.type") == "log"
        lines = page.evaluate("document.querySelector('[data-figure=curves] .plot').data.filter(t => t.opacity).length")
        assert lines > 0, "the curves that were smoothed stay, pale"
        page.select_option("[data-word=axis]", "time")
        wait_until(page, "document.querySelector('[data-figure=curves] .plot').textContent.includes('minutes')")
        assert "axis=time" in page.url
        page.keyboard.press("t")
        wait_until(page, "document.documentElement.dataset.theme === 'light'")
        wait_until(page, f"({COLOURS}).includes('#0b7d73')")

        assert watch.errors == []


CUT = """[...document.querySelectorAll(".plot")].flatMap((plot) => {
  const all = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < all.left || box.right > all.right || box.top < all.top || box.bottom > all.bottom);
  }).map((text) => text.textContent);
})"""
"""Words of a figure that lie outside of it, where they are cut off."""


def test_on_a_telephone_figures_and_tables_can_be_read(address: str) -> None:
    """Axes below each other, workers above their bars, and a sign where a table goes on."""
    needed_chromium()
    with opened(address, width=390, height=844) as (page, watch):
        page.goto("/studies/organs/parameters")
        show(page, "parallel")
        assert page.evaluate("document.querySelector('[data-figure=parallel] .plot').layout.height") >= 84 * 5
        assert page.locator("[data-figure=parallel] text:has-text('exponential_logarithmic')").count() == 1
        for name in ("importance", "interactions", "contour", "rank", "slice"):
            show(page, name)
        assert page.evaluate(CUT) == []
        page.goto("/studies/organs/workers")
        show(page, "timeline")
        assert page.locator("[data-figure=timeline] .ytick").count() == 0
        page.goto("/studies/organs/leaderboard")
        page.wait_for_selector(".more:visible")
        assert page.get_attribute("#leaderboard .scroll", "tabindex") == "0"
        page.evaluate("document.querySelector('#leaderboard .scroll').scrollLeft = 9999")
        wait_until(page, "document.querySelector('#leaderboard .more').hidden")

        assert watch.errors == []
