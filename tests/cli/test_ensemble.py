"""`tuner ensemble`: trials of a real study, their folder, and what `predict` makes of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.shell import Shell
from tests.training.runs import make_run, tiny
from tuner.data.images import read_codes
from tuner.data.preparation import PreparedData, prepare
from tuner.errors import ConfigError, RequestError
from tuner.training.ensemble import check_same_data, open_ensemble
from tuner.training.ensemble_folder import ENSEMBLE, describe_ensemble, read_ensemble
from tuner.training.predict import TrainedRun, open_run, read_run
from tuner.training.sliding_window import plane_logits

PHANTOM = {"name": "phantom", "size": 16, "cases": 4, "slices": 2, "validation": 0.25}
STUDY = """\
name: both
dataset: {name: phantom, size: 16, cases: 10, slices: 2, validation: 0.6}
model: {name: unet, width: 4, depth: 1}
train: {epochs: 1, batch_size: 4, lr: 1.0e-2, threads: 1, precision: float32, augment: none}
search: {loss: [dice, cross_entropy], train.seed: [0, 1]}
sampler: {name: random}
pruner: {name: none}
budget: {trials: 3}
"""


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of three trials of the product's own networks; copy it, never change it."""
    from tuner.cli.main import run

    folder = tmp_path_factory.mktemp("both")
    (folder / "both.yaml").write_text(STUDY, encoding="utf-8")
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNER_CACHE", str(folder / "cache"))
        os.chdir(folder)
        try:
            assert run(["launch", "both.yaml", "--launcher", "inline", "--devices", "cpu"]) == 0
        finally:
            os.chdir(before)
    return folder


@pytest.fixture
def both(tuner: Shell, here: Path, studied: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A command line in a copy of the folder of that study."""
    shutil.copytree(studied, here, dirs_exist_ok=True)
    monkeypatch.setenv("TUNER_CACHE", str(here / "cache"))
    return tuner


def test_an_ensemble_from_the_study_to_the_masks(both: Shell, here: Path) -> None:
    """What was chosen is written once and whole, stands alone, and says what it gains with an interval."""
    kept = sorted(path.name for path in (here / "cache").iterdir())

    found = both("ensemble", "both", "-o", "chosen", "--size", "4", "--device", "cpu", "--json").json()

    assert sum(member["count"] for member in found["members"]) <= 4
    assert sum(member["weight"] for member in found["members"]) == pytest.approx(1)
    low, high = found["gain"]["interval"]
    assert low <= found["gain"]["estimate"] <= high
    assert (found["gain"]["cases"], found["gain"]["generalises_to"]) == (6, "new cases")
    stored = {row["number"]: row["value"] for row in both("trials", "both", "--json").json()}
    assert {of["trial"]: of["value"] for of in found["pool"]} == pytest.approx(stored, abs=1e-6)
    assert found["notes"] == []
    assert sorted(path.name for path in (here / "cache").iterdir()) == kept
    shutil.rmtree(here / "artifacts")
    opened = open_ensemble(here / "chosen", "cpu")
    weights = {run.folder.name: weight for run, weight in zip(opened.members, opened.weights, strict=True)}
    assert weights == {f"trial-{member['trial']}": member["weight"] for member in found["members"]}
    again = both("ensemble", "both", "-o", "chosen", "--device", "cpu")
    assert (again.code, "not empty" in again.err) == (2, True)


def test_trials_without_their_files_are_named(both: Shell, here: Path) -> None:
    """Old trials are cleaned up; those that are left must still do."""
    (here / "artifacts/both/1/best.safetensors").unlink()
    found = both("ensemble", "both", "--device", "cpu", "--metric", "nll", "--json").json()

    assert [item["trial"] for item in found["left_out"]] == [1]
    assert "best.safetensors not in" in found["left_out"][0]["why"]
    assert (found["metric"], found["direction"]) == ("nll", "minimize")
    (here / "artifacts/both/2/data.json").unlink()
    refused = both("ensemble", "both", "--device", "cpu", "-o", "none")
    assert refused.code == 2
    assert "two finished trials with their files, and there is 1" in refused.err
    assert "data.json not in" in refused.err
    assert not (here / "none").exists()


def test_trials_whose_weights_are_damaged_are_left_out(both: Shell, here: Path) -> None:
    """One of twenty trials must not cost the other nineteen; too few that are left are an error that names all."""
    cut = here / "artifacts/both/1/best.safetensors"
    cut.write_bytes(cut.read_bytes()[:200])
    found = both("ensemble", "both", "--device", "cpu", "-o", "chosen")
    assert found.code == 0
    assert "left out: trial 1: " in found.err
    assert "the weights are damaged" in found.err
    assert {run.folder.name for run in open_ensemble(here / "chosen", "cpu").members} <= {"trial-0", "trial-2"}

    path = here / "artifacts/both/2/best.safetensors"
    weights = load_file(path)
    save_file(
        {name: value * torch.nan if value.is_floating_point() else value for name, value in weights.items()}, path
    )
    refused = both("ensemble", "both", "--device", "cpu")
    assert refused.code == 2
    assert "two finished trials with their files, and there is 1" in refused.err
    assert "trial 1: " in refused.err
    assert "trial 2: " in refused.err
    assert "not a number" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--trials 0,x", "'0,x' are no numbers of trials"),
        ("--trials 0,99", "99"),
        ("--trials 0", "takes two"),
        ("--metric dise", "Did you mean 'dice'"),
        ("--size 0", "--size"),
        ("-o no/folder", "does not exist"),
        ("-o both.yaml", "it is a file"),
    ],
)
def test_wrong_requests(both: Shell, here: Path, words: str, said: str) -> None:
    """A wrong request costs no prediction, and leaves nothing."""
    before = sorted(here.iterdir())
    result = both("ensemble", "both", "--device", "cpu", *words.split())

    assert result.code == 2, result.err
    assert said in result.err
    assert sorted(here.iterdir()) == before


def test_own_trainings_have_no_networks(searched: Shell) -> None:
    """Said at once, and not by a missing file."""
    result = searched("ensemble", "tiny", "--device", "cpu")

    assert result.code == 2
    assert "trains by code of your own" in result.err


@pytest.fixture
def runs(tmp_path: Path) -> tuple[list[Path], PreparedData]:
    """Folders of two networks of different width and window, and their data."""
    config = tiny(PHANTOM)
    data = prepare(config.dataset, data_root=None, cache=tmp_path / "cache", seed=0)
    folder = tmp_path / "ensemble"
    folder.mkdir()
    made = []
    for number, (width, options) in enumerate(((4, {}), (6, {"patch": 8}))):
        own = tiny(PHANTOM, **options)
        own = own.model_copy(update={"model": {**own.model, "width": width}})
        made.append(make_run(folder / f"trial-{number}", own, data))
    (folder / ENSEMBLE).write_bytes(describe_ensemble([(0, 0.75), (1, 0.25)], {}))
    return made, data


def mean_probability(members: list[tuple[TrainedRun, float]], image: np.ndarray) -> np.ndarray:
    total: Any = 0
    for run, weight in members:
        planes = [plane for plane in plane_logits(run.net, image, run.geometry) if plane is not None]
        total = total + weight * torch.stack(planes).double().softmax(1).numpy()
    return np.asarray(total)


def test_probabilities_are_averaged(runs: tuple[list[Path], PreparedData], tmp_path: Path) -> None:
    """Weighted, plane by plane, whatever windows a member sees its samples through."""
    folders, _ = runs
    image = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    members = [(open_run(folder, "cpu"), weight) for folder, weight in zip(folders, (0.75, 0.25), strict=True)]

    found = open_ensemble(tmp_path / "ensemble", "cpu").predict(image)

    assert found is not None
    mean = mean_probability(members, image)
    assert (found != mean.argmax(1)).mean() < 1e-3
    assert open_ensemble(tmp_path / "ensemble", "cpu").predict(image, lambda: True) is None
    (tmp_path / "ensemble" / ENSEMBLE).write_bytes(describe_ensemble([(1, 1.0)], {}))
    assert np.array_equal(open_ensemble(tmp_path / "ensemble", "cpu").predict(image), members[1][0].predict(image))


def test_predict_takes_the_folder(tuner: Shell, test_data: Path, here: Path, tmp_path: Path) -> None:
    """Like that of a run: masks in the format of the images, and the same document."""
    config = tiny({"name": "folder", "path": "nuclei", "size": 16})
    data = prepare(config.dataset, data_root=test_data, cache=tmp_path / "cache", seed=0)
    folder = tmp_path / "ensemble"
    folder.mkdir()
    for number, width in ((3, 4), (5, 6)):
        own = config.model_copy(update={"model": {**config.model, "width": width}})
        make_run(folder / f"trial-{number}", own, data)
    (folder / ENSEMBLE).write_bytes(describe_ensemble([(3, 0.5), (5, 0.5)], {}))
    image = next((test_data / "nuclei/images").glob("*.png"))

    found = tuner("predict", str(folder), str(image), "-o", "masks", "--device", "cpu", "--json").json()

    assert (found["run"], found["dataset"], found["failed"]) == (str(folder), "folder", [])
    assert read_codes(here / "masks" / image.name).shape == (256, 256)
    weights = folder / "trial-5/best.safetensors"
    weights.rename(tmp_path / "kept")
    refused = tuner("predict", str(folder), str(image), "-o", "others", "--device", "cpu")
    assert (refused.code, "not whole: trial-5/best.safetensors is missing" in refused.err) == (2, True)
    (tmp_path / "kept").rename(weights)
    (folder / ENSEMBLE).write_text("{}")
    refused = tuner("predict", str(folder), str(image), "-o", "others", "--device", "cpu")
    assert (refused.code, "ensemble.json: is damaged" in refused.err) == (2, True)
    assert not (here / "others").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"format": 2, "members": [{"folder": "trial-0", "weight": 1}]}',
        b'{"format": 1, "members": [{"folder": "../trial-0", "weight": 1}]}',
        b'{"format": 1, "members": [{"folder": "trial-0", "weight": 0.4}]}',
        b'{"format": 1, "members": []}',
    ],
    ids=["no JSON", "another version", "out of the folder", "weights", "empty"],
)
def test_damaged_ensembles_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file is data, and its paths stay in its folder."""
    (tmp_path / ENSEMBLE).write_bytes(content)

    with pytest.raises(ConfigError, match="damaged"):
        read_ensemble(tmp_path)


def test_other_classes_are_refused_with_what_was_found(runs: tuple[list[Path], PreparedData], tmp_path: Path) -> None:
    """An average over different classes would be a number without a meaning."""
    folders, _ = runs
    path = folders[1] / "data.json"
    card = json.loads(path.read_bytes())
    card["class_names"][1] = "heart"
    path.write_text(json.dumps(card))
    cards = {folder.name: read_run(folder)[1] for folder in folders}

    with pytest.raises(RequestError, match=r"classes of trial-0: .* of trial-1: .*heart"):
        check_same_data(cards)
    with pytest.raises(RequestError, match="heart"):
        open_ensemble(tmp_path / "ensemble", "cpu")
