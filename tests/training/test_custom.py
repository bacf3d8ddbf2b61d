"""A user's own training function in the place of ours."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.samples import make_config
from tuner.data.preparation import PreparedData
from tuner.errors import EntryError
from tuner.training.custom import load_entry
from tuner.training.epoch_report import Diverged, EpochReport
from tuner.training.trainer import train

MODULE = """
def epochs(config, device, folder):
    for epoch in range(1, 100):
        yield {"dice": epoch * config.train.lr, "train_loss": 1 / epoch}

def reports(config, device, folder):
    from tuner.training.epoch_report import EpochReport
    yield EpochReport(1, None, None, 0.5, metrics={"dice": 0.5})
    yield EpochReport(2, None, None, 0.5, metrics={"dice": 0.6})

def words(config, device, folder):
    yield "dice 0.5"

def elsewhere(config, device, folder):
    yield {"iou": 0.5}

def misspelt(config, device, folder):
    yield {"dice": 0.5, "dcie": 0.5}

def text(config, device, folder):
    yield {"dice": "good"}

def nan(config, device, folder):
    yield {"dice": float("nan")}

def nothing(config, device, folder):
    return None

not_a_function = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of the user's that can be imported; removed again afterwards."""
    folder = tmp_path / "site" / "ourlab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "training.py").write_text(MODULE)
    (folder / "broken.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(folder.parent)
    yield "ourlab"
    for name in [name for name in sys.modules if name.partition(".")[0] == "ourlab"]:
        del sys.modules[name]


def run(function: str, data: PreparedData, folder: Path, **options: Any) -> list[EpochReport]:
    config = make_config(entry=f"ourlab.training:{function}", **options)
    return list(train(config, data=data, device="cpu", folder=folder, stop=lambda: False, allow_entry=["ourlab"]))


def test_metrics_become_reports(package: str, data: PreparedData, tmp_path: Path) -> None:
    """A generator of dictionaries is all that a user must write."""
    found = run("epochs", data, tmp_path, epochs=4)

    assert [report.epoch for report in found] == [1, 2, 3, 4]
    assert [report.metrics["dice"] for report in found] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    assert found[1].train_loss == 0.5
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_starting_again_repeats_no_line(package: str, data: PreparedData, tmp_path: Path) -> None:
    """After an interruption a function that knows no checkpoints begins at epoch 1."""
    run("epochs", data, tmp_path, epochs=3)
    run("epochs", data, tmp_path, epochs=3)

    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_reports_pass(package: str, data: PreparedData, tmp_path: Path) -> None:
    """Whoever wants to say more yields our own class."""
    assert [report.metrics["dice"] for report in run("reports", data, tmp_path)] == [0.5, 0.6]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param("words", "yielded str", id="not a mapping"),
        pytest.param("elsewhere", "objective 'dice' is missing", id="without the objective"),
        pytest.param("misspelt", "'dcie' is no metric", id="unknown metric"),
        pytest.param("text", "dice is 'good'", id="not a number"),
        pytest.param("nothing", "must yield", id="not a generator"),
        pytest.param("absent", "has no 'absent'", id="no such function"),
        pytest.param("not_a_function", "not a function", id="not a function"),
    ],
)
def test_what_is_no_training_is_refused(
    function: str, message: str, package: str, data: PreparedData, tmp_path: Path
) -> None:
    """Each mistake has its own sentence."""
    with pytest.raises(EntryError, match=message):
        run(function, data, tmp_path)


def test_a_value_that_is_not_finite_is_a_verdict(package: str, data: PreparedData, tmp_path: Path) -> None:
    """Diverged, as with our own trainer."""
    with pytest.raises(Diverged, match="dice is nan"):
        run("nan", data, tmp_path)
    assert math.isnan(float("nan"))


@pytest.mark.parametrize(
    ("path", "allowed", "message"),
    [
        pytest.param("ourlab.training:epochs", [], "may not be imported on this machine", id="nothing allowed"),
        pytest.param("ourlab.training:epochs", ["other"], "allowed: other", id="another package"),
        pytest.param("os:system", ["ourlab"], "'os' may not be imported", id="the standard library"),
        pytest.param("ourlab.training", ["ourlab"], "package.module:function", id="no function"),
        pytest.param("ourlab/../x:y", ["ourlab"], "package.module:function", id="a path"),
        pytest.param("ourlab.broken:f", ["ourlab"], "ModuleNotFoundError", id="import fails"),
        pytest.param("ourlab.absent:f", ["ourlab"], "importing 'ourlab.absent' failed", id="no module"),
    ],
)
def test_only_allowed_code_is_imported(path: str, allowed: list[str], message: str, package: str) -> None:
    """A study posted by a stranger must not run code of its choice."""
    with pytest.raises(EntryError, match=message):
        load_entry(path, allowed)
    assert "ourlab.training" not in sys.modules or allowed == ["ourlab"]
