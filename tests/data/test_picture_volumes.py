"""Pictures in the layouts of volumes: orientation tags, alpha, and classes that are counted, against other readers."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.volumes import make_nnunet
from tuner.data.cache import FileHashCache
from tuner.data.checks import Findings, check
from tuner.data.inference_inputs import NewCase, orientation_note, read_case
from tuner.data.preparation import open_source

SECTION = {"name": "nnunet", "path": "Dataset002_Pictures", "size": 32}


def mask(number: int) -> np.ndarray:
    labels = np.zeros((24, 32), np.uint8)
    labels[5:15, 5 + number : 20] = 1
    return labels


def write(root: Path, labels: list[Image.Image], *, exif: int = 1, alpha: bool = False) -> Path:
    """Pictures in colour with a channel each, upright 24 x 32, stored with an EXIF orientation."""
    folder, rng = root / SECTION["path"], np.random.default_rng(0)
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    tag = Image.Exif()
    tag[0x0112] = exif
    for number, label in enumerate(labels):
        sides = (32, 24) if exif >= 5 else (24, 32)
        values = rng.integers(0, 255, (*sides, 4 if alpha else 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / "imagesTr" / f"c{number}_0000.png", exif=tag)
        label.save(folder / "labelsTr" / f"c{number}.png")
    channels = {str(k): "rgb_to_0_1" for k in range(3)}
    described = {"channel_names": channels, "labels": {"background": 0, "nodule": 1}, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def checked(root: Path) -> Findings:
    return check(SECTION, data_root=root)


@pytest.mark.parametrize("exif", [3, 6])
def test_pictures_are_read_as_a_viewer_shows_them(tmp_path: Path, exif: int) -> None:
    """Labels are drawn on what a viewer shows; left and right were exchanged without a word."""
    folder = write(tmp_path, [Image.fromarray(mask(k)) for k in range(3)], exif=exif)
    path = folder / "imagesTr" / "c1_0000.png"
    seen = np.moveaxis(np.asarray(ImageOps.exif_transpose(Image.open(path)), np.float32) / 255, -1, 0)

    found = checked(tmp_path)
    _, _, source = open_source(SECTION | {"resize": False, "dimensions": 2}, tmp_path)
    ((image, label),) = source.samples("c1")

    assert found == []
    assert f"EXIF orientation {exif}" in found.notes[0]
    assert np.array_equal(image, seen)
    assert np.array_equal(label, mask(1))
    reading = source.reading(FileHashCache(None))
    case = NewCase("c1", (path,), ".png")
    assert read_case(case, reading).shape == (3, 1, 24, 32)
    assert "was applied: the mask is upright" in str(orientation_note(case, reading))


def test_alpha_is_left_out_of_images_and_told(tmp_path: Path) -> None:
    """Four bands are not three channels."""
    write(tmp_path, [Image.fromarray(mask(k)) for k in range(3)], alpha=True)

    found = checked(tmp_path)

    assert found == []
    assert "alpha is left out" in found.notes[0]


def test_label_maps_that_are_drawn_in_alpha_are_refused(tmp_path: Path) -> None:
    """All their values are one."""
    drawn = [np.dstack([np.ones((24, 32, 3), np.uint8), 255 * mask(k)]) for k in range(3)]
    write(tmp_path, [Image.fromarray(values) for values in drawn])

    assert "c0.png: one value everywhere, and a mask in its alpha" in checked(tmp_path)[0]


def test_classes_of_volumes_are_counted(tmp_path: Path) -> None:
    """Number, value, share, objects and cases, as pictures have them; compared with nibabel's own reading."""
    folder = make_nnunet(tmp_path)
    labels = [np.asarray(nibabel.load(path).dataobj) for path in sorted((folder / "labelsTr").iterdir())]

    found = check({"name": "nnunet", "path": folder.name, "size": 16}, data_root=tmp_path).classes

    assert [(row.number, row.name, row.values) for row in found] == [
        (0, "background", "0"),
        (1, "low", "3"),
        (2, "high", "7"),
    ]
    whole = sum(volume.size for volume in labels)
    for row in found:
        held = [int((volume == int(row.values)).sum()) for volume in labels]
        assert row.share == pytest.approx(sum(held) / whole)
        assert row.cases == sum(count > 0 for count in held)
    assert found[2].smallest == 27
