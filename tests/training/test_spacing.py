"""Distances in mm wherever the layout knows a spacing, checked with MONAI and with a search through all pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from tests.data.volumes import make_nnunet, scan, section
from tests.training.runs import tiny
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.training.components import Components, build_components
from tuner.training.evaluate import Validation, Validator, validate
from tuner.training.final import score_tests
from tuner.training.run_dir import RunDirectory

pytestmark = [
    pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning"),
    pytest.mark.filterwarnings("ignore:the (prediction|ground truth) of class:UserWarning"),
]


def validated(config: dict[str, Any], root: Path | None, cache: Path, **train: Any) -> tuple[PreparedData, Validation]:
    data = prepare(config, data_root=root, cache=cache, seed=0)
    chosen = tiny(config, **train)
    found = validate(
        build_components(chosen, data, "cpu"), Validator(data, "cpu", train=chosen.train), stop=lambda: False
    )
    assert found is not None
    return data, found


def by_brute_force(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """hd95, assd and surface dice from the table of all distances between edge points."""
    points = [np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (prediction, truth)]
    table = cdist(*points)
    to_truth, to_prediction = table.min(1), table.min(0)
    both = np.concatenate([to_truth, to_prediction])
    return {
        "hd95": max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)),
        "assd": both.mean(),
        "surface_dice": (both <= 1).mean(),
    }


@pytest.mark.parametrize(
    ("options", "train"),
    [
        pytest.param({"dimensions": 2}, {}, id="slices"),
        pytest.param({"dimensions": 2, "resize": False}, {"patch": 16}, id="slices-as-they-are"),
        pytest.param({"dimensions": 3, "resize": False}, {"patch": [4, 16, 16]}, id="volumes-as-they-are"),
        pytest.param({"dimensions": 3, "depth": 7}, {}, id="slabs"),
    ],
)
def test_validation_measures_in_mm(options: dict[str, Any], train: dict[str, Any], tmp_path: Path) -> None:
    """Each case by its own spacing, which follows the resizing; equal to a search through all pairs of edge points."""
    make_nnunet(tmp_path)
    config = section(validation=["ben_1", "cleo_1"] if options.get("depth") is None else ["ben_1"], **options)

    data, found = validated(config, tmp_path, tmp_path / "cache", **train)

    checked = 0
    for case, unit in zip(found.cases, Validator(data, "cpu", train=tiny(config, **train).train).units, strict=True):
        prediction, truth = unit.of(found.predictions), unit.of(data.validation.labels)
        assert unit.spacing is not None
        for index, name in enumerate(data.class_names):
            if index and (prediction == index).any() and (truth == index).any():
                wanted = by_brute_force(prediction == index, truth == index, unit.spacing)
                for metric, value in wanted.items():
                    assert case.metrics[metric][name] == pytest.approx(value), (case.case, metric)
                checked += 1
    assert checked


def test_validation_of_the_phantom_is_monais_in_mm(tmp_path: Path) -> None:
    """The embedded data set knows its spacing; MONAI measures the same."""
    config = {"name": "phantom", "size": 32, "cases": 3, "slices": 6}
    data, found = validated(config, None, tmp_path)
    (spacing,) = data.validation.spacings
    assert spacing == pytest.approx((26.0, 370 / 32, 370 / 32))

    planes = [
        torch.nn.functional.one_hot(torch.from_numpy(np.array(labels)).long(), 9).movedim(-1, 0)[None]
        for labels in (found.predictions, data.validation.labels)
    ]
    theirs = {
        "hd95": compute_hausdorff_distance(*planes, percentile=95, spacing=spacing),
        "assd": compute_average_surface_distance(*planes, symmetric=True, spacing=spacing),
        "surface_dice": compute_surface_dice(*planes, class_thresholds=[1.0] * 8, spacing=spacing),
    }
    for metric, values in theirs.items():
        ours = found.cases[0].metrics[metric]
        for index, name in enumerate(data.scored_names):
            if (found.predictions == index + 1).any() and (data.validation.labels == index + 1).any():
                assert ours[name] == pytest.approx(float(values[0, index]), rel=1e-5), (metric, name)


def test_test_cases_measure_in_mm_too(tmp_path: Path) -> None:
    """The test scores that `train` writes are in the unit of its validation."""
    config = tiny({"name": "phantom", "size": 32, "cases": 3, "slices": 4})
    data = prepare(config.dataset, data_root=None, cache=tmp_path / "cache", seed=0)
    (case,) = read_test_cases(config.dataset, data_root=None, cache=tmp_path / "cache", seed=0)
    with RunDirectory(tmp_path / "run", config, "cpu") as record:
        record.write_best(build_components(config, data, "cpu").model.state_dict(), 1)
        in_mm, in_pixels = (
            score_tests(config, data=data, tests=[known], device="cpu", record=record)
            for known in (case, replace(case, spacing=None))
        )

    assert in_mm is not None
    assert in_pixels is not None
    assert in_mm["metrics"]["dice"] == in_pixels["metrics"]["dice"]
    assert in_mm["metrics"]["hd95"] > 5 * in_pixels["metrics"]["hd95"]


def test_an_organ_that_was_missed_costs_the_diagonal_in_mm(tmp_path: Path) -> None:
    """The worst value is in the unit of the others, else a mean over cases would mix pixels and mm."""
    make_nnunet(tmp_path)
    config = section(validation=["ben_1"], dimensions=3, resize=False)
    data = prepare(config, data_root=tmp_path, cache=tmp_path / "cache", seed=0)
    chosen = tiny(config, patch=[8, 24, 24])
    trial: Components = build_components(chosen, data, "cpu")
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.zero_()
    found = validate(trial, Validator(data, "cpu", train=chosen.train), stop=lambda: False)

    shape, spacing = scan("ben_1")[0].T.shape, data.validation.spacings[0]
    assert found is not None
    assert found.per_class["hd95"]["low"] == pytest.approx(np.linalg.norm(np.array(shape) * spacing))
