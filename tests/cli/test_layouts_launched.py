"""From the download of each layout to a search, an export, a training of it and masks, by the commands alone."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.cli.shell import Shell
from tests.cli.test_layouts import _volumes
from tuner.data.images import read_codes

pytestmark = pytest.mark.slow

SMALL = ("--set", "model.width=4", "--set", "model.depth=2", "--set", "train.batch_size=8", "--trials", "2")
ONE_EPOCH = ("--epochs", "1", "--devices", "cpu", "--workers", "1", "--seed", "1")


def _search(tuner: Shell, name: str, root: Path, *settings: str) -> None:
    """Check, launch, export and train; leaves `run`."""
    options = [word for setting in settings for word in ("--set", f"dataset.{setting}")]
    bare = [word for setting in settings if "=" in setting for word in ("--set", setting)]
    checked = tuner("data", "check", name, "--data-root", str(root), *bare)
    assert checked.code == 0, checked.out
    launched = tuner("launch", "--dataset", name, "--data-root", str(root), *options, *SMALL, *ONE_EPOCH)
    assert launched.code == 0, launched.err
    assert tuner("status", name, "--json").json()["trials"]["complete"] == 2
    assert tuner("export", name, "-o", "best.yaml").code == 0
    trained = tuner("train", "best.yaml", "-o", "run", "--data-root", str(root), "--device", "cpu")
    assert trained.code == 0, trained.err
    best = tuner("best", name, "--json").json()["value"]
    assert json.loads(Path("run/metrics.json").read_text())["value"] == pytest.approx(best, abs=1e-9)


def _predict(tuner: Shell, *images: Path) -> list[Path]:
    answer = tuner("predict", "run", *map(str, images), "-o", "masks", "--device", "cpu", "--json")
    assert answer.code == 0, answer.err
    return [Path(entry["mask"]) for entry in answer.json()["written"]]


def test_synapse_from_the_download(tuner: Shell, here: Path, test_data: Path) -> None:
    """The challenge's files, converted, searched; a raw scan gets its mask on its own grid."""
    raw = test_data / "synapse_raw"
    assert tuner("data", "check", "synapse", "--raw", str(raw)).code == 0
    converted = tuner("data", "prepare", "synapse", "--raw", str(raw), "--data-root", "data", "--test", "case0103")
    assert converted.code == 0, converted.err

    _search(tuner, "synapse", Path("data"), "size=32")

    scan = raw / "img/img0103.nii.gz"
    (mask,) = _predict(tuner, scan)
    assert nibabel.load(mask).shape == nibabel.load(scan).shape
    assert np.array_equal(nibabel.load(mask).affine, nibabel.load(scan).affine)


def test_cityscapes(tuner: Shell, here: Path, test_data: Path) -> None:
    """Pictures of a city get masks in the official label ids, at their size."""
    _search(tuner, "cityscapes", test_data, "size=24", "width=32")

    image = min(test_data.glob("cityscapes/leftImg8bit/val/*/*.png"))
    (mask,) = _predict(tuner, image)
    assert read_codes(mask).shape == (192, 256)
    assert set(np.unique(read_codes(mask))) <= set(range(34))


def test_folder(tuner: Shell, here: Path, test_data: Path) -> None:
    """A user's own pictures get masks in the values of theirs."""
    _search(tuner, "folder", test_data, "path=nuclei", "size=32")

    name = (test_data / "nuclei/val.txt").read_text().split()[0]
    (mask,) = _predict(tuner, test_data / "nuclei/images" / f"{name}.png")
    assert read_codes(mask).shape == (256, 256)
    assert set(np.unique(read_codes(mask))) <= {0, 255}


@pytest.mark.parametrize("name", ["nnunet", "msd"])
def test_volumes(name: str, tuner: Shell, here: Path, test_data: Path, tmp_path: Path) -> None:
    """Real scans described by dataset.json get masks in its label ids."""
    folder = _volumes(tmp_path, test_data, is_msd=name == "msd")

    _search(tuner, name, tmp_path, "path=organs", "size=32", "low=-125", "high=275")

    image = min((folder / "imagesTr").glob("scan103*"))
    (mask,) = _predict(tuner, image)
    assert nibabel.load(mask).shape == nibabel.load(image).shape
    assert set(np.unique(np.asarray(nibabel.load(mask).dataobj))) <= {0, 1, 6}
