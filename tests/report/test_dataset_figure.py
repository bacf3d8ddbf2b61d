"""The figure of `data describe`: drawn by the command, opens offline, shows what was counted."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tuner.report.dataset_figure import draw_fingerprint, fingerprint_page

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A small phantom."""
    from tuner.data.describe import describe

    config = {"name": "phantom", "size": 32, "slices": 4, "cases": 3}
    return describe(config, data_root=None, cache=tmp_path_factory.mktemp("cache"), seed=0)


def test_figure_holds_every_class_and_panel(described: dict) -> None:
    """A class that is left out of the figure would not be missed by anybody."""
    root = ET.fromstring(draw_fingerprint(described).to_svg())

    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    for name in described["train"]["organs"]:
        assert words.count(name) == 6
    for title in ("percent of the pixels", "size of an object", "width", "thinness", "boundary", "intensities"):
        assert any(title in word for word in words), title
    places = [float(line.attrib[key]) for line in root.iter(f"{SVG}line") for key in ("x1", "x2")]
    assert 0 <= min(places) <= max(places) <= 960


def test_bars_are_as_long_as_the_numbers(described: dict) -> None:
    """On a logarithmic axis ten times as many pixels are one tick further."""
    root = ET.fromstring(draw_fingerprint(described).to_svg())
    bars = [line for line in root.iter(f"{SVG}line") if line.attrib["stroke-width"] == "5"]
    shares = [facts["percent"] for facts in described["train"]["organs"].values() if facts["percent"]]

    ends = [float(bar.attrib["x2"]) for bar in bars if bar.attrib["stroke"] == "#0072b2"][: len(shares)]

    assert [ends.index(end) for end in sorted(ends)] == [shares.index(share) for share in sorted(shares)]


def test_empty_classes_are_drawn_as_nothing(described: dict) -> None:
    """Cityscapes' sample lacks eight classes; a logarithm of nothing must not end the command."""
    facts = dict.fromkeys(("object_size", "object_width", "object_thinness", "width", "boundary_per_area"))
    empty = facts | {"percent": 0.0, "samples": 0, "cases": 0, "objects": 0, "sample_objects": 0, "boundary": 0.0}
    halves = {half: described[half] | {"organs": {"never": empty}} for half in ("train", "validation")}

    page = fingerprint_page(described | halves, draw_fingerprint(described | halves)).decode()

    assert "nothing to draw" in page
    assert "<td>never</td><td>0</td>" in page


def test_command_draws(tuner: Shell, here: Path) -> None:
    """`-o` writes a figure, or a page that asks for nothing from elsewhere; another ending is refused at once."""
    small = ("--set", "size=32", "--set", "cases=3", "--set", "slices=3")

    assert tuner("data", "describe", "phantom", *small, "-o", "d.html").code == 0
    assert tuner("data", "describe", "phantom", *small, "-o", "d.svg", "--json").json()["imbalance"] > 1

    assert not re.search(r"(src|href)=|@import|url\(|<script", (here / "d.html").read_text())
    assert ET.parse(here / "d.svg").getroot().tag == f"{SVG}svg"
    refused = tuner("data", "describe", "phantom", *small, "-o", "d.pdf")
    assert (refused.code, "neither FILE.svg nor FILE.html" in refused.err) == (2, True)
    assert tuner("data", "describe", "phantom", *small, "-o", "gone/d.svg").code == 2
