"""Folders of images and masks: real ones, every coding of a mask, every division, every defect."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuner.data.checks import check
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.errors import DataError

NUCLEI = {"name": "folder", "path": "nuclei", "size": 256}


def make_folder(
    root: Path, *, names: tuple[str, ...] = ("a_1", "a_2", "b_1", "b_2", "c_1"), values: Any = (0, 7)
) -> Path:
    """Grey images that differ, masks whose right half is the second value."""
    folder = root / "own"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (16, 24), np.uint8)).save(folder / "images" / f"{name}.png")
        mask = np.full((16, 24), values[0], np.uint8)
        mask[:, 12:] = values[1]
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def _prepare(root: Path, cache: Path, **config: Any) -> PreparedData:
    return prepare(
        {"name": "folder", "path": "own", "size": 16, "width": 24} | config, data_root=root, cache=cache, seed=0
    )


def _check(root: Path, **config: Any) -> list[str]:
    return check({"name": "folder", "path": "own"} | config, data_root=root)


def test_real_nuclei(test_data: Path, tmp_path: Path) -> None:
    """RGB images and 0 / 255 masks of a public data set arrive pixel for pixel; its val.txt is held out."""
    data = prepare(NUCLEI, data_root=test_data, cache=tmp_path, seed=0)

    assert data.class_names == ("background", "value 255")
    assert (data.channels, len(data.train.cases), len(data.validation.cases)) == (3, 36, 9)
    name = data.train.cases[4]
    image = np.asarray(Image.open(test_data / "nuclei" / "images" / f"{name}.png").convert("RGB"))
    mask = np.asarray(Image.open(test_data / "nuclei" / "masks" / f"{name}.png"))
    assert np.array_equal(np.rint(data.train.images[4] * 255), image.transpose(2, 0, 1))
    assert np.array_equal(data.train.labels[4], mask == 255)
    held_out = (test_data / "nuclei" / "val.txt").read_text().split()
    tests = list(read_test_cases(NUCLEI, data_root=test_data, cache=tmp_path, seed=0))
    assert [case.name for case in tests] == held_out
    assert np.mean([case.label.mean() for case in tests]) == pytest.approx(0.116, abs=0.001)
    assert check(NUCLEI, data_root=test_data) == []


def test_real_membranes_by_section(test_data: Path, tmp_path: Path) -> None:
    """Both quarters of a section are one group: none trains while the other validates."""
    config = {"name": "folder", "path": "membranes", "size": 64, "group": "vnc_{group}_*", "classes": "cell, membrane"}

    data = prepare(config, data_root=test_data, cache=tmp_path, seed=0)

    assert data.class_names == ("cell", "membrane")
    assert data.train.images.shape == (26, 1, 64, 64)
    assert not set(data.train.cases) & set(data.validation.cases)
    assert set(np.bincount(data.train.case_of)) == {2}
    assert check(config, data_root=test_data) == []


def _palette(mask: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return picture


def _coloured(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(mask[..., None] == 1, (135, 206, 235), (0, 0, 0)).astype(np.uint8))


@pytest.mark.parametrize(
    ("make", "ending", "names"),
    [
        pytest.param(lambda mask: Image.fromarray(mask * np.uint8(200)), "bmp", "value 200", id="grey"),
        pytest.param(_palette, "gif", "value 1", id="palette"),
        pytest.param(_coloured, "png", "value #87ceeb", id="colour"),
        pytest.param(lambda mask: Image.fromarray(mask * np.uint16(999)), "tif", "value 999", id="16-bit"),
        pytest.param(lambda mask: Image.fromarray(mask.astype(bool)), "png", "value 1", id="1-bit"),
    ],
)
def test_codings_of_masks(tmp_path: Path, make: Callable[[np.ndarray], Image.Image], ending: str, names: str) -> None:
    """Whatever the masks are coded in, the classes are the same."""
    folder = make_folder(tmp_path)
    for path in (folder / "masks").iterdir():
        mask = (np.asarray(Image.open(path)) == 7).astype(np.uint8)
        path.unlink()
        make(mask).save(path.with_suffix(f".{ending}"))

    data = _prepare(tmp_path, tmp_path / "cache")

    assert data.class_names == ("background", names)
    assert data.class_frequencies == (0.5, 0.5)
    assert (data.train.labels[:, :, 12:] == 1).all()


def test_given_classes_and_ignored_pixels(tmp_path: Path) -> None:
    """Names and values from the study file win over the order of values; ignored pixels count in no frequency."""
    folder = make_folder(tmp_path, values=(9, 3))
    mask = np.asarray(Image.open(folder / "masks" / "a_1.png")).copy()
    mask[0] = 255
    Image.fromarray(mask).save(folder / "masks" / "a_1.png")

    data = _prepare(tmp_path, tmp_path / "cache", classes="sea=9, ship=3", ignore="255", validation=["b_1"])

    assert data.class_names == ("sea", "ship")
    assert (data.train.labels[0, 0] == 255).all()
    assert (data.train.labels[0, 1:, 12:] == 1).all()
    assert data.class_frequencies == (0.5, 0.5)


def test_intensities_of_16_bit(tmp_path: Path) -> None:
    """A 16-bit microscope image is not cut down to 8 bits."""
    folder = make_folder(tmp_path)
    values = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24) * 170
    Image.fromarray(values).save(folder / "images" / "a_1.png")

    data = _prepare(tmp_path, tmp_path / "cache", validation=["b_1"])

    assert np.allclose(data.train.images[0, 0], values / 65535)


def test_groups_never_cross(tmp_path: Path) -> None:
    """With a pattern a patient's images train together or validate together, whatever the seed."""
    make_folder(tmp_path)

    for seed in range(4):
        config = {"name": "folder", "path": "own", "size": 16, "group": "{group}_*", "validation": 0.4}
        data = prepare(config, data_root=tmp_path, cache=tmp_path / "cache", seed=seed)
        assert sorted(data.train.cases + data.validation.cases) == ["a", "b", "c"]
        trained = {image.tobytes() for image in data.train.images}
        assert not trained & {image.tobytes() for image in data.validation.images}


def test_validation_on_the_held_out_list(tmp_path: Path) -> None:
    """A published division can be followed: train.txt trains, val.txt validates, marked as test."""
    folder = make_folder(tmp_path)
    (folder / "train.txt").write_text("a_1\na_2.png\nb_1\n")
    (folder / "val.txt").write_text("b_2\nc_1\n")

    data = _prepare(tmp_path, tmp_path / "cache", validation="test")

    assert data.train.cases == ("a_1", "a_2", "b_1")
    assert data.validation.cases == ("b_2", "c_1")
    assert data.validation_protocol == "test"


def test_fingerprint_follows_the_masks(tmp_path: Path) -> None:
    """Another mask is another data set; the same folder elsewhere is the same."""
    folder = make_folder(tmp_path)
    first = _prepare(tmp_path, tmp_path / "cache").fingerprint
    shutil.copytree(folder, tmp_path / "moved")

    assert _prepare(tmp_path, tmp_path / "cache", path="moved").fingerprint == first
    Image.fromarray(np.full((16, 24), 7, np.uint8)).save(folder / "masks" / "a_1.png")
    assert _prepare(tmp_path, tmp_path / "cache").fingerprint != first


@pytest.mark.parametrize(
    "path", ["../own", "/etc", "~", "own/../../x", "a\\b", "", "link"], ids=lambda path: path or "empty"
)
def test_no_way_out_of_the_data_root(tmp_path: Path, path: str) -> None:
    """A posted study reads nothing that does not lie below the data root."""
    root = tmp_path / "root"
    root.mkdir()
    make_folder(tmp_path)
    (root / "link").symlink_to(tmp_path / "own")

    with pytest.raises(DataError, match=r"not a path below|leads out of"):
        _prepare(root, tmp_path / "cache", path=path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"path": "gone"}, r"is not there.*images/", id="folder"),
        pytest.param({"classes": "a, b, c"}, r"3 classes are named and the masks hold 2 values: 0, 7", id="count"),
        pytest.param({"classes": "a=0, b=9"}, r"holds 7, which no class has \(0: a, 9: b\)", id="value"),
        pytest.param({"classes": "a=0, b"}, r"only 1 of 2 classes have a code", id="half"),
        pytest.param({"classes": "a=0, a=7"}, r"a name stands twice", id="twice"),
        pytest.param({"classes": "a=red, b=1"}, r"'a=red' is not NAME or NAME=CODE", id="code"),
        pytest.param({"ignore": "black"}, r"'black' is not a code", id="ignore"),
        pytest.param({"group": "patient*"}, r"\{group\} has to stand once", id="pattern"),
        pytest.param({"group": "{group}-*"}, r"does not fit the pattern.*and 2 more", id="fit"),
    ],
)
def test_wrong_requests(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """A wrong option says what was found and what would do, before anything is written."""
    make_folder(tmp_path)

    with pytest.raises(DataError, match=rf"(?s){message}"):
        _prepare(tmp_path, tmp_path / "cache", **config)


def test_ten_defects_are_ten_lines(tmp_path: Path) -> None:
    """Every defect is named at once: nobody repairs a data set ten times."""
    folder = make_folder(tmp_path, names=tuple(f"{patient}_{n}" for patient in "abcd" for n in range(4)))
    images, masks = folder / "images", folder / "masks"
    (masks / "a_0.png").unlink()
    (images / "a_1.png").unlink()
    (images / "a_2.png").write_bytes((images / "a_2.png").read_bytes()[:150])
    (masks / "b_0.png").write_bytes(b"")
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(masks / "b_1.png")
    Image.fromarray(np.full((16, 24), 44, np.uint8)).save(masks / "b_2.png")
    shutil.copy(images / "c_0.png", images / "d_0.png")
    Image.fromarray(np.full((16, 24), np.nan, np.float32)).save(images / "c_1.tif")
    (images / "c_1.png").unlink()
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(images / "c_2.png")
    (folder / "train.txt").write_text("".join(f"{p}_{n}\n" for p in "bc" for n in range(4)) + "a_2\na_3\ngone\n")
    (folder / "val.txt").write_text("d_0\nd_1\nd_2\nb_3\n")

    defects = _check(tmp_path, classes="background=0, cell=7, rare=9")

    for text in (
        "a_0.png: there is no mask",
        "a_1.png: there is no image",
        "a_2.png: cannot be read as an image (150 bytes",
        "b_0.png: cannot be read as an image (0 bytes",
        "b_1.png: 20 x 16 pixels, and its image 24 x 16",
        "b_2.png: holds 44, which no class has",
        "d_0.png: the same image as",
        "c_1.tif: 384 values are not finite",
        "c_2.png: in colour, and the first image is grey",
        "gone is listed, and there is no such image",
        "b_3 is in several lists",
        "class 'rare' occurs in no training mask",
    ):
        assert sum(text in line for line in defects) == 1, text
    assert all("\n" not in line for line in defects)


def test_group_on_both_sides_is_refused(tmp_path: Path) -> None:
    """Lists that divide a patient are no division; check and launch both say so."""
    folder = make_folder(tmp_path)
    (folder / "train.txt").write_text("a_1\nb_1\nb_2\n")
    (folder / "val.txt").write_text("a_2\nc_1\n")

    with pytest.raises(DataError, match=r"a_2 is held out and its group 'a' trains \(a_1\)"):
        _prepare(tmp_path, tmp_path / "cache", group="{group}_*")
    assert len(_check(tmp_path, group="{group}_*")) == 1
    assert _check(tmp_path) == []


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    """Masks that were stored as JPEG hold hundreds of values; they must not become hundreds of classes."""
    folder = make_folder(tmp_path)
    Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24)).save(folder / "masks" / "a_1.png")

    with pytest.raises(DataError, match=r"the masks hold 25\d values"):
        _prepare(tmp_path, tmp_path / "cache")
