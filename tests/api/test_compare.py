"""Trials beside each other: of several studies, against the truth and against each other."""

import io
import re

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.test_contract import STUDY, error_of
from tuner.analysis.predictions import render_between
from tuner.colors import CONFUSED, EXTRA, MISSED

PAGE = {"Accept": "text/html"}


def test_trials_of_other_studies_stand_beside(reader: httpx.Client) -> None:
    """The same data under another study file: whose trial is whose is said at every column, in curves and file."""
    text = reader.get("/studies/organs/compare?trials=3,goals:0,rested:2", headers=PAGE).text
    rows = reader.get("/studies/organs/compare.csv?trials=3,goals:0").text

    assert re.findall(r'<a class="trial" href="(/studies/[a-z]+/trials/\d+)">#\d+</a> <span class="quiet">', text) == [
        "/studies/organs/trials/3",
        "/studies/goals/trials/0",
        "/studies/rested/trials/2",
    ]
    assert "not comparable" not in text
    assert {line.rpartition(",")[2].strip() for line in rows.splitlines()[1:]} == {"organs", "goals"}
    assert reader.get("/studies/organs/compare?trials=nothing:0", headers=PAGE).status_code == 404
    assert "is no trial" in error_of(reader.get("/studies/organs/compare?trials=three"))["message"]


def test_studies_of_other_data_are_said(writer: httpx.Client) -> None:
    """Values on other cases mean something else."""
    body = {"name": "far", "dataset": {"name": "phantom", "size": 32}, "budget": {"trials": 2}}
    assert writer.post("/api/v1/studies", json=body).status_code == 201

    assert "far has other data" in writer.get("/studies/organs/compare?trials=3,far:0", headers=PAGE).text


def test_pictures_against_another_trial(reader: httpx.Client) -> None:
    """Where two trials differ, and which of them is right; a trial does not differ from itself."""
    complete = reader.get(f"{STUDY}/trials?state=COMPLETE&limit=2").json()["items"]
    one, two = (row["number"] for row in complete)
    page = reader.get(f"/studies/organs/compare?trials={one},{two}&view=first", headers=PAGE).text
    found = re.search(rf'src="(/studies/organs/trials/{two}/pictures/[^"]+/against/{one}\?[^"]+)"', page)
    assert found is not None
    address = found[1].replace("&amp;", "&")
    drawn = np.array(Image.open(io.BytesIO(reader.get(address).content)))
    same = np.array(Image.open(io.BytesIO(reader.get(address.replace(f"trials/{two}/", f"trials/{one}/")).content)))

    def coloured(picture: np.ndarray) -> int:
        spread = picture.max(-1).astype(int) - picture.min(-1)
        return int((spread > 40).sum())

    assert coloured(drawn) > 0
    assert coloured(same) == 0
    assert reader.get(f"/studies/organs/trials/{two}/pictures/nobody/against/{one}").status_code == 404


@pytest.mark.parametrize(
    ("truth", "first", "second", "colour"),
    [
        (1, 1, 2, MISSED),
        (1, 2, 1, EXTRA),
        (1, 2, 3, CONFUSED),
        (None, 1, 2, CONFUSED),
        (1, 2, 2, None),
        (255, 1, 2, None),
    ],
)
def test_the_colour_says_which_is_right(
    truth: int | None, first: int, second: int, colour: tuple[int, int, int] | None
) -> None:
    """One pixel of each kind."""

    def labels(value: int) -> np.ndarray:
        return np.full((3, 3), value, np.uint8)

    drawn = render_between(np.zeros((3, 3)), None if truth is None else labels(truth), labels(first), labels(second))
    expected = (0, 0, 0) if colour is None else tuple(int(0.85 * part) for part in colour)

    assert tuple(drawn[1, 1]) == pytest.approx(expected, abs=1)
