"""The documentation site: built strictly, complete, readable without a network, and what stands in it works."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.site import loss_pages, reference_pages
from tests.api.browser import opened
from tuner.cli.main import app
from tuner.config.study import load_spec
from tuner.config.yaml_reader import parse_yaml
from tuner.losses.catalog.registry import LOSSES

ROOT = Path(__file__).parents[2]
WRITTEN = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a link that leads nowhere, a page outside the navigation or a name without object is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


class _Page(HTMLParser):
    """Collects what a page loads, where it links to, and the places that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the attributes of one element."""
        found = dict(attrs)
        self.places |= {value for key in ("id", "name") if (value := found.get(key))} | {"__skip"}
        if tag == "a":
            self.links.append(found.get("href") or "")
        self.loads += [value for key in ("src", "data") if (value := found.get(key))]
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found.get("href") or "")


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Of every page: files, and anchors within them."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > len(LOSSES) + 15

    for path, page in pages.items():
        if path.name == "404.html":
            continue  # it is served under any address
        for target in (*page.loads, *page.links):
            if target.startswith(("http", "mailto:", "data:")):
                assert target in page.links, f"{path}: loads {target}"
                continue
            file, _, place = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{path}: {target}"
            assert not place or there not in pages or place in pages[there].places, f"{path}: {target}"


def test_every_loss_has_a_page(site: Path) -> None:
    """With what its declaration says, and a picture that is drawn."""
    for name, entry in LOSSES.items():
        text = (site / "losses" / f"{name}.html").read_text(encoding="utf-8")
        assert all(f"<code>{option.name}</code>" in text for option in entry.options)
        assert (site / "losses" / f"{name}.svg").stat().st_size > 5000


@pytest.mark.browser
def test_the_search_works_in_pages_opened_from_a_folder(site: Path) -> None:
    """No server, no network, no error in the console."""
    with opened("file://") as (page, watch):
        page.goto((site / "losses" / "focal.html").as_uri())
        page.locator(".md-search__input").click()
        page.locator(".md-search__input").press_sequentially("hausdorff")
        page.locator(".md-search-result__item").first.wait_for()
        assert (watch.errors, watch.strangers) == ([], [])


def blocks(language: str) -> Iterator[Any]:
    """Yield the blocks of every page, the generated ones included."""
    for path in WRITTEN:
        for number, found in enumerate(BLOCK.finditer(path.read_text(encoding="utf-8"))):
            if found[1] == language:
                yield pytest.param(found[2], id=f"{path.stem}-{number}")


def generated(language: str) -> list[tuple[str, str]]:
    """Return page and block of the generated pages."""
    found = {**loss_pages.pages(), **reference_pages.pages()}
    texts = {place: text for place, text in found.items() if isinstance(text, str)}
    return [
        (place, match[2]) for place, text in texts.items() for match in BLOCK.finditer(text) if match[1] == language
    ]


def test_study_files_of_the_generated_pages_are_legal() -> None:
    """A range of every loss among them."""
    found = generated("yaml")
    assert len(found) > len(LOSSES)
    for place, text in found:
        assert load_spec(parse_yaml(text, source=place)).space


TRAIN_FIRST = {f"losses/{name}.md" for name in loss_pages.TRAINS_FIRST}
"""Pages whose call trains a network of the loss's own first, for seconds."""


def test_losses_are_called_as_their_pages_say() -> None:
    """Created with the default that the page names, and called with what it says."""
    for place, text in generated("python"):
        if place not in TRAIN_FIRST:
            exec(text, {})


@pytest.mark.slow
def test_a_loss_that_trains_first_is_called_as_its_page_says() -> None:
    """It learns what a border is before it says how far one is from another."""
    found = dict(generated("python"))
    for place in TRAIN_FIRST:
        exec(found[place], {})


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "my_losses" not in block.values[0]])
def test_study_files_of_the_written_pages_are_legal(text: str) -> None:
    """Parts of a study file stand in a file with a data set; several data sets in a block are several files."""
    files = text.splitlines() if text.count("dataset:") > 1 else [text]
    for file in files:
        content = file if re.search(r"^dataset:", file, re.MULTILINE) else f"dataset: phantom\n{file}"
        load_spec(parse_yaml(content, source="docs"))


@pytest.mark.parametrize("text", [*blocks("bash"), *blocks("text")])
def test_commands_are_spelt_as_they_are_taken(text: str) -> None:
    """Every `tuner ...` line: the command, its options and their number of values."""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.startswith("tuner ") or "…" in line or "..." in line:
            continue
        words = shlex.split(line, comments=True)
        group: Any = typer.main.get_command(app)
        context = group.make_context("tuner", list(words[1:2]), resilient_parsing=True)
        words = words[1:]
        while hasattr(group, "commands"):
            group = group.get_command(context, words.pop(0))
        known = {
            name for parameter in group.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)
        }
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert set(flags) <= known | {"--help"}, line
