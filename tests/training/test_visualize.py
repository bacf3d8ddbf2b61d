"""The picture of predictions."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tuner.colors import CLASS_COLOURS, CONFUSED, EXTRA, IGNORED, MISSED
from tuner.training.visualize import GAP, HEAD, PANEL, Row, draw


def opened(rows: list[Row], classes: int = 4) -> Image.Image:
    return Image.open(BytesIO(draw(rows, ["background", *(f"organ {k}" for k in range(1, classes))])))


def test_differences_have_their_colours() -> None:
    """Missed, extra, confused and ignored pixels must be told apart."""
    truth = np.zeros((4, 4), np.uint8)
    predicted = np.zeros((4, 4), np.uint8)
    truth[0, 0], predicted[0, 1] = 1, 1
    truth[0, 2], predicted[0, 2] = 1, 2
    truth[0, 3] = 255
    picture = opened([Row("case", np.random.default_rng(0).random((1, 4, 4)), truth, predicted, 255)])
    step, left = PANEL // 4, GAP + 3 * (PANEL + GAP)
    found = [picture.getpixel((left + step * k + step // 2, HEAD + step // 2)) for k in range(4)]

    assert found == [MISSED, EXTRA, CONFUSED, IGNORED]


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        pytest.param((1, 300, 200), 9, id="large"),
        pytest.param((3, 20, 40), 20, id="colour, many classes"),
        pytest.param((4, 8, 8), 2, id="four channels"),
    ],
)
def test_any_image_can_be_drawn(shape: tuple[int, ...], classes: int) -> None:
    """A trial must not fail over its picture."""
    labels = np.arange(shape[1] * shape[2]).reshape(shape[1:]).astype(np.uint8) % classes
    picture = opened([Row("case", np.zeros(shape, np.float32), labels, labels, 255)] * 3, classes)

    assert picture.mode == "RGB"
    assert picture.height > 3 * 100


def test_no_two_classes_share_a_colour() -> None:
    """Up to nineteen classes, as many as Cityscapes has."""
    assert len(set(CLASS_COLOURS)) == len(CLASS_COLOURS) == 19
