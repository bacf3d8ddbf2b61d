"""Scores of scenes that have no background: class 0 counts, ignored pixels do not, absent classes are no zeros."""

import numpy as np
import pytest

from tuner.metrics.catalog import MASK_METRICS
from tuner.metrics.scoring import mean_scores, score_case, without_absent

RNG = np.random.default_rng(3)
PREDICTION = RNG.integers(0, 3, (24, 30)).astype(np.uint8)
LABEL = RNG.integers(0, 3, (24, 30)).astype(np.uint8)


def test_class_0_counts_like_the_others() -> None:
    """Every metric of class k is what it is when a background is put before the classes."""
    found = score_case(PREDICTION, LABEL, 3, 255, MASK_METRICS, background=False)

    assert found == score_case(PREDICTION + 1, LABEL + 1, 4, 255, MASK_METRICS)
    assert len(found["dice"]) == 3
    with_background = score_case(PREDICTION, LABEL, 3, 255, ("dice", "hd95"))
    assert {name: found[name][1:] for name in with_background} == with_background


@pytest.mark.parametrize("metric", MASK_METRICS)
def test_ignored_pixels_are_of_no_class(metric: str) -> None:
    """Whatever is predicted where nothing is labelled changes no score: such pixels are not class 0."""
    label = LABEL.copy()
    label[:10] = 255
    other = PREDICTION.copy()
    other[:10] = (other[:10] + 1) % 3

    first, second = (score_case(p, label, 3, 255, (metric,), background=False) for p in (PREDICTION, other))

    assert first == second


def test_dice_by_hand() -> None:
    """Four pixels: road hit once of two, sidewalk hit once of one and predicted twice."""
    prediction, label = np.array([[0, 1, 1, 0]], np.uint8), np.array([[0, 0, 1, 255]], np.uint8)

    assert score_case(prediction, label, 2, 255, ("dice", "iou"), background=False) == {
        "dice": [pytest.approx(2 / 3), pytest.approx(2 / 3)],
        "iou": [0.5, 0.5],
    }


def test_highest_class_is_not_taken_for_ignored() -> None:
    """254 is a class and 255 is none, also after classes were numbered from 1."""
    label = np.full((4, 4), 254, np.uint8)

    assert score_case(label, label, 255, 255, ("dice", "hd95"), background=False)["hd95"][254] == 0.0


def test_absent_classes_are_not_counted() -> None:
    """A class that no truth of the set holds has no value, even where it was predicted."""
    cases = [
        score_case(np.array([[0, 2]]), np.array([[0, 1]]), 3, 255, ("dice",), background=False),
        score_case(np.array([[1, 1]]), np.array([[1, 1]]), 3, 255, ("dice",), background=False),
    ]

    means, per_class = mean_scores(without_absent(cases, [True, True, False]))

    assert per_class["dice"] == [1.0, 0.5, None]
    assert means["dice"] == 0.75
