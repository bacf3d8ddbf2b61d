"""Reliability diagrams: read from a trial's file as if somebody had made it to do harm, and drawn."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tuner.analysis.calibration import CALIBRATION, read_calibration
from tuner.artifacts.local import Artifacts
from tuner.errors import DataError, NotFoundError
from tuner.metrics.calibration import CalibrationCounter
from tuner.report.calibration_figure import RARE, draw_reliability, panel_of


def document() -> dict[str, Any]:
    """What a trial stores, of random logits."""
    generator = torch.Generator().manual_seed(0)
    counter = CalibrationCounter(1, 3, device="cpu", ignore_index=255)
    logits = 3 * torch.randn(1, 3, 90, 90, generator=generator)
    counter.add(logits, torch.randint(0, 3, (1, 90, 90), generator=generator), torch.zeros(1, dtype=torch.int64))
    return {"epoch": 4, **counter.counts().as_dict(("ground", "<b>disc", "ring"), regions=False)}


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    """Files of a trial of a study `s`."""
    found = Artifacts(tmp_path)
    found.create("s", 0)
    return found


def write(artifacts: Artifacts, content: Any) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (artifacts.path("s", 0) / CALIBRATION).write_bytes(text)


def test_it_is_drawn_from_what_was_stored(artifacts: Artifacts) -> None:
    """A bar for every bin that holds something, in SVG that is well-formed and in PNG."""
    stored = document()
    write(artifacts, stored)
    found = read_calibration(artifacts, "s", 0)
    drawing = draw_reliability([panel_of("<trial>", found)] * 4)

    assert found.total.ece == pytest.approx(stored["ece"])
    assert found.total.mean_accuracy == pytest.approx(
        np.average([a or 0 for a in stored["accuracy"]], weights=stored["count"])
    )
    ElementTree.fromstring(drawing.to_svg())
    bars = [shape for shape in drawing.shapes if getattr(shape, "colour", None) in ("#0072b2", RARE)]
    assert len(bars) == 4 * sum(count > 0 for count in stored["count"]) + 1
    assert drawing.to_png().startswith(b"\x89PNG")
    assert f"{stored['predictions']:,} pixels" in drawing.to_svg().decode()


@pytest.mark.parametrize(
    "change",
    [
        b"[" * 100_000,
        b"x" * (5 << 20),
        [],
        {"count": [1e400]},
        {"count": [-1] * 15},
        {"count": [2**80] * 15},
        {"accuracy": ["9" * 9] * 15},
        {"accuracy": [None] * 15},
        {"confidence": [7] * 15},
        {"confidence": [0.5] * 3},
        {"ece": float("nan")},
        {"per_class": {"a": []}},
        {"epoch": "<script>"},
    ],
)
def test_damaged_files_are_refused(artifacts: Artifacts, change: Any) -> None:
    """Nothing of it reaches a page."""
    write(artifacts, {**document(), **change} if isinstance(change, dict) else change)

    with pytest.raises(DataError, match=r"calibration\.json"):
        read_calibration(artifacts, "s", 0)


def test_a_trial_of_an_earlier_version_has_none(artifacts: Artifacts) -> None:
    """Its page and the report leave the diagram out."""
    with pytest.raises(NotFoundError):
        read_calibration(artifacts, "s", 0)
