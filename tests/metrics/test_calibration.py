"""Calibration error and likelihood: by hand, against numpy written apart from ours, and against MONAI's bins."""

import numpy as np
import pytest
import torch
from monai.metrics.calibration import calibration_binning
from numpy.typing import NDArray

from tuner.metrics.calibration import BINS, CalibrationCounter, CalibrationCounts


def counted(
    logits: NDArray[np.float64],
    labels: NDArray[np.uint8],
    *,
    units: NDArray[np.int64] | None = None,
    members: torch.Tensor | None = None,
    batch: int = 2,
) -> CalibrationCounts:
    """Count samples [N, C, *S] batch by batch, each a unit of its own unless said otherwise."""
    units = np.arange(len(labels)) if units is None else units
    counter = CalibrationCounter(int(units.max()) + 1, logits.shape[1], device="cpu", ignore_index=255, members=members)
    for index in torch.split(torch.arange(len(labels)), batch):
        picked = index.numpy()
        parts = (torch.from_numpy(logits[picked].astype(np.float32)), torch.from_numpy(labels[picked]).long())
        counter.add(*parts, torch.from_numpy(units[picked]))
    return counter.counts()


def reference(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Guo et al., eq. 3, pixel by pixel into the bins ((b-1)/M, b/M]."""
    bins = np.digitize(probability, np.arange(1, BINS) / BINS, right=True)
    gaps = [
        (bins == b).mean() * abs(right[bins == b].mean() - probability[bins == b].mean())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def random_case(shape: tuple[int, ...], classes: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Logits as float32 has them, and labels of which the network knows something; a tenth is ignored."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(shape[0], classes, *shape[1:]))).astype(np.float32).astype(np.float64)
    labels = (logits + 2 * rng.gumbel(size=logits.shape)).argmax(1).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = 255
    return logits, labels


def test_by_hand() -> None:
    """Four pixels predicted with 0.8, three of them right: off by 0.05; the likelihood is that of 0.8 and 0.2."""
    logits = np.broadcast_to(np.log([[0.8], [0.2]]), (1, 2, 4))

    found = counted(logits, np.array([[0, 0, 1, 0]], np.uint8))

    assert found.ece() == pytest.approx(0.05, abs=1e-6)
    assert found.nll() == pytest.approx(-(3 * np.log(0.8) + np.log(0.2)) / 4, abs=1e-6)


@pytest.mark.parametrize(("shape", "classes"), [((5, 17, 13), 2), ((3, 4, 9, 8), 4)], ids=["2d", "3d"])
def test_equal_to_numpy_and_monai(shape: tuple[int, ...], classes: int) -> None:
    """Over all pixels, of each unit, and of each predicted class; ignored pixels count for nothing."""
    logits, labels = random_case(shape, classes)
    found = counted(logits, labels)
    p = np.moveaxis(softmax(logits), 1, -1)
    for unit in (slice(None), *(slice(k, k + 1) for k in range(shape[0]))):
        kept = labels[unit] != 255
        of, truth = p[unit][kept], labels[unit][kept]
        top, right = of.max(-1), of.argmax(-1) == truth
        picked = found.of(unit)
        assert picked.ece() == pytest.approx(reference(top, right), abs=1e-6)
        assert picked.nll() == pytest.approx(-np.log(of[np.arange(len(truth)), truth]).mean(), rel=1e-5)
        for k in range(classes):
            own = of.argmax(-1) == k
            assert picked.ece(k) == pytest.approx(reference(top[own], right[own]), abs=1e-6)
        theirs = calibration_binning(
            torch.from_numpy(top)[None, None], torch.from_numpy(right.astype(np.float64))[None, None], BINS, right=False
        )
        confidence, accuracy, count = (part[0, 0].numpy() for part in theirs)
        gaps = np.nan_to_num(np.abs(confidence - accuracy)) * count
        assert picked.ece() == pytest.approx(gaps.sum() / count.sum(), abs=1e-6)


def test_regions_are_a_question_each() -> None:
    """Regions that overlap have no most probable one: each is a yes or no, and the probability of the answer counts."""
    logits, labels = random_case((4, 11, 7), 3)
    regions = ((1, 2), (2,))
    members = torch.zeros(2, 256)
    for number, of in enumerate(regions):
        members[number, list(of)] = 1

    found = counted(logits[:, :2], labels, members=members)

    kept = labels != 255
    p = 1 / (1 + np.exp(-logits[:, :2]))
    tops, rights, losses = [], [], []
    for number, of in enumerate(regions):
        yes, truth = p[:, number][kept], np.isin(labels, of)[kept]
        top, right = np.maximum(yes, 1 - yes), (yes > 0.5) == truth
        assert found.ece(number) == pytest.approx(reference(top, right), abs=1e-6)
        tops.append(top)
        rights.append(right)
        losses.append(-np.log(np.where(truth, yes, 1 - yes)))
    assert found.ece() == pytest.approx(reference(np.concatenate(tops), np.concatenate(rights)), abs=1e-6)
    assert found.nll() == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)


def test_batches_change_no_count() -> None:
    """What is reported must not depend on how much fits into memory."""
    logits, labels = random_case((6, 9, 9), 3)
    units = np.array([0, 0, 1, 1, 1, 2])
    one, all_at_once = (counted(logits, labels, units=units, batch=size) for size in (1, 6))

    for name in ("count", "correct", "confidence"):
        np.testing.assert_array_equal(getattr(one, name), getattr(all_at_once, name))
    assert one.scores() == pytest.approx(all_at_once.scores())


def test_classes_that_the_caller_has_are_not_looked_for_again() -> None:
    """Handed in, the most probable classes give the same counts, in whatever type of integer."""
    logits, labels = random_case((3, 9, 7), 4)
    parts = (torch.from_numpy(logits).bfloat16(), torch.from_numpy(labels).long(), torch.tensor([0, 0, 1]))
    found = []
    for predicted in (None, parts[0].argmax(1), parts[0].argmax(1).to(torch.uint8)):
        counter = CalibrationCounter(2, 4, device="cpu", ignore_index=255)
        counter.add(*parts, predicted)
        found.append(counter.counts())

    for other in found[1:]:
        for name in ("count", "correct", "confidence", "log_loss"):
            assert np.array_equal(getattr(found[0], name), getattr(other, name))


def test_certain_and_ignored() -> None:
    """A probability of 1 lies in the last bin, and a unit of which nobody knows the truth has no value."""
    logits = np.zeros((2, 2, 3))
    logits[:, 1] = 200
    labels = np.array([[1, 1, 1], [255, 255, 255]], np.uint8)

    found = counted(logits, labels)

    assert found.count[0, 1, -1] == 3
    assert found.of([0]).scores() == {"ece": 0.0, "nll": 0.0}
    assert found.of([1]).scores() == {"ece": None, "nll": None}


def test_what_is_no_number_stays_none() -> None:
    """A network that has diverged must not look well calibrated."""
    logits = np.zeros((1, 2, 3))
    logits[0, 0, 1] = np.nan

    found = counted(logits, np.zeros((1, 3), np.uint8))

    assert np.isnan([found.ece(), found.nll()]).all()  # type: ignore[list-item]


def test_the_stored_bins_give_the_error_again() -> None:
    """Whoever draws the diagram needs nothing else."""
    logits, labels = random_case((3, 20, 20), 3)
    found = counted(logits, labels)

    document = found.as_dict(("ground", "disc", "ring"), regions=False)

    for part, expected in ((document, found.ece()), (document["per_class"]["ring"], found.ece(2))):
        rows = zip(part["count"], part["accuracy"], part["confidence"], strict=True)
        total = sum(part["count"])
        assert sum(n * abs(a - c) for n, a, c in rows if n) / total == pytest.approx(expected)
    assert document["predictions"] == (labels != 255).sum()
