"""What lies in a folder of pictures, is used or not, and is said: names, suffixes, links, orientations, ranges."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.broken_images import city_paths, make_cityscapes
from tests.data.test_image_folder import make_folder
from tuner.data.checks import DataWarning, Findings, check
from tuner.data.describe import describe
from tuner.data.inference_inputs import NewCase, orientation_note, read_case
from tuner.data.preparation import PreparedData, prepare
from tuner.errors import DataError


def checked(root: Path, **config: Any) -> Findings:
    return check({"name": "folder", "path": "own"} | config, data_root=root)


def prepared(root: Path, **config: Any) -> PreparedData:
    section = {"name": "folder", "path": "own", "size": 16, "width": 24, "validation": ["b_1"]} | config
    return prepare(section, data_root=root, cache=root / "cache", seed=0)


def renamed(folder: Path, suffix: str) -> None:
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"{path.stem}{suffix}{path.suffix}"))


@pytest.mark.parametrize(("kind", "suffix"), [("mask", "_mask"), ("mask", "-seg (1)"), ("image", "_image")])
def test_suffixes(kind: str, suffix: str, tmp_path: Path) -> None:
    """NAME_mask.png beside NAME.jpg: one line names the option that pairs them, and the option does."""
    folder = make_folder(tmp_path)
    before = prepared(tmp_path)
    renamed(folder / f"{kind}s", suffix)

    found = checked(tmp_path)

    option = f"{kind}_suffix"
    assert len(found) == 1
    assert f"`dataset.{option}: {suffix}`" in found[0]
    with pytest.raises(DataError, match=option):
        prepared(tmp_path)
    after = prepared(tmp_path, **{option: suffix})
    assert after.train.cases == before.train.cases
    assert np.array_equal(after.train.labels, before.train.labels)
    assert checked(tmp_path, **{option: suffix}) == []


def test_both_unicode_forms_of_a_name(tmp_path: Path) -> None:
    """Some systems write é as two characters: such names pair, in lists too; twins are told apart."""
    folder = make_folder(tmp_path)
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (folder / "images/a_1.png").rename(folder / f"images/{decomposed}.png")
    (folder / "masks/a_1.png").rename(folder / f"masks/{composed}.png")
    (folder / "train.txt").write_text(f"{decomposed}\na_2\nb_1\n")
    (folder / "val.txt").write_text("b_2\nc_1\n")

    assert checked(tmp_path) == []
    assert composed in prepared(tmp_path).train.cases
    (folder / f"images/{composed}.png").write_bytes((folder / f"images/{decomposed}.png").read_bytes())
    assert [line for line in checked(tmp_path) if r"cafe\u0301.png has the same name" in line]


def test_capital_letters_are_pointed_at(tmp_path: Path) -> None:
    """`A_1.png` has no mask `a_1.png`; the eye does not see why."""
    folder = make_folder(tmp_path)
    (folder / "images/a_1.png").rename(folder / "images/A_1.png")

    assert [line for line in checked(tmp_path) if "(there is a_1: capital and small letters differ)" in line]


def test_what_is_not_used_is_counted(tmp_path: Path) -> None:
    """Hidden files, other endings and linked folders are named; links that lead nowhere are a defect."""
    folder = make_folder(tmp_path)
    (folder / "images/._a_1.png").write_bytes(b"\0\5\x16\7")
    (folder / "images/notes.txt").write_text("x")
    (folder / "images/__MACOSX").mkdir()
    (folder / "images/__MACOSX/a_1.png").write_bytes(b"x")
    (folder / "masks/more").symlink_to(tmp_path)
    (folder / "README").write_text("x")

    found = checked(tmp_path)

    assert found == []
    told = "\n".join(found.notes)
    assert "images: 3 files" in told
    assert all(name in told for name in ("._a_1.png", "notes.txt", "__MACOSX/a_1.png", "more", "README"))
    os.symlink(tmp_path / "gone.png", folder / "images/d_1.png")
    os.symlink(tmp_path / "gone.png", folder / "masks/d_1.png")
    assert sum("d_1.png: the link leads nowhere" in line for line in checked(tmp_path)) >= 2
    with pytest.raises(DataError, match="the link leads nowhere"):
        prepared(tmp_path)


def test_hidden_files_of_cityscapes(tmp_path: Path) -> None:
    """`._NAME` of macOS is no picture of a city; what is not used is named, the download's other labels are not."""
    folder = make_cityscapes(tmp_path)
    image, label = city_paths(folder, 0)
    (image.parent / f"._{image.name}").write_bytes(b"\0\5\x16\7")
    (label.parent / label.name.replace("labelIds", "color")).write_bytes(b"x")
    (label.parent / "more.png").write_bytes(b"x")

    found = check({"name": "cityscapes"}, data_root=tmp_path)

    assert found == []
    assert len(found.notes) == 2
    assert f"._{image.name}" in found.notes[0]
    assert "1 file not used" in found.notes[1].replace("file or linked folder", "file")
    assert found.classes[0].values == "7"


def _turned(path: Path, orientation: int) -> None:
    """Store a picture as a camera does that was held in another way: its viewer shows what it showed before."""
    shown = np.asarray(Image.open(path))
    stored = {3: shown[::-1, ::-1], 6: np.rot90(shown, 1), 8: np.rot90(shown, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientations(orientation: int, tmp_path: Path) -> None:
    """A mask drawn on what a viewer shows fits; the option reads pictures as stored; each such file is named."""
    folder = make_folder(tmp_path)
    before = prepared(tmp_path)
    _turned(folder / "images/a_1.png", orientation)

    assert np.array_equal(prepared(tmp_path).train.images, before.train.images)
    found = checked(tmp_path)
    assert found == []
    assert sum("a_1.png: EXIF orientation" in line and "dataset.exif: ignore" in line for line in found.notes) == 1
    ignored = checked(tmp_path, exif="ignore")
    if orientation == 3:
        assert not np.array_equal(prepared(tmp_path, exif="ignore").train.images, before.train.images)
    else:
        assert "dataset.exif" in ignored[0]


@pytest.mark.parametrize(
    ("exif", "shape", "words"),
    [("apply", (16, 24), "was applied"), ("ignore", (24, 16), "was ignored, as in training")],
)
def test_further_pictures_are_read_as_in_training(
    exif: str, shape: tuple[int, int], words: str, tmp_path: Path
) -> None:
    """The network is given what it was trained on, and the user is told how the mask lies."""
    folder = make_folder(tmp_path)
    reading = prepared(tmp_path, exif=exif).reading
    _turned(folder / "images/a_1.png", 6)
    case = NewCase("a_1", (folder / "images/a_1.png",), ".png")

    assert read_case(case, reading).shape == (1, 1, *shape)
    assert words in str(orientation_note(case, reading))
    assert orientation_note(NewCase("a_2", (folder / "images/a_2.png",), ".png"), reading) is None


def test_what_the_network_is_fed_is_said(tmp_path: Path) -> None:
    """Twelve bits in sixteen are nearly black, blank pictures, alpha and mixed types: a note each."""
    folder = make_folder(tmp_path)
    for path in (folder / "images").iterdir():
        grey = np.asarray(Image.open(path)).astype(np.uint16) * 16
        Image.fromarray(grey).save(path)
    assert any("use 0 to 4064 of 0 to 65535" in n and "dataset.high: 4064" in n for n in checked(tmp_path).notes)
    assert prepared(tmp_path, high=4064).train.images.max() == 1
    assert prepared(tmp_path, high=4064).reading["high"] == 4064
    assert not any(" use " in note for note in checked(tmp_path, high=4064.0).notes)

    Image.fromarray(np.full((16, 24), 9, np.uint8)).save(folder / "images/a_1.png")
    Image.fromarray(np.full((16, 24, 2), 200, np.uint8)).save(folder / "images/a_2.png")
    told = "\n".join(checked(tmp_path).notes)
    assert "every pixel has one value; 2 of 5" in told
    assert "its alpha is left out, as in 1 of 5" in told
    assert "several types: uint16 (3), uint8 (2)" in told
    for path in (folder / "images").iterdir():
        Image.fromarray(np.full((16, 24), 9, np.uint8)).save(path)
    assert "every pixel is 9, and so it is in all images" in checked(tmp_path)[0]


def test_a_limit_of_the_data_set(tmp_path: Path) -> None:
    """A large picture is refused with the option that allows it."""
    folder = make_folder(tmp_path)
    Image.new("L", (1100, 1000)).save(folder / "images/a_1.png")
    Image.new("L", (1100, 1000)).save(folder / "masks/a_1.png")

    assert len([line for line in checked(tmp_path, max_megapixels=1.0) if "max_megapixels" in line]) == 2
    assert checked(tmp_path, max_megapixels=1.2) == []


def test_described_classes_are_those_of_the_files(tmp_path: Path) -> None:
    """`describe` lists values, shares and smallest objects at the size of the files."""
    make_folder(tmp_path)

    section = {"name": "folder", "path": "own", "size": 16, "labels": {"cell": 7}}
    rows = describe(section, data_root=tmp_path, cache=tmp_path / "cache", seed=0)["found_classes"]

    assert [(row["name"], row["values"], row["smallest"], row["cases"]) for row in rows] == [
        ("background", "0", 192, 5),
        ("cell", "7", 192, 5),
    ]
    assert rows[1]["share"] == 0.5
    assert not any(isinstance(line, DataWarning) for line in checked(tmp_path))
