"""Ensembles: the selection against one written apart, honest gains, and scores that are those of a validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.samples import make_config, make_data, make_split
from tests.training.test_regions import config_of, make_nested, prepared
from tuner.analysis.ensemble_pool import ProbabilityPool
from tuner.analysis.ensemble_selection import bootstrap_interval, cross_fitted_gain, select_greedily
from tuner.data.preparation import PreparedData
from tuner.metrics.overlap import confusion_counts, dice
from tuner.training.components import build_components
from tuner.training.ensemble import predict_split
from tuner.training.evaluate import Validator, validate


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Twelve validation cases of one slice."""
    return replace(make_data(tmp_path / "data", stacked=False, size=16), validation=make_split(12, 1, seed=5, size=16))


def noisy_pool(data: PreparedData, folder: Path, strengths: list[float], metric: str = "dice") -> ProbabilityPool:
    """Networks that know the truth, and err on pixels of their own the more the stronger their noise is."""
    pool = ProbabilityPool(data, metric, len(strengths), folder, str)
    truth = np.eye(3, dtype=np.float32)[np.asarray(data.validation.labels)].transpose(0, 3, 1, 2)
    for member, strength in enumerate(strengths):
        noise = np.random.default_rng(member).normal(0, strength, truth.shape).astype(np.float32)
        pool.probabilities[member][...] = torch.softmax(torch.from_numpy(2 * truth + noise), 1).numpy()
    return pool


def mean_dice(data: PreparedData, probability: np.ndarray) -> float:
    """Dice of all cases: per class over the cases that have it, then over classes."""
    labels = np.asarray(data.validation.labels)
    rows = [
        dice(confusion_counts(p.argmax(0), t, classes=3, ignore_index=255))
        for p, t in zip(probability, labels, strict=True)
    ]
    columns = zip(*rows, strict=True)
    return float(np.mean([np.mean([value for value in column if value is not None]) for column in columns]))


def test_selection_is_that_of_the_paper(data: PreparedData, tmp_path: Path) -> None:
    """Begun with the best, then whoever helps most, with replacement; the best ensemble that was passed is kept."""
    pool = noisy_pool(data, tmp_path, [2.0, 2.2, 2.4, 3.0])
    parts = [np.asarray(found) for found in pool.probabilities]
    singles = [mean_dice(data, part) for part in parts]
    order = sorted(range(4), key=lambda k: -singles[k])
    together = [mean_dice(data, sum(parts[k] for k in order[: n + 1])) for n in range(4)]
    taken = order[: int(np.argmax(together)) + 1]
    path = together[: len(taken)]
    while len(taken) < 6:
        values = [mean_dice(data, sum(parts[k] for k in [*taken, new])) for new in range(4)]
        taken.append(max(order, key=lambda k: values[k]))
        path.append(max(values))
    length = int(np.argmax(path)) + 1

    found = select_greedily(pool, 6, range(len(pool.units)))

    assert found.singles == pytest.approx(singles, abs=1e-6)
    assert found.path == pytest.approx(path, abs=1e-6)
    assert found.counts == {k: taken[:length].count(k) for k in dict.fromkeys(taken[:length])}
    assert found.value == pytest.approx(max(path))
    assert found.best_single == order[0]


def test_a_real_gain_is_found(data: PreparedData, tmp_path: Path) -> None:
    """Networks that err in different places help each other, on cases that chose nothing as well."""
    gain = cross_fitted_gain(noisy_pool(data, tmp_path, [2.5, 2.5, 2.5]), 5)

    assert gain.interval is not None
    assert gain.interval[0] > 0
    assert gain.cases == len(gain.by_case) == 12


def test_no_gain_is_claimed_where_there_is_none(data: PreparedData, tmp_path: Path) -> None:
    """One network several times is that network, for a metric to be minimised, too."""
    pool = noisy_pool(data, tmp_path, [2.0, 2.0], "nll")
    pool.probabilities[1][...] = pool.probabilities[0]
    gain = cross_fitted_gain(pool, 4)

    assert gain.estimate == pytest.approx(0, abs=1e-6)
    assert gain.interval == pytest.approx((0, 0), abs=1e-6)


def test_cases_decide_and_groups_stay_together(data: PreparedData, tmp_path: Path) -> None:
    """Images of one patient on both sides would let the ensemble be judged on what chose it."""
    pool = ProbabilityPool(data, "dice", 2, tmp_path, lambda case: f"patient {int(case[len('case5') :]) % 4}")

    gain = cross_fitted_gain(pool, 2)

    assert (gain.cases, gain.interval) == (4, None)


@pytest.mark.parametrize("metric", ["dice", "hd95", "ece", "nll"])
@pytest.mark.parametrize("patch", [None, 16], ids=["whole samples", "windows"])
def test_a_member_scores_what_its_validation_did(metric: str, patch: int | None, tmp_path: Path) -> None:
    """Else an ensemble would be compared with something that nobody has seen."""
    prepared = make_data(tmp_path / "data", size=32)
    config = make_config(seed=3, precision="float32", **({} if patch is None else {"patch": patch}))
    trial = build_components(config, prepared, "cpu")
    validation = validate(trial, Validator(prepared, "cpu", train=config.train), stop=lambda: False)
    pool = ProbabilityPool(prepared, metric, 1, tmp_path, str)

    assert predict_split(trial, prepared, config.train, pool.probabilities[0], lambda: False)

    assert validation is not None
    found = pool.begin(range(len(pool.units))).value_with(0)
    assert found == pytest.approx(validation.metrics[metric], rel=1e-4)


@pytest.mark.parametrize("metric", ["dice", "ece", "nll"])
def test_regions_are_averaged_as_regions(metric: str, tmp_path: Path) -> None:
    """Sigmoids, a decision each: a softmax over them would be another network."""
    make_nested(tmp_path)
    config = config_of()
    nested = prepared(config, tmp_path)
    trial = build_components(config, nested, "cpu")
    validation = validate(trial, Validator(nested, "cpu", train=config.train), stop=lambda: False)
    pool = ProbabilityPool(nested, metric, 2, tmp_path, str)
    for probability in pool.probabilities:
        predict_split(trial, nested, config.train, probability, lambda: False)

    assert validation is not None
    running = pool.begin(range(len(pool.units)))
    running.add(0)
    assert running.value_with(1) == pytest.approx(validation.metrics[metric], rel=1e-4)


def test_the_interval_covers() -> None:
    """Of intervals for the mean of twenty cases, about 95 of 100 must hold the truth, not far fewer."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        low, high = bootstrap_interval(rng.normal(0.01, 0.02, 20).tolist(), seed)
        covered += low <= 0.01 <= high

    assert covered >= 51
