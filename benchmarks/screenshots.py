"""Pictures of every page of a service that runs, for the documentation: on a desk and on a telephone, light and dark.

    python -m benchmarks.screenshots http://127.0.0.1:8000 STUDY [--pareto STUDY] [-o docs/dashboard]

It also says which page sticks out of its window, writes to the console, or asks another server for something.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from tests.api.browser import opened, scroll_through
from tuner.client import Client

TALLEST = 2600
TABS = ("leaderboard", "curves", "parameters", "trials", "predictions", "confirmation", "settings")
"""Pages of a study beside its overview."""
DARK = ("study", "curves", "parameters", "predictions", "compare")
"""Pages that are also taken in the dark, on the desk."""


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
    return [f"{target.name}: {size['w']} px wide"] if size["w"] > viewport["width"] else []


def main() -> int:
    """Take all pictures; exit 1 when a page is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("origin")
    parser.add_argument("study")
    parser.add_argument("--pareto", help="a study with several objectives")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/dashboard"))
    words = parser.parse_args()
    words.output.mkdir(parents=True, exist_ok=True)
    pages = pages_of(Client(words.origin), words.study, words.pareto)
    wrong: list[str] = []
    for width, dark in ((1440, False), (390, False), (1440, True)):
        with opened(words.origin, width=width, dark=dark) as (page, watch):
            for name, path in pages.items():
                if dark and name not in DARK:
                    continue
                wrong += take(page, path, words.output / f"{name}-{width}{'-dark' if dark else ''}.png")
            wrong += watch.errors + watch.strangers
    print("\n".join(wrong) or "nothing sticks out, nothing on the console, no request to elsewhere", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
