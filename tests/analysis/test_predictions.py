"""Truth and predictions side by side: the right sample, and classes that are shown as they count."""

import numpy as np
import pytest

from tuner.analysis.predictions import Truth, render_case
from tuner.colors import MISSED

IMAGES = np.arange(4 * 6, dtype=np.float32).reshape(4, 1, 2, 3)
LABELS = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
TRUTH = Truth(IMAGES, LABELS, {"street": slice(0, 3), "alone": slice(3, 4)}, ("road", "car"))


@pytest.mark.parametrize(
    ("case", "rows"), [("street", [0, 1, 2]), ("street#0", [0]), ("street#2", [2]), ("alone", [3])], ids=str
)
def test_a_sample_that_is_scored_by_itself_has_its_number(case: str, rows: list[int]) -> None:
    """A recording holds many pictures; each has a prediction of its own, and must find its own truth."""
    found = TRUTH.of(case)

    assert found is not None
    assert np.array_equal(found[0], IMAGES[rows, 0])
    assert np.array_equal(found[1], LABELS[rows])


@pytest.mark.parametrize("case", ["street#3", "street#x", "street#-1", "lane#0", "#0", ""], ids=repr)
def test_what_is_not_there_is_not_found(case: str) -> None:
    """Whatever the address of a picture says."""
    assert TRUTH.of(case) is None


def test_without_background_the_first_class_is_a_class() -> None:
    """Where class 0 is road, taking a car for road is a wrong class, not a missed one."""
    truth, predicted = np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 0]], np.uint8)
    grey = np.zeros((1, 3))
    blue = 0.85 * np.array(MISSED)

    with_background = render_case(grey, truth, predicted, "difference")
    without = render_case(grey, truth, predicted, "difference", background=False)

    assert not np.allclose(with_background, without)
    assert not np.allclose(without[0, 1], blue, atol=1)
    assert render_case(grey, truth, predicted, "truth", background=False)[0, 2].any()
