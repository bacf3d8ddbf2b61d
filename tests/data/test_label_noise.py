"""Label noise: which training labels are wrong, and how much, of every kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tuner.config.study import load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data import preparation
from tuner.data.label_noise import KINDS, LabelNoise, spoil
from tuner.data.preparation import prepare
from tuner.errors import DataError, SpecError

NOISY = [kind for kind in KINDS if kind != "none"]
Labels = NDArray[np.uint8]


def squares(side: int = 10, count: int = 64, classes: int = 4) -> Labels:
    """Return a map with squares of side 10 on a grid, classes in turn."""
    width = round(count**0.5)
    labels = np.zeros((2 * side * width, 2 * side * width), np.uint8)
    for n in range(count):
        y, x = (2 * side * place + side // 2 for place in divmod(n, width))
        labels[y : y + side, x : x + side] = 1 + n % (classes - 1)
    return labels


def noisy(labels: Labels, kind: str, rate: float = 0.2, seed: int = 0, case: str = "a", **options: Any) -> Labels:
    """Return labels with noise."""
    settings = {"classes": 4, "background": True, "stacked": False} | options
    return spoil(labels, LabelNoise(kind, rate, seed), case, **settings)


def test_objects_are_missing_at_the_rate() -> None:
    """Whole objects, a fifth of 256 of them (±2.5 %), and more of the same at a higher rate."""
    labels = squares(count=256)
    some, more = noisy(labels, "drop"), noisy(labels, "drop", 0.4)

    kept = ndimage.label(some)[1]
    assert 256 * 0.7 < kept < 256 * 0.9
    assert (some[some > 0] == labels[some > 0]).all()
    assert ((more > 0) <= (some > 0)).all()
    assert (some > 0).sum() == 100 * kept


def test_classes_of_whole_objects_are_exchanged() -> None:
    """Shapes stay; the other classes are equally likely."""
    labels = squares(count=256)
    found = noisy(labels, "flip")

    assert ((found > 0) == (labels > 0)).all()
    changed = (found != labels).sum() / (labels > 0).sum()
    assert 0.12 < changed < 0.28
    assert (found != labels).sum() % 100 == 0


def test_borders_move_by_a_share_of_the_pixels() -> None:
    """Half of the objects lose a fifth of their pixels, half gain as many; the middle stays."""
    labels = squares()
    found = noisy(labels, "boundary")
    numbered, count = ndimage.label(ndimage.binary_dilation(labels > 0, iterations=4))
    sizes = ndimage.sum_labels(found > 0, numbered, np.arange(1, count + 1))

    assert sorted(set(sizes.tolist())) == [80, 120]
    assert 16 < (sizes == 80).sum() < 48
    core = ndimage.binary_erosion(labels > 0, iterations=2)
    assert (found[core] == labels[core]).all()


def test_masks_are_moved_by_a_share_of_their_size() -> None:
    """Side 10, rate 0.3: three pixels in some direction; no pixel is lost."""
    labels = squares()
    found = noisy(labels, "shift", 0.3)
    before = ndimage.center_of_mass(labels > 0, *[ndimage.label(labels)[0], np.arange(1, 65)])
    after = ndimage.center_of_mass(found > 0, *[ndimage.label(found)[0], np.arange(1, 65)])

    assert (found > 0).sum() == (labels > 0).sum()
    nearest = [min(np.hypot(*np.subtract(a, b)) for b in before) for a in after]
    assert all(2 < distance < 4 for distance in nearest)


@pytest.mark.parametrize("kind", NOISY)
@pytest.mark.parametrize("shape", ["2-D", "3-D", "stack", "no background"])
def test_noise_is_the_same_for_the_same_seed_and_case(kind: str, shape: str) -> None:
    """Other seeds and cases have other noise; ignored pixels and the given labels stay."""
    labels = squares(side=8, count=16)
    options: dict[str, Any] = {}
    if shape in ("3-D", "stack"):
        labels, options = np.stack([np.zeros_like(labels), *[labels] * 6]), {"stacked": shape == "stack"}
    if shape == "no background":
        options = {"background": False}
    labels[..., 3:6, :] = 255
    given = labels.copy()
    first = noisy(labels, kind, **options)

    assert (labels == given).all()
    assert ((first == 255) == (labels == 255)).all()
    assert (first != labels).any()
    assert (first == noisy(labels, kind, **options)).all()
    assert (first != noisy(labels, kind, seed=1, **options)).any()
    assert (first != noisy(labels, kind, case="b", **options)).any()
    if shape == "stack":  # an object is missing, moved or exchanged in all its slices
        assert kind == "boundary" or all((plane == first[1]).all() for plane in first[1:])
        assert (first[0] == labels[0]).all()


def test_one_class_has_none_to_exchange() -> None:
    """Refused with the kinds that would do."""
    with pytest.raises(DataError, match="one class only"):
        noisy((squares() > 0).astype(np.uint8), "flip", classes=2)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_only_training_labels_are_spoiled(tmp_path: Path, dimensions: int) -> None:
    """Images, validation and test labels are those of the clean data; the fingerprint is not."""
    section = {"name": "phantom", "size": 32, "cases": 4, "slices": 4, "dimensions": dimensions, "validation": 0.25}
    places: dict[str, Any] = {"data_root": None, "cache": tmp_path, "seed": 0}
    noise = {"kind": "drop", "rate": 0.5, "seed": 3}
    clean, spoiled = prepare(section, **places), prepare({**section, "label_noise": noise}, **places)
    none = prepare({**section, "label_noise": {**noise, "rate": 0.0}}, **places)

    assert none.fingerprint == clean.fingerprint
    assert prepare({**section, "label_noise": {**noise, "seed": 4}}, **places).fingerprint != spoiled.fingerprint
    assert spoiled.fingerprint != clean.fingerprint
    assert (np.asarray(spoiled.train.labels) != np.asarray(clean.train.labels)).any()
    assert spoiled.class_frequencies[0] > clean.class_frequencies[0]
    for half in ("train", "validation"):
        assert (np.asarray(getattr(spoiled, half).images) == np.asarray(getattr(clean, half).images)).all()
    assert (np.asarray(spoiled.validation.labels) == np.asarray(clean.validation.labels)).all()
    first, again = (next(preparation.test_cases(s, **places)) for s in (section, {**section, "label_noise": noise}))
    assert (first.label == again.label).all()


def test_samples_of_different_sizes_are_spoiled_too(tmp_path: Path, test_data: Path) -> None:
    """Pictures that keep their sizes lie in one flat file."""
    section = {"name": "folder", "path": "nuclei", "resize": False}
    places: dict[str, Any] = {"data_root": test_data, "cache": tmp_path, "seed": 0}
    clean = prepare(section, **places)
    spoiled = prepare({**section, "label_noise": {"kind": "boundary", "rate": 0.3}}, **places)

    assert [a.shape for a in spoiled.train.labels] == [a.shape for a in clean.train.labels]
    assert all((a != b).any() for a, b in zip(spoiled.train.labels, clean.train.labels, strict=True) if b.any())


def test_every_number_of_the_noise_can_be_searched() -> None:
    """A trial's configuration has them; the noise of a study without is none."""
    content = {
        "name": "noisy",
        "dataset": {"name": "phantom"},
        "search": {
            "loss": ["dice", "focal"],
            "dataset.label_noise.kind": ["none", "drop"],
            "dataset.label_noise.rate": {"low": 0.0, "high": 0.4},
            "dataset.label_noise.seed": [0, 1],
        },
    }
    spec = load_spec(YamlDocument(content, {}, None))
    config = spec.config({"loss": "dice", "dataset.label_noise.kind": "drop", "dataset.label_noise.rate": 0.3})

    assert config.dataset["label_noise"] == {"kind": "drop", "rate": 0.3, "seed": 0}
    assert config.parameters()["dataset.label_noise.rate"] == 0.3
    assert LabelNoise.of(spec.base.dataset) is None
    with pytest.raises(SpecError, match=r"dataset.label_noise.kind: 'drip' is not one of .*did you mean 'drop'"):
        load_spec(YamlDocument(content | {"dataset": {"name": "phantom", "label_noise": {"kind": "drip"}}}, {}, None))
