"""Cityscapes' layout: the official table, the official division, and scores without a background."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuner.data.catalog import DATASETS
from tuner.data.checks import check
from tuner.data.datasets.cityscapes import EVALUATED, train_ids
from tuner.data.describe import describe
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.errors import DataError

CONFIG = {"name": "cityscapes", "size": 48, "width": 64}
TABLE = Path(__file__).parent.parent / "cityscapes_labels.json"


@pytest.fixture(scope="module")
def prepared(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The sample at its own size."""
    cache = tmp_path_factory.mktemp("cache")
    return prepare(CONFIG | {"size": 192, "width": 256}, data_root=test_data, cache=cache, seed=0)


def test_table_is_the_official_one() -> None:
    """A class out of place would train well and mean nothing."""
    rows = [row for row in json.loads(TABLE.read_text())["labels"] if row["id"] >= 0]
    evaluated = sorted((row for row in rows if row["trainId"] != 255), key=lambda row: row["trainId"])

    assert DATASETS["cityscapes"].class_names == tuple(row["name"] for row in evaluated)
    assert tuple(row["id"] for row in evaluated) == EVALUATED
    assert train_ids().labels == {row["id"]: row["trainId"] for row in rows}


def test_pixels_and_classes(prepared: PreparedData, test_data: Path) -> None:
    """Images arrive in colour and in their shape, label ids as train ids, counted independently."""
    root = test_data / "cityscapes"
    city = prepared.train.cases[0]
    path = sorted((root / "leftImg8bit" / "train" / city).glob("*.png"))[3]
    stem = path.name.removesuffix("_leftImg8bit.png")
    ids = np.asarray(Image.open(root / "gtFine" / "train" / city / f"{stem}_gtFine_labelIds.png"))

    assert prepared.train.images.shape == (50, 3, 192, 256)
    assert np.array_equal(np.rint(prepared.train.images[3] * 255), np.asarray(Image.open(path)).transpose(2, 0, 1))
    label = prepared.train.labels[3]
    assert np.array_equal(label == 13, ids == 26)
    assert np.array_equal(label == 255, ids == 0)
    assert set(np.unique(prepared.validation.labels)) <= {0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 13, 255}


def test_official_division(prepared: PreparedData, test_data: Path, tmp_path: Path) -> None:
    """A city trains or validates; the official validation images are test cases, each at its own size."""
    assert (prepared.train.cases + prepared.validation.cases) in (
        ("camvidsix", "camvidsixteen"),
        ("camvidsixteen", "camvidsix"),
    )
    tests = list(read_test_cases(CONFIG, data_root=test_data, cache=tmp_path, seed=0))
    assert len(tests) == 40
    assert tests[0].image.shape == (3, 192, 256)
    assert tests[0].name == "camvidsixteen_000000_007959"
    official = prepare(CONFIG | {"validation": "test"}, data_root=test_data, cache=tmp_path, seed=0)
    assert (len(official.train.images), len(official.validation.images)) == (100, 40)
    assert official.class_frequencies[0] * (1 - 0.035) == pytest.approx(0.3476, abs=0.003)


def test_road_is_no_background(prepared: PreparedData, test_data: Path, tmp_path: Path) -> None:
    """Class 0 is counted and described as every other class."""
    assert not prepared.background
    assert prepared.scored_names == DATASETS["cityscapes"].class_names
    document = describe(CONFIG, data_root=test_data, cache=tmp_path, seed=0)
    assert document["train"]["organs"]["road"]["samples"] == 50
    assert document["train"]["organs"]["wall"]["objects"] == 0


def test_sample_has_no_defect(test_data: Path) -> None:
    """Classes that never occur are no defect."""
    assert check(CONFIG, data_root=test_data) == []


def test_every_defect_is_named(test_data: Path, tmp_path: Path) -> None:
    """Missing, truncated, foreign and shared files are found at once."""
    root = tmp_path / "cityscapes"
    for half, city, count in (("train", "camvidsix", 5), ("val", "camvidsixteen", 3)):
        for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            (root / kind / half / city).mkdir(parents=True)
            for path in sorted((test_data / "cityscapes" / kind / half / city).glob(f"*_{ending}.png"))[:count]:
                shutil.copy(path, root / kind / half / city)
    images, labels = (sorted((root / kind / "train" / "camvidsix").iterdir()) for kind in ("leftImg8bit", "gtFine"))
    labels[0].unlink()
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:999])
    Image.fromarray(np.full((192, 256), 99, np.uint8)).save(labels[3])
    shutil.copy(images[4], sorted((root / "leftImg8bit" / "val" / "camvidsixteen").iterdir())[0])

    defects = check(CONFIG, data_root=tmp_path)

    found = ["there is no gtFine/", "there is no leftImg8bit/", "999 bytes", "holds 99,", "the same image as"]
    assert [sum(text in line for line in defects) for text in found] == [1] * 5
    assert len([line for line in defects if not line.startswith("class ")]) == 5
    with pytest.raises(DataError, match="there is no gtFine/train/camvidsix"):
        prepare(CONFIG, data_root=tmp_path, cache=tmp_path / "cache", seed=0)


@pytest.mark.parametrize("validation", [0.2, "test"], ids=["share", "test"])
def test_training_counts_road_and_no_absent_class(test_data: Path, tmp_path: Path, validation: Any) -> None:
    """From the layout to test scores: road has a value, and the eight classes that never occur have none, never 0."""
    from tests.training.samples import make_config
    from tuner.config.trial import load_config
    from tuner.training.final import train_final

    section = CONFIG | {"validation": validation}
    config = load_config(make_config(epochs=1, batch_size=25, lr=1e-3).model_dump(mode="json") | {"dataset": section})
    data = prepare(section, data_root=test_data, cache=tmp_path, seed=0)
    tests = list(read_test_cases(section, data_root=test_data, cache=tmp_path, seed=0))[:4]

    document = train_final(config, data=data, tests=tests, device="cpu", folder=tmp_path / "run")

    assert document is not None
    assert (tmp_path / "run" / "predictions.png").stat().st_size > 10_000
    for part in (document, document["test"]):
        dice = part["per_class"]["dice"]
        assert list(dice) == list(data.class_names)
        assert dice["road"] is not None
        assert {"wall", "traffic light", "terrain", "truck", "bus", "train", "motorcycle", "bicycle"} <= {
            name for name, value in dice.items() if value is None
        }
        counted = [value for value in dice.values() if value is not None]
        assert part["metrics"]["dice"] == pytest.approx(sum(counted) / len(counted))
