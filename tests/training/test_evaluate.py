"""Validation against MONAI's metrics, case by case."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou
from torch.nn.functional import one_hot

from tests.training.samples import CLASSES, make_config, make_data
from tuner.data.preparation import PreparedData
from tuner.training.batches import Samples
from tuner.training.components import Components, build_components
from tuner.training.evaluate import Validation, Validator, predict, score_units, validate


def validated(data: PreparedData) -> tuple[Components, Validation]:
    trial = build_components(make_config(seed=3, precision="float32"), data, "cpu")
    found = validate(trial, Validator(data, "cpu", train=make_config(batch_size=3).train), stop=lambda: False)
    assert found is not None
    return trial, found


def planes(labels: np.ndarray) -> torch.Tensor:
    """[*S] to one-hot [1, C, *S]."""
    return one_hot(torch.from_numpy(np.asarray(labels)).long(), len(CLASSES)).movedim(-1, 0)[None].float()


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@pytest.mark.parametrize("stacked", [True, False], ids=["volumes of slices", "single slices"])
def test_scores_are_those_of_monai(stacked: bool, tmp_path: Path) -> None:
    """The value that a whole study optimises has an independent witness."""
    data = make_data(tmp_path, stacked=stacked)
    _, found = validated(data)
    units = score_units(data.validation, stacked=stacked)

    assert len(found.cases) == len(units) == (2 if stacked else 8)
    for unit, case in zip(units, found.cases, strict=True):
        prediction, truth = planes(unit.of(found.predictions)), planes(unit.of(data.validation.labels))
        expected = {
            "dice": compute_dice(prediction, truth, include_background=False)[0],
            "iou": compute_iou(prediction, truth, include_background=False)[0],
        }
        for metric, values in expected.items():
            assert list(case.metrics[metric].values()) == pytest.approx(values.tolist(), abs=1e-6)
        if all(prediction[0, 1:].flatten(1).any(1)):
            distances = compute_hausdorff_distance(prediction, truth, include_background=False, percentile=95)[0]
            assert list(case.metrics["hd95"].values()) == pytest.approx(distances.tolist(), rel=1e-5)


def test_means_are_over_cases_then_classes(data: PreparedData) -> None:
    """Another order of means gives another number as soon as a class is missing in a case."""
    _, found = validated(data)
    by_class = {name: np.mean([case.metrics["dice"][name] for case in found.cases]) for name in CLASSES[1:]}

    assert found.per_class["dice"] == pytest.approx(by_class)
    assert found.metrics["dice"] == pytest.approx(np.mean(list(by_class.values())))


def test_confusion_counts_every_pixel(data: PreparedData) -> None:
    """Truth along the rows, prediction along the columns."""
    _, found = validated(data)
    truth, predicted = data.validation.labels.ravel(), found.predictions.ravel()
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (truth, predicted), 1)

    assert np.array_equal(found.confusion, expected)


def probabilities(trial: Components, data: PreparedData) -> np.ndarray:
    """Softmax of every validation sample, [N, C, *S], in float64."""
    trial.model.eval()
    with torch.no_grad():
        logits = trial.logits(torch.from_numpy(np.array(data.validation.images)))
    return torch.softmax(logits.double(), 1).numpy()


@pytest.mark.parametrize("patch", [None, 16], ids=["whole samples", "windows"])
def test_calibration_is_that_of_the_probabilities(patch: int | None, data: PreparedData) -> None:
    """Of all pixels that count, and of each case; a window over the whole of a sample is the whole sample."""
    data.validation.labels[:, :9] = 255
    config = make_config(seed=3, precision="float32", batch_size=3, **({} if patch is None else {"patch": 32}))
    trial = build_components(config, data, "cpu")
    found = validate(trial, Validator(data, "cpu", train=config.train), stop=lambda: False)
    assert found is not None
    p = np.moveaxis(probabilities(trial, data), 1, -1)

    for scores, cut in [
        (found.metrics, slice(None)),
        *(
            ({name: v["all"] for name, v in case.metrics.items() if "all" in v}, slice(4 * k, 4 * k + 4))
            for k, case in enumerate(found.cases)
        ),
    ]:
        truth = data.validation.labels[cut]
        kept = truth != 255
        of, right = p[cut][kept], p[cut][kept].argmax(-1) == truth[kept]
        bins = np.ceil(of.max(-1) * 15)
        gaps = [abs((right[bins == b] - of.max(-1)[bins == b]).sum()) for b in range(16)]
        assert scores["ece"] == pytest.approx(sum(gaps) / kept.sum(), abs=1e-5)
        assert scores["nll"] == pytest.approx(-np.log(of[np.arange(len(of)), truth[kept]]).mean(), rel=1e-4)
    assert set(found.per_class["ece"]) == set(CLASSES[1:])
    assert "nll" not in found.per_class


def test_ignored_pixels_count_for_nothing(data: PreparedData) -> None:
    """Label 255 means that nobody knows; a prediction there is neither right nor wrong."""
    data.validation.labels[:, :16] = 255
    _, found = validated(data)

    assert found.confusion.sum() == data.validation.labels.size // 2


def test_the_batch_size_changes_no_prediction(data: PreparedData) -> None:
    """Validation runs without statistics of the batch."""
    trial, found = validated(data)
    single = predict(trial, Samples(data.validation, "cpu"), batch_size=1, stop=lambda: False)

    assert single is not None
    assert (single.numpy() != found.predictions).mean() < 1e-3


def test_more_samples_at_once_change_no_prediction(data: PreparedData) -> None:
    """In bfloat16 the CPU predicts three batches at once; what is counted comes in batches, in order."""
    trial = build_components(make_config(seed=3, precision="bfloat16"), data, "cpu")
    assert [trial.inference_batch(size) for size in (1, 2)] == [3, 6]
    samples, told = Samples(data.validation, "cpu"), []

    def keep(logits: torch.Tensor, found: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> None:
        assert len(logits) == len(found) == len(labels) == len(index)
        assert torch.equal(found, logits.max(1).indices.to(torch.uint8))
        assert torch.equal(labels, samples.batch(index)[1])
        told.append(index.tolist())

    together = predict(trial, samples, batch_size=2, stop=lambda: False, on_logits=keep)

    single = []
    with torch.no_grad():
        for number in range(len(samples)):
            images, _ = samples.batch(torch.tensor([number]))
            single.append(trial.decide(trial.logits(trial.to_device(images)), 1))
    assert together is not None
    assert told == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert torch.equal(together, torch.cat(single))


def test_it_can_be_stopped(data: PreparedData) -> None:
    """A validation of large volumes takes minutes; a worker that is told to stop has seconds."""
    trial = build_components(make_config(), data, "cpu")

    assert validate(trial, Validator(data, "cpu", train=make_config().train), stop=lambda: True) is None
