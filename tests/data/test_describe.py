"""Descriptions and resizing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.volumes import CASES, make_nnunet, section
from tuner.data.describe import describe
from tuner.data.images import resize_images, resize_labels
from tuner.data.preparation import prepare


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


def _drawn_folder(root: Path) -> Path:
    """Five images of one shade each, with a disc (value 1) and two bars (value 2) to be found."""
    folder = root / "drawn"
    y, x = np.mgrid[:96, :128]
    mask = np.zeros((96, 128), np.uint8)
    mask[(y - 40) ** 2 + (x - 40) ** 2 <= 20**2] = 1
    mask[70:75, 10:60] = mask[70:75, 70:120] = 2
    for number in range(5):
        for kind, values in (("images", np.full((96, 128), 50 * number + 20, np.uint8)), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / kind / f"p{number}.png")
    return folder


def test_figures_are_those_of_the_drawing(tmp_path: Path) -> None:
    """Every figure against what was drawn: counts, sizes, widths, thinness, boundary, shares, intensities."""
    folder = _drawn_folder(tmp_path)
    mask = np.asarray(Image.open(folder / "masks" / "p0.png"))
    disc = int((mask == 1).sum())
    config = {"name": "folder", "path": "drawn", "size": 96, "width": 128, "validation": ["p2", "p3", "p4"]}

    facts = describe(config, data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    first, second = facts["train"]["organs"].values()
    assert (first["objects"], first["sample_objects"], first["cases"], first["samples"]) == (2, 2, 2, 2)
    assert (second["objects"], second["sample_objects"]) == (4, 4)
    assert set(first["object_size"].values()) == {float(disc)}
    assert set(second["object_size"].values()) == {250.0}
    assert second["object_thinness"]["median"] == pytest.approx(10)
    assert (second["width"], first["width"]) == (pytest.approx(5), pytest.approx(40, abs=2))
    assert first["boundary_per_area"] == pytest.approx(2 * math.pi * 20 / disc, rel=0.03)
    assert second["boundary_per_area"] == pytest.approx(110 / 250, rel=0.07)
    assert first["percent"] == pytest.approx(100 * disc / mask.size)
    assert facts["imbalance"] == pytest.approx((mask == 0).sum() / (mask == 2).sum())
    assert facts["train"]["recorded"] == {"sizes": {"96 x 128": 2}, "spacings": {}}
    (channel,) = facts["train"]["intensity"]["channels"]
    assert (channel["min"], channel["max"]) == (pytest.approx(20 / 255), pytest.approx(70 / 255))
    assert sum(channel["histogram"]) == 2 * mask.size
    assert channel["percentiles"]["99.5"] == pytest.approx(70 / 255, abs=1e-4)
    assert channel["by_class"][2]["mean"] == pytest.approx(45 / 255)
    assert channel["by_class"][2]["std"] == pytest.approx(25 / 255)


def test_sizes_and_spacings_are_those_of_the_files(tmp_path: Path) -> None:
    """Resizing hides neither: what was recorded is said, although all samples have one size."""
    make_nnunet(tmp_path)

    facts = describe(section(), data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    shapes = [" x ".join(map(str, reversed(CASES[name][0]))) for name in ("anna_1", "anna_2", "cleo_1")]
    spacings = [" x ".join(f"{extent:g}" for extent in reversed(CASES[name][1])) for name in ("anna_1", "anna_2")]
    assert facts["train"]["recorded"]["sizes"] == dict.fromkeys(shapes, 1)
    assert list(facts["train"]["recorded"]["spacings"])[:2] == spacings
    assert facts["train"]["size"] == [16, 16]


@pytest.mark.realdata
def test_describe_the_real_sample(test_data: Path, tmp_path: Path) -> None:
    """Counts of the sample's own description: slices that hold an organ."""
    config = {"name": "synapse", "size": 256, "validation": ["case0101"]}

    facts = describe(config, data_root=test_data, cache=tmp_path, seed=0)

    held = {name: organ["samples"] for name, organ in facts["validation"]["organs"].items()}
    assert facts["validation"]["recorded"]["sizes"] == {"20 x 256 x 256": 1}
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
