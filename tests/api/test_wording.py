"""Words that users read are the field's terms, on pages, in OpenAPI and in the help."""

import httpx
import pytest

WITHDRAWN = (
    "Nobody works", "sign of life", "Signs of life", "nothing moves", "Which loss wins", "Its options there", "It said",
    "Is the lead real", "Try a point", "Try this one next", "– chosen –", "Repeat it", "begun", "are a guess",
    "put aside", "ended early", "Ended early", "Machines", "says, drawn",
)  # fmt: skip
PAGES = (
    "/", "/studies/organs", "/studies/organs/leaderboard", "/studies/organs/curves", "/studies/organs/parameters",
    "/studies/organs/trials", "/studies/organs/predictions", "/studies/organs/workers", "/studies/organs/settings",
    "/studies/organs/confirmation", "/studies/goals", "/studies/fresh", "/studies/organs/trials/0",
    "/studies/organs/compare", "/losses", "/datasets", "/workers", "/new", "/openapi.json",
    "/api/v1/studies/organs/figures/curves",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_pages_speak_in_terms_of_the_field(reader: httpx.Client, path: str) -> None:
    """A word that nobody searches for explains nothing."""
    text = reader.get(path, headers={"Accept": "text/html"}).text

    assert [words for words in WITHDRAWN if words in text] == []


def test_the_page_of_a_study_has_the_terms(reader: httpx.Client) -> None:
    """One term for one thing."""
    text = "".join(reader.get(f"/studies/organs{tab}").text for tab in ("", "/leaderboard"))

    for words in ("Leaderboard", "Confirmation", "Best options", "Enqueue trial", "Sampler decides"):
        assert words in text
