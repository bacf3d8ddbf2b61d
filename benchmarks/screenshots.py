"""Pictures of the pages of a service that runs, for the documentation: on a desk and on a telephone, light and dark.

    python -m benchmarks.screenshots http://127.0.0.1:8000 STUDY [-o docs/dashboard]
    python -m benchmarks.screenshots http://127.0.0.1:8000 STUDY --all -o /tmp/pages [--pareto STUDY]

Those that docs/dashboard.md shows, with 256 colours; or, with `--all`, every page at every width. It also says which
page sticks out of its window, writes to the console, or asks another server for something.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tests.api.browser import opened, scroll_through
from tuner.client import Client

TALLEST = 2600
TABS = ("leaderboard", "curves", "parameters", "trials", "predictions", "confirmation", "settings")
"""Pages of a study beside its overview."""
LOOKS = ((1440, False), (1440, True), (1024, False), (1024, True), (390, False), (390, True))
"""Width in pixels, and whether it is dark."""
DOCUMENT = Path("docs/dashboard.md")


def pages_of(client: Client, study: str, pareto: str | None) -> dict[str, str]:
    """Return the pages by the names of their pictures."""
    best = client.best(study)["number"]
    pages = {
        "studies": "/",
        "study": f"/studies/{study}",
        **{tab: f"/studies/{study}/{tab}" for tab in TABS},
        "trial": f"/studies/{study}/trials/{best}",
        "compare": f"/studies/{study}/compare",
        "losses": "/losses",
        "data": "/datasets",
        "workers": "/workers",
        "new": "/new",
        "login": "/login",
        "error": f"/studies/{study}s",
    }
    return pages | ({"pareto": f"/studies/{pareto}"} if pareto else {})


def shown(document: Path) -> set[str]:
    """Return the names of the pictures that a document shows."""
    return set(re.findall(r"\(dashboard/([\w-]+)\.png\)", document.read_text(encoding="utf-8")))


def reduce_colours(picture: Image.Image) -> Image.Image:
    """Return a picture with 256 colours: the most frequent ones as they are, and those that cover the others.

    A median cut alone takes the colours of small marks for noise, and a cover alone shifts those of large areas.
    """
    counted = sorted(picture.getcolors(picture.width * picture.height) or [], reverse=True)
    frequent = [colour for _, colour in counted[:96]]
    cover = picture.quantize(160, Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(part for colour in frequent for part in colour), *cover[: 3 * 160]])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def take(page: Any, address: str, target: Path) -> list[str]:
    """Save a picture of a page, at most `TALLEST` pixels of it; return what is wrong with its layout."""
    page.goto(address)
    page.wait_for_timeout(800)
    scroll_through(page)
    page.wait_for_timeout(1500)
    size = page.evaluate("({w: document.documentElement.scrollWidth, h: document.documentElement.scrollHeight})")
    viewport = page.viewport_size
    clip = {"x": 0, "y": 0, "width": viewport["width"], "height": min(TALLEST, max(viewport["height"], size["h"]))}
    page.screenshot(path=target, full_page=True, clip=clip)
    with Image.open(target) as picture:
        reduced = reduce_colours(picture.convert("RGB"))
    reduced.save(target, optimize=True)
    return [f"{target.name}: {size['w']} px wide"] if size["w"] > viewport["width"] else []


def main() -> int:
    """Take all pictures; exit 1 when a page is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("origin")
    parser.add_argument("study")
    parser.add_argument("--all", action="store_true", help="every page at every width, light and dark")
    parser.add_argument("--pareto", help="a study with several objectives")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/dashboard"))
    words = parser.parse_args()
    words.output.mkdir(parents=True, exist_ok=True)
    pages = pages_of(Client(words.origin), words.study, words.pareto)
    wanted = None if words.all else shown(DOCUMENT)
    wrong: list[str] = []
    for width, dark in LOOKS:
        with opened(words.origin, width=width, dark=dark) as (page, watch):
            for name, path in pages.items():
                picture = f"{name}-{width}{'-dark' if dark else ''}"
                if wanted is None or picture in wanted:
                    wrong += take(page, path, words.output / f"{picture}.png")
            wrong += watch.errors + watch.strangers
    print("\n".join(wrong) or "nothing sticks out, nothing on the console, no request to elsewhere", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
