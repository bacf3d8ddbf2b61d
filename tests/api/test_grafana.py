"""The dashboard file for Grafana asks for what `/metrics` says."""

import json
import re
from pathlib import Path

import httpx

FILE = Path(__file__).parents[2] / "docs" / "grafana" / "tuner.json"
SAMPLE = re.compile(r"^(tuner_\w+)\{(.*)\} [-+0-9.e]+$")
SELECTED = re.compile(r"(tuner_\w+)(?:\{([^}]*)\})?")
NAMED = re.compile(r'(\w+)=~?"')


def answered(text: str) -> dict[str, set[str]]:
    """Return the labels of each metric of an answer in Prometheus' text format."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            found.setdefault(match[1], set()).update(NAMED.findall(match[2]))
    return found


def test_every_panel_asks_for_metrics_and_labels_that_there_are(reader: httpx.Client) -> None:
    """A panel of a metric that was renamed stays empty, and nobody is told; every metric is on some panel."""
    metrics = answered(reader.get("/metrics").text)
    document = json.loads(FILE.read_text(encoding="utf-8"))
    shown = set()
    for panel in document["panels"]:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            asked = SELECTED.findall(target["expr"])
            assert asked, target
            for name, inside in asked:
                shown.add(name)
                assert set(NAMED.findall(inside)) <= metrics[name], (panel["title"], name)
                for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                    assert label in metrics[name], (panel["title"], label)
    assert shown == set(metrics)
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def test_panels_cover_one_another_nowhere() -> None:
    """Grafana would move them."""
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(FILE.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not own & cells
        cells |= own


def test_the_states_and_phases_that_panels_name_exist(reader: httpx.Client) -> None:
    """`state=~"complete|pruned|failed"` counts what ended, under the names of `/metrics`."""
    text, wanted = reader.get("/metrics").text, FILE.read_text(encoding="utf-8")
    states = set(re.findall(r'state="(\w+)"', text))

    for expression in re.findall(r'state=~?\\"([\w|]+)\\"', wanted):
        assert set(expression.split("|")) <= states
