"""nnU-Net's and the Decathlon's layouts, made from real scans: slices, slabs, channels, labels, every defect."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from tuner.data.checks import check
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.errors import DataError

LABELS = {"background": 0, "spleen": 1, "liver": 6}
WINDOW = {"low": -125.0, "high": 275.0}


def _scan(test_data: Path, number: int) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Image]:
    """A real scan and its label map, cut to eight slices; organs that are not asked for become background."""
    raw = test_data / "synapse_raw"
    image = nibabel.load(raw / "img" / f"img{number:04d}.nii.gz").slicer[64:192, 64:192, 12:20]
    label = nibabel.load(raw / "label" / f"label{number:04d}.nii.gz").slicer[64:192, 64:192, 12:20]
    organs = np.asarray(label.dataobj)
    kept = np.where(np.isin(organs, [1, 6]), organs, 0).astype(np.uint8)
    return image, nibabel.Nifti1Image(kept, label.affine, label.header)


def make_nnunet(root: Path, test_data: Path, **description: Any) -> Path:
    """Two training scans and a test scan."""
    folder = root / "Dataset001_Organs"
    for half, numbers in (("Tr", (101, 102)), ("Ts", (103,))):
        for kind in ("images", "labels"):
            (folder / f"{kind}{half}").mkdir(parents=True)
        for number in numbers:
            image, label = _scan(test_data, number)
            nibabel.save(image, folder / f"images{half}" / f"organs_{number}_0000.nii.gz")
            nibabel.save(label, folder / f"labels{half}" / f"organs_{number}.nii.gz")
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 2, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described | description))
    return folder


def make_msd(root: Path, test_data: Path, *, channels: int = 1) -> Path:
    """Two pairs listed in the Decathlon's way."""
    folder = root / "Task99_Organs"
    pairs = []
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for number in (101, 102):
        image, label = _scan(test_data, number)
        if channels > 1:
            values = np.asarray(image.dataobj)
            stacked = np.stack([values * (k + 1) for k in range(channels)], -1).astype(np.float32)
            image = nibabel.Nifti1Image(stacked, image.affine)
        nibabel.save(image, folder / "imagesTr" / f"organs_{number}.nii.gz")
        nibabel.save(label, folder / "labelsTr" / f"organs_{number}.nii.gz")
        pairs.append({"image": f"./imagesTr/organs_{number}.nii.gz", "label": f"./labelsTr/organs_{number}.nii.gz"})
    described = {
        "modality": {str(k): "CT" if channels == 1 else "MRI" for k in range(channels)},
        "labels": {str(value): name for name, value in LABELS.items()},
        "training": pairs,
        "test": ["./imagesTs/organs_103.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def _prepare(root: Path, name: str = "nnunet", **config: Any) -> PreparedData:
    path = {"nnunet": "Dataset001_Organs", "msd": "Task99_Organs"}[name]
    section = {"name": name, "path": path, "size": 128, "validation": ["organs_102"], **WINDOW} | config
    return prepare(section, data_root=root, cache=root / "cache", seed=0)


def test_slices_are_those_of_the_scan(tmp_path: Path, test_data: Path) -> None:
    """Intensities and labels are the file's, turned to RAS: class 2 is label 6, for labels are numbered in order."""
    make_nnunet(tmp_path, test_data)

    data = _prepare(tmp_path)

    image, label = _scan(test_data, 101)
    hu = np.asarray(nibabel.as_closest_canonical(image).dataobj).transpose(2, 1, 0).astype(np.float32)
    organs = np.asarray(nibabel.as_closest_canonical(label).dataobj).transpose(2, 1, 0)
    assert (data.class_names, data.stacked, data.spatial_dims) == (("background", "spleen", "liver"), True, 2)
    assert np.allclose(data.train.images[:, 0], np.clip((hu + 125) / 400, 0, 1), atol=1e-6)
    assert np.array_equal(data.train.labels == 2, organs == 6)
    assert np.array_equal(data.train.labels == 1, organs == 1)


def test_same_scans_in_both_layouts(tmp_path: Path, test_data: Path) -> None:
    """The Decathlon's form of the same scans gives the same samples."""
    make_nnunet(tmp_path, test_data)
    make_msd(tmp_path, test_data)

    ours, theirs = _prepare(tmp_path), _prepare(tmp_path, "msd")

    assert ours.class_names == theirs.class_names
    assert np.array_equal(ours.train.images, theirs.train.images)
    assert np.array_equal(ours.validation.labels, theirs.validation.labels)


def test_slabs_hold_every_slice_once(tmp_path: Path, test_data: Path) -> None:
    """In 3-D nothing of a scan is lost, and slices that fill the last slab count for nothing."""
    make_nnunet(tmp_path, test_data)

    flat, deep = _prepare(tmp_path), _prepare(tmp_path, dimensions=3, depth=3)

    assert deep.train.images.shape == (3, 1, 3, 128, 128)
    assert (deep.spatial_dims, deep.stacked) == (3, False)
    assert np.array_equal(deep.train.images.reshape(9, 128, 128)[:8], flat.train.images[:, 0])
    assert np.array_equal(deep.train.labels.reshape(9, 128, 128)[:8], flat.train.labels)
    assert (deep.train.labels[2, 2] == 255).all()
    assert deep.class_frequencies == pytest.approx(flat.class_frequencies)


def test_test_cases_carry_their_spacing(tmp_path: Path, test_data: Path) -> None:
    """Surface distances of test volumes are in mm: slices 9 mm apart, pixels of 1.5 mm."""
    make_nnunet(tmp_path, test_data)
    section = {"name": "nnunet", "path": "Dataset001_Organs", **WINDOW}

    (case,) = read_test_cases(section, data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    assert (case.name, case.spacing) == ("organs_103", (9.0, 1.5, 1.5))
    assert case.image.shape == case.label.shape == (8, 128, 128)


def test_channels_of_the_fourth_axis(tmp_path: Path, test_data: Path) -> None:
    """MRI channels are standardised one by one, volume by volume."""
    make_msd(tmp_path, test_data, channels=3)

    data = _prepare(tmp_path, "msd")

    assert data.train.images.shape == (8, 3, 128, 128)
    assert np.allclose(data.train.images.mean((0, 2, 3)), 0, atol=1e-4)
    assert np.allclose(data.train.images.std((0, 2, 3)), 1, atol=1e-3)
    assert np.allclose(data.train.images[:, 0], data.train.images[:, 2], atol=1e-3)


def test_ignore_label(tmp_path: Path, test_data: Path) -> None:
    """nnU-Net's ignore label is no class and counts in no frequency."""
    make_nnunet(tmp_path, test_data, labels={"background": 0, "spleen": 1, "ignore": 6})

    data = _prepare(tmp_path)

    assert data.class_names == ("background", "spleen")
    assert (data.train.labels == 255).any()
    assert sum(data.class_frequencies) == pytest.approx(1)


def test_pictures_in_nnunets_layout(tmp_path: Path, test_data: Path) -> None:
    """2-D data sets come as PNG, three channels in one file; both of the real pictures pass pixel for pixel."""
    folder = tmp_path / "Dataset001_Organs"
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    names = (test_data / "nuclei" / "train.txt").read_text().split()[:4]
    for name in names:
        Image.open(test_data / "nuclei" / "images" / f"{name}.png").save(folder / "imagesTr" / f"{name}_0000.png")
        mask = np.asarray(Image.open(test_data / "nuclei" / "masks" / f"{name}.png")) // 255
        Image.fromarray(mask).save(folder / "labelsTr" / f"{name}.png")
    channels = {str(k): "rgb_to_0_1" for k in range(3)}
    described = {"channel_names": channels, "labels": {"background": 0, "nucleus": 1}, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(described))

    data = _prepare(tmp_path, size=256, validation=[names[0]])

    assert data.train.images.shape == (3, 3, 256, 256)
    picture = np.asarray(Image.open(test_data / "nuclei" / "images" / f"{data.train.cases[0]}.png"))
    assert np.array_equal(np.rint(data.train.images[0] * 255), picture.transpose(2, 0, 1))
    assert check({"name": "nnunet", "path": "Dataset001_Organs"}, data_root=tmp_path) == []


@pytest.mark.parametrize("dimensions", [2, 3])
def test_trained_and_tested(tmp_path: Path, test_data: Path, dimensions: int) -> None:
    """From the layout to scores of the test volume at its own size, slices and slabs alike."""
    from tests.training.samples import make_config
    from tuner.config.trial import load_config
    from tuner.training.final import train_final

    make_nnunet(tmp_path, test_data)
    section = {"name": "nnunet", "path": "Dataset001_Organs", "size": 32, "dimensions": dimensions, "depth": 8}
    section |= {"validation": ["organs_102"], **WINDOW}
    config = load_config(make_config(epochs=1, batch_size=4).model_dump(mode="json") | {"dataset": section})
    data = prepare(section, data_root=tmp_path, cache=tmp_path / "cache", seed=0)
    tests = list(read_test_cases(section, data_root=tmp_path, cache=tmp_path / "cache", seed=0))

    document = train_final(config, data=data, tests=tests, device="cpu", folder=tmp_path / "run")

    assert document is not None
    assert [case["case"] for case in document["test"]["cases"]] == ["organs_103"]
    assert set(document["test"]["per_class"]["dice"]) == {"spleen", "liver"}


def test_every_defect_is_named(tmp_path: Path, test_data: Path) -> None:
    """Missing, truncated, misplaced, foreign, NaN and shared: all at once, a line each."""
    folder = make_nnunet(tmp_path, test_data, labels=LABELS | {"never": 9})
    images, labels = folder / "imagesTr", folder / "labelsTr"
    first_image, first_label = images / "organs_101_0000.nii.gz", labels / "organs_101.nii.gz"
    for name in ("short", "long", "moved", "nan", "twin", "lost", "alone", "strange"):
        shutil.copy(first_image, images / f"{name}_0000.nii.gz")
        shutil.copy(first_label, labels / f"{name}.nii.gz")
    (images / "short_0000.nii.gz").write_bytes(first_image.read_bytes()[:4000])
    scan, truth = nibabel.load(first_image), nibabel.load(first_label)
    organs, values = np.asarray(truth.dataobj), np.asarray(scan.dataobj)
    rng = np.random.default_rng(0)
    for name in ("long", "moved", "nan", "strange"):
        noisy = values.astype(np.float32) + rng.normal(size=values.shape).astype(np.float32)
        if name == "nan":
            noisy[0, 0, 0] = np.nan
        nibabel.save(nibabel.Nifti1Image(noisy, scan.affine), images / f"{name}_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(organs[:, :, :5], truth.affine), labels / "long.nii.gz")
    nibabel.save(nibabel.Nifti1Image(organs, np.diag([9.0, 9, 9, 1])), labels / "moved.nii.gz")
    nibabel.save(nibabel.Nifti1Image(organs + np.uint8(40), truth.affine), labels / "strange.nii.gz")
    (labels / "lost.nii.gz").unlink()
    (images / "alone_0000.nii.gz").unlink()

    defects = check({"name": "nnunet", "path": folder.name}, data_root=tmp_path)

    for text in (
        "short_0000.nii.gz: cannot be read as NIfTI (4000 bytes",
        "long.nii.gz: shape [5, 128, 128], and long_0000.nii.gz [8, 128, 128]",
        "moved.nii.gz: its spacing is not that of",
        "nan_0000.nii.gz: 1 voxels are not finite",
        "twin_0000.nii.gz: the same image as",
        "lost.nii.gz: the file is not there",
        "alone.nii.gz: there is no alone_0000.nii.gz",
        "strange.nii.gz: holds 40, 41, 46, which no class has",
        "class 'never' occurs in no training case",
        "class 'never' occurs in no test case",
    ):
        assert sum(text in line for line in defects) == 1, (text, defects)
    assert len(defects) == 10


@pytest.mark.parametrize(
    ("description", "message"),
    [
        pytest.param({"file_ending": ".b2nd"}, r"file_ending is '\.b2nd'; \.nii\.gz", id="ending"),
        pytest.param({"channel_names": None}, r"channel_names is missing", id="channels"),
        pytest.param(
            {"labels": {"0": "background", "1": "organ"}},
            r'nnU-Net v1.*labels as in {"background": 0, "organ": 1}.*nnUNetv2_convert_old_nnUNet_dataset',
            id="first version",
        ),
        pytest.param(
            {"file_ending": None, "channel_names": None, "labels": {"background": 0, "organ": 1}},
            r"file_ending is None",
            id="no ending",
        ),
        pytest.param({"labels": {"organ": 1, "other": 2}}, r"background 0 and 1 to 253", id="background"),
        pytest.param({"labels": {"background": 0, "spleen": 1}}, r"holds 6, which no class has", id="label"),
        pytest.param(
            {"dataset": {"a": {"images": ["../../a.nii.gz"], "label": "b"}}}, r"not a path below", id="way out"
        ),
    ],
)
def test_wrong_descriptions(tmp_path: Path, test_data: Path, description: dict[str, Any], message: str) -> None:
    """What cannot be trained on is refused with what would do."""
    make_nnunet(tmp_path, test_data, **description)

    with pytest.raises(DataError, match=message):
        _prepare(tmp_path)


def test_msd_lists_stay_inside(tmp_path: Path, test_data: Path) -> None:
    """A description cannot make the service read a file elsewhere, nor hide that one is missing."""
    folder = make_msd(tmp_path, test_data)
    described = json.loads((folder / "dataset.json").read_text())
    described["training"].append({"image": "./imagesTr/gone.nii.gz", "label": "./labelsTr/gone.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps(described))

    assert len(check({"name": "msd", "path": folder.name}, data_root=tmp_path)) == 2
    described["training"][-1]["image"] = "/etc/hostname"
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"training\[2\].*not a path below"):
        _prepare(tmp_path, "msd")


def _changed(folder: Path, **changes: Any) -> None:
    described = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(described | changes))


@pytest.mark.parametrize(("name", "make"), [("nnunet", make_nnunet), ("msd", make_msd)])
def test_what_lies_there_and_is_not_used_is_said(name: str, make: Any, tmp_path: Path, test_data: Path) -> None:
    """Hidden files of macOS are no cases; they and strays are counted; broken links are named."""
    folder = make(tmp_path, test_data)
    section = {"name": name, "path": folder.name}
    ending = "_0000.nii.gz" if name == "nnunet" else ".nii.gz"
    plain = check(section, data_root=tmp_path)
    assert (plain, plain.notes) == ([], [])
    for place, tail in (("imagesTr", ending), ("labelsTr", ".nii.gz")):
        for number in (101, 102):
            (folder / place / f"._organs_{number}{tail}").write_bytes(b"\0\5\x16\7")
    (folder / "imagesTr" / ".DS_Store").write_bytes(b"x")
    (folder / "labelsTr" / "notes.txt").write_text("x")

    checked = check(section, data_root=tmp_path)

    assert checked == []
    found = checked.notes
    assert len(found) == 2
    assert "imagesTr: 3 of 5 files are not used: .DS_Store, ._organs_101" in found[0]
    assert "3 hidden" in found[0]
    assert "labelsTr: 3 of 5 files are not used" in found[1]
    assert "notes.txt; 2 hidden" in found[1]
    assert len(_prepare(tmp_path, name).train.cases) == 1

    (folder / "labelsTr" / "organs_101.nii.gz").unlink()
    (folder / "labelsTr" / "organs_101.nii.gz").symlink_to("gone.nii.gz")
    defect = check(section, data_root=tmp_path)[0]
    assert defect.endswith("labelsTr/organs_101.nii.gz: a link to gone.nii.gz, which is not there")


def test_test_images_without_labels_are_said(tmp_path: Path, test_data: Path) -> None:
    """nnU-Net's imagesTs without labelsTs."""
    folder = make_nnunet(tmp_path, test_data)
    shutil.rmtree(folder / "labelsTs")

    (note,) = check({"name": "nnunet", "path": folder.name}, data_root=tmp_path).notes

    assert "imagesTs: 1 of 1 files are not used: organs_103_0000.nii.gz; there are no labels for them" in note


@pytest.mark.parametrize(
    ("lists", "training", "test"),
    [
        pytest.param({"validation": [1]}, 1, 1, id="validation"),
        pytest.param({"test": [1]}, 1, 1, id="test"),
        pytest.param({"validation": [1], "test": [2]}, 2, 1, id="both"),
        pytest.param({"test": ["./imagesTs/a.nii.gz"]}, 1, 0, id="unlabelled"),
    ],
)
def test_further_lists_of_the_decathlon(
    lists: dict[str, Any], training: int, test: int, tmp_path: Path, test_data: Path
) -> None:
    """Pairs in `validation`, or in `test`, are held out as test cases; that is said."""
    folder = make_msd(tmp_path, test_data)
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    for kind in ("image", "label"):
        stored = nibabel.load(folder / pairs[0][kind])
        values = np.asarray(stored.dataobj)[::-1]
        nibabel.save(nibabel.Nifti1Image(values, stored.affine), folder / f"{kind}sTr" / "more.nii.gz")
    pairs.append({kind: f"./{kind}sTr/more.nii.gz" for kind in ("image", "label")})
    named = {name: [pairs[one] if isinstance(one, int) else one for one in listed] for name, listed in lists.items()}
    _changed(folder, training=pairs[:1], **{"test": []} | named)

    source = open_source({"name": "msd", "path": folder.name}, tmp_path)[2]

    assert (len(source.training), len(source.test)) == (training, test)
    said = "\n".join(check({"name": "msd", "path": folder.name}, data_root=tmp_path).notes)
    assert ("are the test cases, which no trial sees" in said) == (test > 0)
    assert ("1 pairs of validation are training cases" in said) == (training > 1)


def test_a_case_in_two_lists_of_the_decathlon(tmp_path: Path, test_data: Path) -> None:
    """A held-out case must not train."""
    folder = make_msd(tmp_path, test_data)
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    _changed(folder, validation=pairs[1:])

    found = check({"name": "msd", "path": folder.name}, data_root=tmp_path)

    assert any("organs_102 is listed in training and in validation" in line for line in found)


def test_descriptions_of_the_other_layout(tmp_path: Path, test_data: Path) -> None:
    """nnU-Net v1's lists, and labels of v2 in a task of the Decathlon: each with the way out."""
    folder = make_msd(tmp_path, test_data)

    with pytest.raises(DataError, match=r"nnU-Net v1 or of the Decathlon.*\"liver\": 6.*name: msd"):
        prepare({"name": "nnunet", "path": folder.name}, data_root=tmp_path, cache=tmp_path / "cache", seed=0)
    _changed(folder, labels=LABELS)
    with pytest.raises(DataError, match=r"as nnU-Net v2 has them.*name: nnunet"):
        _prepare(tmp_path, "msd")


def test_listed_cases_may_have_absolute_paths(tmp_path: Path, test_data: Path) -> None:
    """nnU-Net's `dataset`: paths below the folder, however they are written."""
    folder = make_nnunet(tmp_path, test_data)
    plain = _prepare(tmp_path)
    cases = {
        f"organs_{number}": {
            "images": [str(folder / "imagesTr" / f"organs_{number}_0000.nii.gz")],
            "label": f"labelsTr/organs_{number}.nii.gz",
        }
        for number in (101, 102)
    }
    _changed(folder, dataset=cases)

    assert _prepare(tmp_path).fingerprint == plain.fingerprint
    assert check({"name": "nnunet", "path": folder.name}, data_root=tmp_path) == []


def test_grey_masks_stored_in_colour(tmp_path: Path) -> None:
    """Label ids as grey values are read from RGB too; real colours are refused."""
    folder = tmp_path / "Dataset001_Organs"
    rng = np.random.default_rng(0)
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    mask = np.zeros((32, 32, 3), np.uint8)
    mask[4:20, 8:20] = 1
    for number in range(3):
        picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
        picture.save(folder / "imagesTr" / f"organs_{number}_0000.png")
        Image.fromarray(mask).save(folder / "labelsTr" / f"organs_{number}.png")
    channels = {str(k): "rgb_to_0_1" for k in range(3)}
    described = {"channel_names": channels, "labels": {"background": 0, "nodule": 1}, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(described))

    data = _prepare(tmp_path, size=32, validation=["organs_2"])
    assert np.array_equal(data.train.labels[0], mask[..., 0])
    assert check({"name": "nnunet", "path": folder.name}, data_root=tmp_path) == []

    Image.fromarray(mask * np.array([1, 2, 3], np.uint8)).save(folder / "labelsTr" / "organs_1.png")
    (line,) = check({"name": "nnunet", "path": folder.name}, data_root=tmp_path)
    assert "organs_1.png: a label map in colour; label ids as grey values would do" in line
