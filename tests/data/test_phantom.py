"""The procedural abdomen: the same everywhere, anatomically in order, imbalanced like real cases, and not trivial."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label

from tuner.data.catalog import DATASETS, ORGANS
from tuner.data.datasets.phantom import Phantom
from tuner.data.preparation import prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.registry import defaults

AORTA, GALLBLADDER, LEFT, RIGHT, LIVER, PANCREAS, SPLEEN, STOMACH = range(1, 9)


def make(**options: Any) -> Phantom:
    return Phantom({**defaults(DATASETS["phantom"]), **options})


def volume(phantom: Phantom, case: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*phantom.samples(case), strict=True)
    return np.stack(images), np.stack(labels)


@pytest.fixture(scope="module")
def patients() -> list[tuple[np.ndarray, np.ndarray]]:
    phantom = make(size=64, slices=16, cases=10)
    return [volume(phantom, case) for case in phantom.training]


def test_same_seed_same_pixels() -> None:
    """A study is repeatable; other patients come with another number only."""
    first, again = volume(make(), "phantom003"), volume(make(), "phantom003")
    other = volume(make(anatomy_seed=1), "phantom003")

    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_a_case_does_not_depend_on_the_others() -> None:
    """More cases continue the data set; the test patients are none of the training patients."""
    few, many = make(cases=3), make(cases=30)

    assert np.array_equal(volume(few, "phantom002")[0], volume(many, "phantom002")[0])
    assert not set(many.training) & set(many.test)
    assert not np.array_equal(volume(few, "phantom000")[1], volume(few, "phantomtest000")[1])


def test_another_resolution_is_the_same_patient() -> None:
    """Tuning at 64 pixels and training at 128 is about the same anatomy."""
    coarse = volume(make(size=64), "phantom001")[1]
    fine = volume(make(size=128), "phantom001")[1]

    assert (coarse == fine[:, ::2, ::2]).mean() > 0.97


def test_intensities(patients: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Windowed CT: 0 to 1, air at 0, bones at the top."""
    for image, _ in patients:
        assert image.dtype == np.float32
        assert image.min() == 0
        assert 0.9 < image.max() <= 1
        assert (image[:, :, :3] == 0).all()


def test_imbalance_of_real_cases(patients: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The shares that make losses differ: percent of all voxels within a factor of 2 of the sample's real cases."""
    counts = sum(np.bincount(labels.ravel(), minlength=9) for _, labels in patients)
    percent = 100 * counts / counts.sum()
    real = {AORTA: 0.21, GALLBLADDER: 0.14, LEFT: 0.52, RIGHT: 0.72, LIVER: 4.5, SPLEEN: 1.0, STOMACH: 0.55}

    for organ, share in real.items():
        assert share / 2 < percent[organ] < share * 2, ORGANS[organ]
    assert 0.07 < percent[PANCREAS] < 0.4


def test_anatomy_is_in_order(patients: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Left and right, front and back, up and down as in the Synapse sample; only a gallbladder may be missing."""
    for _, labels in patients:
        present = set(np.unique(labels))
        assert present | {GALLBLADDER} == set(range(9))
        centers = [center_of_mass(labels == organ) if organ in present else (0, 0, 0) for organ in range(9)]
        z, y, x = np.array(centers).T
        assert x[LIVER] < x[STOMACH]
        assert x[RIGHT] < x[AORTA] < x[LEFT]
        assert x[LIVER] < x[AORTA] < x[SPLEEN]
        assert y[STOMACH] < y[AORTA] < max(y[LEFT], y[RIGHT])
        assert z[LEFT] < z[SPLEEN]
        assert z[RIGHT] < z[LIVER]
        if GALLBLADDER in present:
            assert x[GALLBLADDER] < x[AORTA]
            assert y[GALLBLADDER] < y[RIGHT]


def test_organs_are_solid(patients: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """An organ is one body, not specks: nine tenths of it hang together."""
    for _, labels in patients:
        for organ in (AORTA, LEFT, RIGHT, LIVER, SPLEEN):
            parts = np.bincount(label(labels == organ, np.ones((3, 3, 3)))[0].ravel())[1:]
            assert parts.max() > 0.9 * parts.sum(), ORGANS[organ]


def test_brightness_alone_does_not_find_organs(patients: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Soft contrast and look-alikes: the best threshold window finds the pancreas in less than a third."""
    image = np.concatenate([images[:, 0] for images, _ in patients])
    truth = np.concatenate([labels for _, labels in patients])
    for organ in (PANCREAS, GALLBLADDER, STOMACH, AORTA):
        low, high = np.percentile(image[truth == organ], [20, 80])
        found = (image >= low) & (image <= high)
        dice = 2 * (found & (truth == organ)).sum() / (found.sum() + (truth == organ).sum())
        assert dice < 1 / 3, ORGANS[organ]


def test_noise_and_contrast_do_what_they_say() -> None:
    """Options that change nothing would be searched in vain."""
    clean, noisy = (volume(make(noise=noise), "phantom000")[0] for noise in (0.0, 0.1))
    soft = volume(make(noise=0.0, contrast=0.2), "phantom000")[0]
    labels = volume(make(), "phantom000")[1][:, None]
    inside = (clean > 0.3) & (clean < 0.7)

    assert (noisy - clean)[inside].std() == pytest.approx(0.1, rel=0.15)

    def gap(image: np.ndarray) -> float:
        return float(abs(image[labels == LIVER].mean() - image[labels == GALLBLADDER].mean()))

    assert gap(soft) < 0.5 * gap(clean)


def test_some_patients_have_no_gallbladder() -> None:
    """Rules for absent organs are met in the embedded data too."""
    phantom = make(size=32, slices=24, cases=40)

    absent = sum(GALLBLADDER not in volume(phantom, case)[1] for case in phantom.training)

    assert 1 <= absent <= 12


@pytest.mark.parametrize("dimensions", [2, 3])
def test_prepared(tmp_path: Any, dimensions: int) -> None:
    """Two dimensions: slices that stack to volumes. Three: volumes. Nothing on disk is needed."""
    config = {"name": "phantom", "size": 32, "slices": 8, "cases": 5, "dimensions": dimensions, "validation": 0.2}

    data = prepare(config, data_root=None, cache=tmp_path, seed=0)
    (case,) = read_test_cases(config, data_root=None, cache=tmp_path, seed=0)

    assert data.spatial_dims == dimensions
    assert data.stacked == (dimensions == 2)
    assert data.train.images.shape == ((32, 1, 32, 32) if dimensions == 2 else (4, 1, 8, 32, 32))
    assert data.validation.labels.shape == ((8, 32, 32) if dimensions == 2 else (1, 8, 32, 32))
    assert case.image.shape == ((8, 32, 32) if dimensions == 2 else (1, 8, 32, 32))
    assert case.label.shape == (8, 32, 32)
    assert case.spacing == pytest.approx((19.5, 11.5625, 11.5625))


def test_one_value_one_fingerprint(tmp_path: Any) -> None:
    """`noise: 0` and `noise: 0.0` are the same data."""
    config = {"name": "phantom", "size": 32, "slices": 4, "cases": 3}
    whole, fraction, other = (
        prepare({**config, "noise": noise}, data_root=None, cache=tmp_path, seed=0).fingerprint
        for noise in (0, 0.0, 0.1)
    )

    assert whole == fraction != other


def test_slices_of_the_volume_are_the_slices(tmp_path: Any) -> None:
    """Two and three dimensions show the same patients."""
    flat, deep = (make(dimensions=dimensions, size=32) for dimensions in (2, 3))

    assert np.array_equal(volume(flat, "phantom000")[0][:, 0], volume(deep, "phantom000")[0][0, 0])
