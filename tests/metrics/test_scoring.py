"""Scores of a case and their means: the rules for absent organs, and the catalogue."""

import subprocess
import sys

import numpy as np
import pytest

from tests.metrics.shapes import label_pair
from tuner.errors import UnknownNameError
from tuner.metrics.calibration import CalibrationCounts
from tuner.metrics.catalog import MASK_METRICS, METRICS
from tuner.metrics.overlap import OVERLAP, confusion_counts
from tuner.metrics.scoring import mean_scores, score_case
from tuner.metrics.surface import SurfaceDistances


def test_rules_for_absent_organs() -> None:
    """One of both empty is the worst value that is finite; both empty is not counted."""
    label = np.zeros((3, 4), np.uint8)
    prediction = label.copy()
    label[0, 0], prediction[1, 1] = 1, 2
    label[2, 3] = prediction[2, 3] = 4

    scores = score_case(prediction, label, 5, 255, MASK_METRICS, (2.0, 2.0))

    distance, share = [10, 10, None, 0], [0, 0, None, 1]
    assert scores == {name: distance if name in ("hd95", "assd") else share for name in MASK_METRICS}


def test_ignored_pixels_make_no_surface() -> None:
    """A prediction inside an ignored region would be a far false positive."""
    label = np.zeros((20, 20), np.uint8)
    label[2:6, 2:6] = 1
    prediction = label.copy()
    label[15:, :], prediction[16:18, 16:18] = 255, 1

    assert score_case(prediction, label, 2, 255, ["dice", "hd95"]) == {"dice": [1.0], "hd95": [0.0]}


def test_only_what_is_asked_in_its_order() -> None:
    """Surface metrics cost most of a validation; who does not ask does not pay."""
    prediction, label = label_pair((20, 20), 3, seed=0)
    counts = confusion_counts(prediction, label, classes=3, ignore_index=255)

    assert list(score_case(prediction, label, 3, 255, ["hd95", "dice"])) == ["hd95", "dice"]
    assert score_case(prediction, label, 3, 255, ["iou"]) == score_case(
        prediction, label, 3, 255, ["iou"], confusion=counts
    )


def test_unknown_metric() -> None:
    """A misspelt metric is refused with the one that was meant."""
    with pytest.raises(UnknownNameError, match="Did you mean 'hd95'"):
        score_case(np.zeros((2, 2)), np.zeros((2, 2)), 2, 255, ["hd96"])


def test_means_skip_what_is_not_counted() -> None:
    """Per class over the cases that count it, then over classes: a rare organ weighs as much as a common one."""
    cases = [{"dice": [1.0, None, None]}, {"dice": [0.5, 0.25, None]}]

    means, per_class = mean_scores(cases)

    assert per_class == {"dice": [0.75, 0.25, None]}
    assert means == {"dice": 0.5}
    assert mean_scores([{"dice": [None]}]) == ({"dice": None}, {"dice": [None]})
    assert mean_scores([]) == ({}, {})


def test_every_listed_metric_exists() -> None:
    """A metric that a study may name and nobody computes would fail on the first validation."""
    places = (SurfaceDistances, CalibrationCounts)
    assert {name for name in METRICS if name in OVERLAP or any(hasattr(of, name) for of in places)} == set(METRICS)
    assert {entry.direction for entry in METRICS.values()} == {"maximize", "minimize"}


def test_catalogue_is_light() -> None:
    """The command line lists metrics without paying for torch, numpy or scipy."""
    code = "import sys, tuner.metrics.catalog; print({'torch', 'numpy', 'scipy'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
