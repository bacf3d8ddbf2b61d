"""From each layout to a trained network and its masks: real samples, the commands that a user types."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.cli.shell import Shell
from tuner.config.yaml_reader import dump_yaml
from tuner.data.images import read_codes

pytestmark = pytest.mark.slow

LABELS = {"background": 0, "spleen": 1, "liver": 6}


def _volumes(root: Path, test_data: Path, *, is_msd: bool) -> Path:
    """The real scans as a raw data set of nnU-Net or a task of the Decathlon, with two of their organs."""
    folder = root / "organs"
    pairs = []
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for number in (100, 101, 102, 103):
        end = "" if is_msd else "_0000"
        shutil.copy(test_data / f"synapse_raw/img/img0{number}.nii.gz", folder / f"imagesTr/scan{number}{end}.nii.gz")
        label = nibabel.load(test_data / f"synapse_raw/label/label0{number}.nii.gz")
        organs = np.asarray(label.dataobj)
        kept = np.where(np.isin(organs, [1, 6]), organs, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(kept, label.affine, label.header), folder / f"labelsTr/scan{number}.nii.gz")
        pairs.append({"image": f"./imagesTr/scan{number}.nii.gz", "label": f"./labelsTr/scan{number}.nii.gz"})
    described: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz"}
    if is_msd:
        names = {str(value): name for name, value in LABELS.items()}
        described = {"modality": {"0": "CT"}, "labels": names, "training": pairs}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def learn(tuner: Shell, here: Path) -> Callable[..., dict[str, Any]]:
    """Train a configuration by its command, predict images by theirs, and return the summary of `predict`."""

    def run(dataset: dict[str, Any], root: Path, images: list[Path], **train: Any) -> dict[str, Any]:
        config = {
            "dataset": dataset,
            "model": {"name": "unet", "width": 4, "depth": 2},
            "loss": "dice_cross_entropy",
            "train": {"epochs": 1, "batch_size": 8, "lr": 5e-3, "threads": 1, "seed": 1} | train,
        }
        (here / "c.yaml").write_text(dump_yaml(config))
        trained = tuner("train", "c.yaml", "-o", "run", "--data-root", str(root), "--device", "cpu")
        assert trained.code == 0, trained.err
        answer = tuner("predict", "run", *map(str, images), "-o", "masks", "--device", "cpu", "--json")
        assert answer.code == 0, answer.err
        document: dict[str, Any] = answer.json()
        return document

    return run


@pytest.mark.parametrize("name", ["nnunet", "msd"])
@pytest.mark.parametrize(
    ("options", "train"),
    [
        pytest.param({"dimensions": 2, "size": 32}, {}, id="slices"),
        pytest.param({"dimensions": 3, "size": 32, "depth": 8}, {}, id="slabs"),
        pytest.param({"dimensions": 3, "resize": False}, {"patch": [8, 64, 64], "patches": 2}, id="patches"),
    ],
)
def test_volumes(
    name: str,
    options: dict[str, Any],
    train: dict[str, Any],
    learn: Callable[..., dict[str, Any]],
    test_data: Path,
    tmp_path: Path,
) -> None:
    """Real scans of two grids: masks in the ids of dataset.json, on the grid of the scan."""
    folder = _volumes(tmp_path, test_data, is_msd=name == "msd")
    image = next((folder / "imagesTr").glob("scan103*"))
    window = {"low": -125.0, "high": 275.0, "validation": ["scan103"]}

    document = learn({"name": name, "path": "organs", **window, **options}, tmp_path, [image], **train)

    mask = nibabel.load(document["written"][0]["mask"])
    truth = nibabel.load(folder / "labelsTr/scan103.nii.gz")
    assert mask.shape == truth.shape
    assert np.array_equal(mask.affine, truth.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 6}


def test_synapse(learn: Callable[..., dict[str, Any]], test_data: Path) -> None:
    """TransUNet's layout: the prepared volume and the raw scan of one patient get the same mask."""
    volume = test_data / "synapse/test_vol_h5/case0103.npy.h5"
    raw = test_data / "synapse_raw/img/img0103.nii.gz"

    document = learn({"name": "synapse", "size": 32}, test_data, [volume, raw])

    assert document["written"][0]["pixels"] == document["written"][1]["pixels"]
    assert nibabel.load("masks/img0103.nii.gz").shape == nibabel.load(raw).shape


@pytest.mark.parametrize(
    ("path", "options", "train"),
    [
        pytest.param("nuclei", {"size": 32}, {}, id="nuclei"),
        pytest.param("membranes", {"resize": False}, {"patch": 64, "patches": 2}, id="membranes-in-crops"),
    ],
)
def test_folder(
    path: str, options: dict[str, Any], train: dict[str, Any], learn: Callable[..., dict[str, Any]], test_data: Path
) -> None:
    """A user's own pictures: masks of 0 and 255, as theirs."""
    folder = test_data / path
    names = (folder / "val.txt").read_text().split()[:4]
    images = [next((folder / "images").glob(f"{name}.*")) for name in names]

    learn({"name": "folder", "path": path, **options}, test_data, images, **train)

    masks = [read_codes(Path(f"masks/{name}.png")) for name in names]
    truth = [read_codes(folder / "masks" / f"{name}.png") for name in names]
    assert set(np.unique(masks)) <= {0, 255}
    assert [mask.shape for mask in masks] == [mask.shape for mask in truth]


def test_cityscapes(learn: Callable[..., dict[str, Any]], test_data: Path) -> None:
    """Pictures of a city, masks in the label ids of the official ones."""
    images = sorted(test_data.glob("cityscapes/leftImg8bit/val/*/*.png"))[:3]

    document = learn({"name": "cityscapes", "size": 24, "width": 32}, test_data, images)

    masks = [read_codes(Path("masks") / path.name) for path in images]
    assert {mask.shape for mask in masks} == {(192, 256)}
    assert set(np.unique(masks)) <= set(document["labels"].values())
