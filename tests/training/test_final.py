"""What `tuner train` writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.samples import make_config, make_data, make_split
from tuner.data.preparation import PreparedData
from tuner.data.source import TestCase
from tuner.training.final import RESULT, train_final
from tuner.training.trainer import train


def cases(size: int) -> list[TestCase]:
    """Two volumes of four slices at another size than the network's."""
    split = make_split(2, 4, seed=9, size=size)
    return [
        TestCase(f"test{k}", split.images[4 * k : 4 * k + 4, 0], split.labels[4 * k : 4 * k + 4], (3.0, 1.0, 1.0))
        for k in range(2)
    ]


def test_the_value_is_that_of_the_trial(data: PreparedData, tmp_path: Path) -> None:
    """An exported configuration must give the value that the search showed."""
    config = make_config()
    reports = list(train(config, data=data, device="cpu", folder=tmp_path / "trial", stop=lambda: False))
    document = train_final(config, data=data, tests=(), device="cpu", folder=tmp_path / "final")

    assert document is not None
    assert document["value"] == max(report.metrics["dice"] or 0 for report in reports)
    assert document["test"] is None
    assert document == json.loads((tmp_path / "final" / RESULT).read_text())


def test_test_cases_are_scored_at_their_own_size(data: PreparedData, tmp_path: Path) -> None:
    """Scores at the network's size are not comparable with anybody's."""
    config = make_config(epochs=10, lr=0.02, model={"width": 8, "dropout": 0.0})
    document = train_final(config, data=data, tests=cases(48), device="cpu", folder=tmp_path)

    assert document is not None
    assert [case["case"] for case in document["test"]["cases"]] == ["test0", "test1"]
    assert document["test"]["metrics"]["dice"] > 0.3
    mean = np.mean([list(case["metrics"]["dice"].values()) for case in document["test"]["cases"]])
    assert document["test"]["metrics"]["dice"] == pytest.approx(mean)


def test_calibration_of_test_cases(data: PreparedData, tmp_path: Path) -> None:
    """Validation cases given as test cases are as well calibrated as in validation; at twice the size, hardly less."""
    split = data.validation
    tests = [
        TestCase(name, np.kron(split.images[cut, 0], grow), np.kron(split.labels[cut], grow.astype(np.uint8)), None)
        for grow in (np.ones((1, 1, 1), np.float32), np.ones((1, 2, 2), np.float32))
        for name, cut in (("a", slice(0, 4)), ("b", slice(4, 8)))
    ]
    config = make_config(epochs=2, precision="float32")
    document = train_final(config, data=data, tests=tests[:2], device="cpu", folder=tmp_path / "own")
    twice = train_final(config, data=data, tests=tests[2:], device="cpu", folder=tmp_path / "twice")

    assert document is not None
    assert twice is not None
    for metric in ("ece", "nll"):
        assert document["test"]["metrics"][metric] == pytest.approx(document["metrics"][metric], rel=1e-5)
        assert twice["test"]["metrics"][metric] == pytest.approx(document["metrics"][metric], rel=0.1)
        assert document["test"]["cases"][0]["metrics"][metric].keys() == {"all"}


def test_it_starts_from_scratch(data: PreparedData, tmp_path: Path) -> None:
    """A folder that was used before must not decide what comes out."""
    config = make_config()
    first = train_final(config, data=data, tests=(), device="cpu", folder=tmp_path)
    replayed: list[bool] = []
    again = train_final(
        config, data=data, tests=(), device="cpu", folder=tmp_path, on_epoch=lambda r: replayed.append(r.replayed)
    )

    assert first == again
    assert replayed == [False, False, False]


def test_stopping_writes_no_result(data: PreparedData, tmp_path: Path) -> None:
    """A number of half a training must not look like a result."""
    assert train_final(make_config(), data=data, tests=(), device="cpu", folder=tmp_path, stop=lambda: True) is None
    assert not (tmp_path / RESULT).exists()


def test_volumes_are_scored_whole(tmp_path: Path) -> None:
    """3-D test cases go through the network in one piece."""
    data = make_data(tmp_path, size=16, volumes=True)
    split = make_split(1, 4, seed=9, size=16, volumes=True)
    case = TestCase("volume", split.images[0], split.labels[0], None)
    document = train_final(make_config(epochs=1), data=data, tests=[case], device="cpu", folder=tmp_path / "final")

    assert document is not None
    assert document["test"]["cases"][0]["case"] == "volume"
