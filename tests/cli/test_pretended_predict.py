"""`tuner train`, `tuner predict` and ensembles on a pretended GPU: no table stays on the host, masks are the CPU's."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.cli.shell import Shell
from tests.data.volumes import make_nnunet, section
from tests.pretended_cuda import LOG, pretend
from tests.training.runs import make_run, tiny
from tuner.config.yaml_reader import dump_yaml
from tuner.data.preparation import prepare
from tuner.training.ensemble_folder import ENSEMBLE, describe_ensemble, member_folder

SLOW = pytest.mark.slow
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slices": ({"dimensions": 2}, {}),
    "crops": ({"dimensions": 2, "resize": False}, {"patch": 16}),
    "slabs": ({"dimensions": 3, "depth": 3}, {}),
    "windows": ({"dimensions": 3, "resize": False}, {"patch": [4, 16, 16]}),
    "regions": ({"dimensions": 2, "regions": {"any": ["low", "high"], "high": ["high"]}}, {}),
}
"""How the data is cut, and what the training says of it."""


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def compared(tuner: Shell, run: Path, images: Path, here: Path) -> None:
    """Predict with both devices and compare; the pretended one must have been used."""
    assert tuner("predict", str(run), str(images), "-o", "on-cpu", "--device", "cpu").code == 0
    with pretend() as device:
        result = tuner("predict", str(run), str(images), "-o", "on-gpu", "--device", device)
        launches = LOG.launches.total()

    assert (result.code, "on cuda:0" in result.err) == (0, True), result.err
    assert launches > 0
    wanted, found = masks(here / "on-cpu"), masks(here / "on-gpu")
    assert wanted.keys() == found.keys()
    assert all(np.mean(found[name] != wanted[name]) < 1e-3 for name in wanted)
    assert len(np.unique(np.concatenate([mask.ravel() for mask in found.values()]))) > 1


@pytest.mark.parametrize(
    ("data_options", "train_options"),
    [pytest.param(*row, id=name, marks=() if name == "windows" else SLOW) for name, row in KINDS.items()],
)
def test_masks_are_those_of_the_cpu(
    data_options: dict[str, Any], train_options: dict[str, Any], tuner: Shell, here: Path, tmp_path: Path
) -> None:
    """Windows, weights of windows and sums are made on the device; a table that stays on the host raises there."""
    images = make_nnunet(tmp_path, names=("anna_1", "ben_1", "cleo_1")) / "imagesTr"
    config = tiny(section(**data_options), **train_options)
    data = prepare(config.dataset, data_root=tmp_path, cache=tmp_path / "cache", seed=0)

    compared(tuner, make_run(tmp_path / "run", config, data), images, here)


@SLOW
def test_an_ensemble_predicts_there(tuner: Shell, here: Path, tmp_path: Path) -> None:
    """Probabilities of several networks are added up on the device."""
    images = make_nnunet(tmp_path, names=("anna_1", "ben_1", "cleo_1")) / "imagesTr"
    config = tiny(section(dimensions=2))
    data = prepare(config.dataset, data_root=tmp_path, cache=tmp_path / "cache", seed=0)
    for number in (0, 1):
        make_run(tmp_path / "both" / member_folder(number), config, data)
    (tmp_path / "both" / ENSEMBLE).write_bytes(describe_ensemble([(0, 0.25), (1, 0.75)], {}))

    compared(tuner, tmp_path / "both", images, here)


@SLOW
@pytest.mark.parametrize("kind", ["slices", "windows"])
def test_what_is_trained_there_predicts_there(kind: str, tuner: Shell, here: Path, tmp_path: Path) -> None:
    """A final training, and masks from what it has written, all by the command line."""
    data_options, train_options = KINDS[kind]
    images = make_nnunet(tmp_path) / "imagesTr"
    config = tiny(section(**data_options), augment="default", **train_options)
    (here / "run.yaml").write_text(dump_yaml(config.as_dict()), encoding="utf-8")
    with pretend() as device:
        trained = tuner("train", "run.yaml", "-o", "run", "--device", device, "--data-root", str(tmp_path))

    assert trained.code == 0, trained.err
    assert json.loads((here / "run" / "metrics.json").read_text())["value"] is not None
    compared(tuner, here / "run", images, here)
