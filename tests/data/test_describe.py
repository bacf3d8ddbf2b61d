"""Descriptions and resizing."""

import json
from pathlib import Path

import numpy as np
import pytest

from tuner.data.describe import describe
from tuner.data.prepared import prepare
from tuner.data.resize import resize_images, resize_labels


def test_describe(tmp_path: Path) -> None:
    """Facts that a user compares with what they know of their data; all of it JSON."""
    config = {"name": "phantom", "size": 48, "slices": 6, "cases": 3}

    facts = describe(config, data_root=None, cache=tmp_path, seed=0)

    images = np.array(prepare(config, data_root=None, cache=tmp_path, seed=0).train.images)
    assert facts["train"]["intensity"]["std"] == pytest.approx(images.std(), rel=1e-5)
    assert facts["train"]["intensity"]["mean"] == pytest.approx(images.mean(), rel=1e-5)
    assert json.loads(json.dumps(facts)) == facts
    assert sum(facts["class_frequencies"].values()) == pytest.approx(1)
    assert facts["train"]["samples"] == 12
    assert facts["train"]["size"] == [48, 48]
    assert sum(facts["validation"]["cases"].values()) == 6
    assert facts["train"]["organs"]["liver"]["cases"] == 2
    assert facts["train"]["organs"]["liver"]["objects"] >= 2


@pytest.mark.realdata
def test_describe_the_real_sample(test_data: Path, tmp_path: Path) -> None:
    """Counts of the sample's own description: slices that hold an organ."""
    config = {"name": "synapse", "size": 256, "validation": ["case0101"]}

    facts = describe(config, data_root=test_data, cache=tmp_path, seed=0)

    held = {name: organ["samples"] for name, organ in facts["validation"]["organs"].items()}
    assert held == {
        "aorta": 17,
        "gallbladder": 4,
        "left kidney": 11,
        "right kidney": 12,
        "liver": 14,
        "pancreas": 6,
        "spleen": 10,
        "stomach": 10,
    }


def test_labels_take_the_pixel_under_their_centre() -> None:
    """Nearest, never a mixture of ids, and centred: no half-pixel shift against the image."""
    labels = np.array([[1, 2, 3, 4]], np.uint8).repeat(4, 0)

    assert resize_labels(labels, (4, 8))[0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert resize_labels(labels, (2, 2)).tolist() == [[2, 4], [2, 4]]
    assert resize_labels(resize_labels(labels, (12, 12)), (4, 4)).tolist() == labels.tolist()


def test_images_are_averaged_when_they_shrink() -> None:
    """Noise must shrink with the image instead of aliasing; the mean stays."""
    image = np.random.default_rng(0).random((2, 3, 128, 96), np.float32)

    small = resize_images(image, (32, 24))

    assert small.shape == (2, 3, 32, 24)
    assert small.dtype == np.float32
    assert small.mean() == pytest.approx(image.mean(), rel=0.01)
    assert small.std() < 0.4 * image.std()
    assert resize_images(image, (128, 96)) is image


def test_image_and_label_stay_aligned() -> None:
    """A resized square has its edges where the resized label has them."""
    label = np.zeros((60, 60), np.uint8)
    label[20:40, 10:30] = 1

    for size in ((30, 30), (97, 130), (24, 50)):
        image, small = resize_images(label.astype(np.float32), size), resize_labels(label, size)
        sure = (image < 0.25) | (image > 0.75)
        assert ((image > 0.5) == small)[sure].all()
