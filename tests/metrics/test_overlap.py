"""Dice and IoU: by hand, against MONAI, and counted on the device."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou

from tests.metrics.shapes import label_pair, one_hot
from tuner.errors import RequestError
from tuner.metrics.overlap import confusion_by_case, confusion_counts, dice, iou


def test_by_hand() -> None:
    """Two of three predicted pixels are right and one true pixel is missed: 4/6 and 2/4."""
    prediction, label = np.array([[1, 1, 1, 0]]), np.array([[1, 1, 0, 1]])

    counts = confusion_counts(prediction, label, classes=2, ignore_index=255)

    assert counts.tolist() == [[0, 1], [1, 2]]
    assert dice(counts) == [4 / 6]
    assert iou(counts) == [2 / 4]


def test_absent_organs() -> None:
    """A class that both lack is not counted; a class that one lacks is 0, not NaN and not 1."""
    prediction, label = np.array([1, 0, 0, 0]), np.array([2, 0, 0, 0])

    counts = confusion_counts(prediction, label, classes=4, ignore_index=255)

    assert dice(counts) == iou(counts) == [0.0, 0.0, None]


def test_ignored_pixels_count_for_nothing() -> None:
    """A wrong prediction where nobody knows the truth must not cost anything."""
    prediction, label = np.array([1, 2, 1, 0]), np.array([1, 255, 255, 0])

    counts = confusion_counts(prediction, label, classes=3, ignore_index=255)

    assert counts.sum() == 2
    assert dice(counts) == [1.0, None]


@pytest.mark.parametrize("shape", [pytest.param((40, 31), id="2d"), pytest.param((9, 24, 20), id="3d")])
def test_equal_to_monai(shape: tuple[int, ...]) -> None:
    """Others' numbers can be compared with ours."""
    prediction, label = label_pair(shape, 5, seed=1)

    counts = confusion_counts(prediction, label, classes=5, ignore_index=255)
    theirs = [one_hot(labels, 5) for labels in (prediction, label)]

    np.testing.assert_allclose(dice(counts), compute_dice(*theirs, include_background=False)[0], rtol=1e-6)
    np.testing.assert_allclose(iou(counts), compute_iou(*theirs, include_background=False)[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [pytest.param(np.uint8, id="uint8"), pytest.param(np.int64, id="int64")])
def test_no_overflow_in_small_types(dtype: type) -> None:
    """Truth · C + prediction passes 255 with twenty classes; bytes must not wrap around."""
    values = np.arange(20, dtype=dtype)

    assert (confusion_counts(values, values, classes=20, ignore_index=255) == np.eye(20)).all()


def test_foreign_values_are_refused() -> None:
    """A label outside the classes would be counted as another class's pixel."""
    with pytest.raises(RequestError, match="holds 0 to 7; classes are 0 to 2"):
        confusion_counts(np.array([0, 7]), np.array([0, 1]), classes=3, ignore_index=255)
    with pytest.raises(RequestError, match="differ in shape"):
        confusion_counts(np.zeros((2, 3)), np.zeros((3, 2)), classes=3, ignore_index=255)


def test_on_the_device_equals_case_by_case() -> None:
    """The batched count that validation uses is the one that is tested above."""
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 4, (6, 8, 9)), rng.integers(0, 4, (6, 8, 9))
    label[:, 2] = 255
    case_of = np.array([0, 0, 1, 2, 2, 2])

    counts = confusion_by_case(
        torch.from_numpy(prediction).to(torch.uint8),
        torch.from_numpy(label),
        torch.from_numpy(case_of),
        cases=4,
        classes=4,
        ignore_index=255,
    )

    expected = [
        confusion_counts(prediction[case_of == case], label[case_of == case], classes=4, ignore_index=255)
        for case in range(4)
    ]
    assert np.array_equal(counts.numpy(), np.stack(expected))
