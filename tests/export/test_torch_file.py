"""`export --format torch`: one file that needs torch and numpy only, and proves itself."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.studies import create, settings, tiny, work
from tuner.config.trial import load_config
from tuner.errors import RequestError
from tuner.export.mmseg import mmseg_export
from tuner.export.smp import smp_export
from tuner.export.torch_file import torch_export
from tuner.losses.catalog.registry import LOSSES
from tuner.models.build import build_model
from tuner.storage.storage import Storage

FACTS = {
    "class_names": ["background", "organ", "vessel"],
    "sample_shape": [1, 32, 32],
    "class_frequencies": [0.7, 0.2, 0.1],
    "ignore_index": 255,
}
ALONE = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "tuner scipy edt skimage monai optuna pydantic sqlalchemy safetensors yaml".split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refusing())
import torch
import winner
difference = winner.self_test()
assert difference <= 1e-6, difference
"""
NETWORK = """
network = winner.network()
assert network(torch.zeros(1, 1, 40, 40)).shape == (1, 3, 40, 40)
loss = winner.loss()
loss(network(torch.randn(2, 1, 32, 32)), torch.randint(0, 3, (2, 32, 32))).backward()
"""


def written(folder: Path, loss: Any, *, model: str = "unet", facts: dict[str, Any] | None = None) -> None:
    """Write the export of a small network with random weights."""
    section = {"name": model, "width": 4, "depth": 1} if model == "unet" else model
    config = load_config({"dataset": "phantom", "model": section, "loss": loss})
    weights = None
    if model == "unet":
        torch.manual_seed(0)
        weights = build_model(config.model, channels=1, classes=3, spatial_dims=2).state_dict()
    made = torch_export(config, facts or FACTS, weights, beside="winner.pt")
    (folder / "winner.py").write_text(made.text, encoding="utf-8")
    (folder / "winner.pt").write_bytes(made.tensors)


def alone(folder: Path, code: str) -> None:
    """Run code in the folder, where nothing but torch and numpy can be imported."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE + code], cwd=folder, check=True)


def test_loss_and_network_run_where_only_torch_is(tmp_path: Path) -> None:
    """Values, gradients and logits to 1e-6, and a step of training."""
    written(tmp_path, {"name": "boundary", "base": "dice_focal", "weight": 0.3})

    alone(tmp_path, NETWORK)


def test_a_sum_of_losses_is_taken_home(tmp_path: Path) -> None:
    """With the weights that were found; beside a network that is not ours, the loss alone."""
    terms = {"name": "edgy", "terms": ["dice", "hausdorff"], "edgy": {"weight": {"hausdorff": 0.1}}}
    written(tmp_path, terms, model="segresnet")

    alone(tmp_path, "")
    assert "Not in this file: the network 'segresnet'" in (tmp_path / "winner.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "skeleton_recall"])
def test_every_loss_is_taken_home(tmp_path: Path, name: str) -> None:
    """skeleton_recall alone asks for its skeletons, which scikit-image makes."""
    written(tmp_path, name)

    alone(tmp_path, "")


def test_a_changed_file_fails_its_test(tmp_path: Path) -> None:
    """A self-test that cannot fail proves nothing."""
    written(tmp_path, {"name": "focal", "gamma": 2.0})
    text = (tmp_path / "winner.py").read_text()
    (tmp_path / "winner.py").write_text(text.replace("'gamma': 2.0", "'gamma': 2.001"))

    with pytest.raises(subprocess.CalledProcessError):
        alone(tmp_path, "")


def test_the_winner_of_a_search_is_taken_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, from a real trial with its weights to a file that proves itself elsewhere."""
    from tuner.cli.main import run

    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    places = settings(tmp_path, url)
    with Storage.open(url, create=True) as store:
        create(store, tiny("search.loss=[dice_focal]", "budget.trials=1", "train.epochs=1", "search.train.lr=0.01"))
        work(store, places)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    words = ["--storage", url, "--artifacts", str(places.artifacts)]

    assert run(["export", "tiny", "-o", "winner.py", "--format", "torch", *words]) == 0
    assert run(["export", "tiny", "-o", "winner.py", "--format", "keras", *words]) == 2
    assert run(["export", "tiny", "-o", "other.py", "--format", "smp", *words]) == 0
    assert run(["export", "tiny", "-o", "registered.py", "--format", "mmseg", *words]) == 0
    for file, form in (("a-b.py", "mmseg"), ("class.py", "smp"), ("a", "mmseg"), ("a", "nnunet"), ("a.pt", "torch")):
        assert run(["export", "tiny", "-o", file, "--format", form, *words]) == 2, (file, form)

    written_here = [f"{name}.{ending}" for name in ("other", "registered", "winner") for ending in ("pt", "py")]
    assert sorted(path.name for path in home.iterdir()) == written_here
    assert "imports=['registered']" in (home / "registered.py").read_text()
    alone(home, "assert winner.network() is not None")


def test_what_cannot_be_taken_home_is_refused() -> None:
    """Before a file is written."""
    own = load_config({"dataset": "phantom", "loss": {"entry": "tests.training.own_losses:soft_focal"}})
    plain = load_config({"dataset": "phantom", "loss": "dice"})
    program = load_config({"train": {"command": ["python", "train.py"], "epochs": 1}})

    with pytest.raises(RequestError, match="your own code"):
        torch_export(own, FACTS, None, beside="x.pt")
    with pytest.raises(RequestError, match="earlier version"):
        torch_export(plain, FACTS | {"class_frequencies": None}, None, beside="x.pt")
    with pytest.raises(RequestError, match="its training is your own"):
        smp_export(program, FACTS, None, beside="x.pt")
    with pytest.raises(RequestError, match="its training is your own"):
        mmseg_export(program, FACTS, module="x", beside="x.pt")
