"""Samples that keep their sizes: stored behind one another, read back as they were, each with its spacing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.volumes import CASES, make_nnunet, scan, section
from tuner.analysis.predictions import Truth
from tuner.data.arrays import FlatWriter, Ragged, open_validation, spatial_shape, stack_range
from tuner.data.cache import read_manifest
from tuner.data.describe import describe
from tuner.data.preparation import PreparedData, prepare
from tuner.errors import DataError


def _prepare(root: Path, **options: Any) -> PreparedData:
    return prepare(section(**options), data_root=root, cache=root / "cache", seed=0)


def test_volumes_are_those_of_the_files(tmp_path: Path) -> None:
    """Whole scans, each of its own size, windowed, in RAS and otherwise untouched; the second time from the cache."""
    make_nnunet(tmp_path)

    for data in (_prepare(tmp_path, dimensions=3, resize=False), _prepare(tmp_path, dimensions=3, resize=False)):
        assert (data.uneven, data.spatial_dims, data.sample_shape) == (True, 3, (1, 0, 0, 0))
        assert data.train.cases == ("anna_1", "anna_2", "cleo_1")
        for number, name in enumerate(data.train.cases):
            values, labels = (array[::-1] for array in scan(name)[:2])  # the files' first axis runs to the left
            assert np.allclose(data.train.images[number][0], np.clip((values.T + 300) / 800, 0, 1), atol=1e-6)
            assert np.array_equal(data.train.labels[number], np.select([labels.T == 3, labels.T == 7], [1, 2]))


def test_slices_of_a_case_make_its_volume_again(tmp_path: Path) -> None:
    """In 2-D every slice keeps its size, and the slices of a case are one volume."""
    make_nnunet(tmp_path)

    data = _prepare(tmp_path, resize=False, validation=["ben_1", "anna_2"])

    assert data.stacked
    assert [len(np.flatnonzero(data.validation.case_of == case)) for case in (0, 1)] == [6, 7]
    assert stack_range(data.validation.labels, 6, 13).shape == (7, 22, 19)
    assert spatial_shape(data.validation.labels, 0) == (17, 24)


def test_nothing_changes_for_those_who_resize(tmp_path: Path) -> None:
    """The default and `resize: true` are one data set, with one fingerprint; whole samples are another."""
    make_nnunet(tmp_path)

    plain, resized, whole = (_prepare(tmp_path, **options) for options in ({}, {"resize": True}, {"resize": False}))

    assert plain.fingerprint == resized.fingerprint != whole.fingerprint
    assert not plain.uneven


@pytest.mark.parametrize("dimensions", [2, 3])
def test_spacing_follows_the_resizing(dimensions: int, tmp_path: Path) -> None:
    """A pixel of a slice that shrank is larger; across the slices nothing was resampled."""
    make_nnunet(tmp_path)
    shape, (x, y, z) = CASES["ben_1"]

    resized = _prepare(tmp_path, dimensions=dimensions)
    whole = _prepare(tmp_path, dimensions=dimensions, resize=False)

    assert resized.validation.spacings == (pytest.approx((z, y * shape[1] / 16, x * shape[0] / 16)),)
    assert whole.validation.spacings == (pytest.approx((z, y, x)),)


def test_pictures_keep_their_sizes(tmp_path: Path) -> None:
    """A folder of pictures of all sizes needs no resizing either."""
    rng = np.random.default_rng(0)
    for name, size in (("a", (30, 20)), ("b", (18, 40)), ("c", (25, 25))):
        for kind, values in (("images", rng.integers(0, 256, size)), ("masks", rng.integers(0, 2, size) * 255)):
            (tmp_path / "folder" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "folder" / kind / f"{name}.png")

    data = prepare(
        {"name": "folder", "resize": False, "validation": ["b"]}, data_root=tmp_path, cache=tmp_path / "cache", seed=0
    )

    assert [image.shape for image in data.train.images] == [(1, 30, 20), (1, 25, 25)]
    assert np.array_equal(data.train.labels[0], np.asarray(Image.open(tmp_path / "folder/masks/a.png")) // 255)
    assert data.validation.spacings == ()


def test_arrays_of_all_sizes(tmp_path: Path) -> None:
    """What was written behind one another comes back one by one; another number or size is refused."""
    arrays = [np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 4), np.uint8), np.full((1, 5), 9, np.uint8)]
    with FlatWriter(tmp_path / "a.npy", shapes=[array.shape for array in arrays], dtype="u1") as writer:
        for array in arrays:
            writer.append(array)
        with pytest.raises(DataError, match="more than the 3"):
            writer.append(arrays[0])

    ragged = Ragged(np.load(tmp_path / "a.npy", mmap_mode="r"), [array.shape for array in arrays])

    assert writer.is_complete
    assert len(ragged) == 3
    assert all(np.array_equal(found, array) for found, array in zip(ragged, arrays, strict=True))
    with pytest.raises(DataError, match="need others"):
        Ragged(np.zeros(5), [(2, 2)])
    with FlatWriter(tmp_path / "b.npy", shapes=[(2, 3)], dtype="u1") as writer, pytest.raises(DataError, match="shape"):
        writer.append(arrays[2])


def test_description_of_volumes_as_they_are(tmp_path: Path) -> None:
    """`data describe` counts what an independent count finds, whatever the sizes."""
    make_nnunet(tmp_path)
    config = section(dimensions=3, resize=False)

    found = describe(config, data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    labels = [scan(name)[1] for name in ("anna_1", "anna_2", "cleo_1")]
    voxels = sum(label.size for label in labels)
    for organ, value in (("low", 3), ("high", 7)):
        share = sum(int((label == value).sum()) for label in labels) / voxels
        assert found["train"]["organs"][organ]["percent"] == pytest.approx(100 * share)
        assert found["class_frequencies"][organ] == pytest.approx(share)
        assert found["train"]["organs"][organ]["cases"] == 3
    assert found["validation"]["size"] == list(reversed(CASES["ben_1"][0]))


def test_pages_and_reports_find_the_truth(tmp_path: Path) -> None:
    """Whoever shows predictions beside the truth reads the same volumes without the data set."""
    make_nnunet(tmp_path)
    data = _prepare(tmp_path, dimensions=3, resize=False)
    manifest = read_manifest(data.folder)
    assert manifest is not None

    images, labels = open_validation(data.folder, manifest)

    assert np.array_equal(images[0], data.validation.images[0])
    assert np.array_equal(labels[0], data.validation.labels[0])
    spec = {"dataset": section(dimensions=3, resize=False)}
    truth = Truth.find(tmp_path / "cache", spec, {"fingerprint": data.fingerprint})
    assert truth is not None
    shown = truth.of("ben_1")
    assert shown is not None
    assert np.array_equal(shown[1], data.validation.labels[0])
    assert shown[0].shape == shown[1].shape
