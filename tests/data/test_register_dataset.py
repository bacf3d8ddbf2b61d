"""A further data set is one module and one row: a small one with ignored pixels, prepared like the built-in ones."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.data.catalog import DATASETS, DatasetSpec
from tuner.data.preparation import PreparedData, prepare
from tuner.data.source import TestCase
from tuner.errors import DataError
from tuner.registry import Option, Scalar


class Stripes:
    """Three recordings of colour images; `fault` makes it wrong in one way."""

    training = ("north", "south", "west")
    test = ()
    stacked = False
    sample_shape = (3, 16, 24)

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def count(self, case: str) -> int:
        return 3 if self.fault == "count" else 2

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        return [("gone.png", Path("gone.png"))] if self.fault == "file" else []

    def recipe(self) -> Mapping[str, Any]:
        return {"fault": self.fault}

    def samples(self, case: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        label = np.zeros((16, 24), np.uint8)
        label[:, ::2], label[:4] = 1, 255
        if self.fault == "label":
            label[9, 9] = 7
        if self.fault == "ignored":
            label[:] = 255
        width = 20 if self.fault == "shape" else 24
        for shade in (0.25, 0.75):
            yield np.full((3, 16, width), shade, np.float32), label

    def original(self, case: str) -> TestCase:
        raise KeyError(case)


def open_stripes(options: Mapping[str, Scalar], data_root: Path | None) -> Stripes:
    """What the row names."""
    return Stripes(str(options["fault"]))


ROW = DatasetSpec(
    name="stripes",
    summary="Stripes.",
    channels=3,
    class_names=("background", "stripe"),
    options=(Option("fault", "str", "", "What is wrong with it."),),
    source=f"{__name__}:open_stripes",
    check=None,
    convert=None,
    layout="",
    how_to_get="",
)


def _prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "", **config: Any) -> PreparedData:
    monkeypatch.setitem(DATASETS._specs, "stripes", ROW)
    return prepare(
        {"name": "stripes", "fault": fault, "validation": ["south"], **config}, data_root=None, cache=tmp_path, seed=0
    )


def test_prepared_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels, oblong images and ignored pixels pass through; ignored pixels count in no frequency."""
    data = _prepare(tmp_path, monkeypatch)

    assert data.train.images.shape == (4, 3, 16, 24)
    assert data.train.images[1].max() == 0.75
    assert data.train.cases == ("north", "west")
    assert (data.channels, data.classes, data.stacked, data.ignore_index) == (3, 2, False, 255)
    assert data.class_frequencies == (0.5, 0.5)
    assert (data.train.labels == 255).mean() == 0.25


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param("label", r"labels \[7\] are not classes of stripes \(0 to 1\)", id="label"),
        pytest.param("ignored", "hold no labelled pixel", id="ignored"),
        pytest.param("shape", r"a sample has shape \(3, 16, 20\), not \(3, 16, 24\)", id="shape"),
        pytest.param("count", "fewer samples than the 6 that were announced", id="count"),
        pytest.param("file", r"gone\.png: cannot be read: No such file", id="file"),
    ],
)
def test_faults_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str) -> None:
    """A faulty module is found out when its data is prepared, and leaves nothing in the cache."""
    with pytest.raises(DataError, match=message):
        _prepare(tmp_path, monkeypatch, fault)

    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_no_test_cases_to_validate_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`validation: test` without test cases is refused with what would do."""
    with pytest.raises(DataError, match=r"stripes has no test cases.*Use a share"):
        _prepare(tmp_path, monkeypatch, validation="test")
