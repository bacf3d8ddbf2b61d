"""`export --format monai`: a bundle that MONAI runs, and that scores what the trial scored."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.worker.studies import create, settings, tiny, work
from tuner.cli.main import run
from tuner.data.preparation import open_source
from tuner.settings import Settings
from tuner.storage.storage import Storage

RUN = """
import sys, warnings
warnings.filterwarnings("ignore")
sys.path.insert(0, ".")
from monai.bundle import run
import scripts.exported
difference = scripts.exported.self_test()
assert difference <= 1e-6, difference
run(config_file="configs/evaluate.json", tolerance=1e-6)
run(config_file="configs/train.json", epochs=1)
run(config_file="configs/inference.json", input_dir="../images", output_dir="../masks")
"""


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Settings, list[str]]:
    """A study of one trial, with its weights."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    places = settings(tmp_path, url)
    with Storage.open(url, create=True) as store:
        # hardly trained: Dice is 0 then, and 0 of a wrong metric, too; a distance in mm is not
        more = ("train.epochs=1", "search.train.lr=1.0e-6", "objectives=[{metric: hd95}]")
        create(store, tiny("search.loss=[dice_focal]", "budget.trials=1", *more))
        work(store, places)
    return places, ["--storage", url, "--artifacts", str(places.artifacts), "--cache", str(places.cache)]


def test_monai_runs_the_bundle(tmp_path: Path, trained: tuple[Settings, list[str]]) -> None:
    """The metric of the trial again, a training, and a mask in the image's own geometry, equal to `tuner predict`'s."""
    places, words = trained
    folder = tmp_path / "bundle"
    assert run(["export", "tiny", "-o", str(folder), "--format", "monai", *words]) == 0
    # another export is not written over it
    assert run(["export", "tiny", "-o", str(folder), "--format", "monai", *words]) == 2
    (tmp_path / "images").mkdir()
    _, _, source = open_source({"name": "phantom", "size": 48, "slices": 5}, None)
    image = source.original("phantomtest000").image
    reading = json.loads((places.artifacts / "tiny" / "0" / "data.json").read_text())["reading"]
    low, high = reading["low"], reading["high"]
    # in a file, x comes first, and runs to the patient's left
    volume = np.ascontiguousarray((image * (high - low) + low).transpose(2, 1, 0))
    nib.save(nib.Nifti1Image(volume, np.diag([-2.0, -2.0, 5.0, 1.0])), tmp_path / "images" / "one.nii.gz")

    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    value = json.loads((folder / "configs" / "metadata.json").read_text())["eval_metrics"]["hd95"]
    assert 1 < value < 545  # mm; of a prediction without any class it is the diagonal, 546
    assert f"hd95 {value:.6f}, the trial's was {value}" in done.stdout
    assert (folder / "models" / "trained.pt").exists()
    mask = nib.load(tmp_path / "masks" / "one.nii.gz")
    assert mask.shape == (48, 48, 5)
    np.testing.assert_allclose(mask.affine, np.diag([-2.0, -2.0, 5.0, 1.0]))
    ours = tmp_path / "ours"
    run(["predict", str(places.artifacts / "tiny" / "0"), str(tmp_path / "images"), "-o", str(ours), "--device", "cpu"])
    theirs = np.asarray(nib.load(next(ours.rglob("*.nii.gz"))).dataobj)
    assert (np.asarray(mask.dataobj) == theirs).mean() > 0.95  # planes are resized by torch here, by Pillow there
