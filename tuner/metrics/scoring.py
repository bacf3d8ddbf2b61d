"""Scores of a case, per class, and their means.

Rules, the same for every metric:

- a class that truth and prediction both lack is not counted (None);
- a class that one of them lacks scores 0 in dice, iou and surface dice, and the diagonal of the case's volume in hd95
  and assd: finite, so that means are defined, and no worse than the volume allows;
- a mean is taken per class over the cases that counted it, then over the classes that were counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.metrics.catalog import METRICS
from tuner.metrics.overlap import OVERLAP, ClassScores, Counts, confusion_counts
from tuner.metrics.surface import KnownDistances, diagonal, surface_distances

CaseScores = dict[str, ClassScores]
_VOID = 255


def score_case(
    prediction: NDArray[Any],
    label: NDArray[Any],
    classes: int,
    ignore_index: int,
    metrics: Sequence[str],
    spacing: Sequence[float] | None = None,
    confusion: Counts | None = None,
    background: bool = True,
    known: KnownDistances | None = None,
) -> CaseScores:
    """Score one case: an image [H, W] or a volume [D, H, W].

    Args:
        prediction: [*S] integers in 0..C-1.
        label: [*S] integers in 0..C-1, or `ignore_index`: such a pixel belongs to no mask, predicted or true.
        classes: C, the background (0) included.
        ignore_index: The label that takes a pixel out.
        metrics: Names of `MASK_METRICS`.
        spacing: Size of a pixel along each axis; distances are in pixels without it.
        confusion: [C, C] counts (truth along the rows) where the caller has them already.
        background: Whether class 0 is background; otherwise it counts as every other class.
        known: Distances that earlier calls with the same label, spacing and background have measured; filled up.

    Returns:
        For each metric the values of classes 1..C-1 (0..C-1 without a background); None where the class is not counted.

    Raises:
        UnknownNameError: A metric that there is not.
        RequestError: Shapes differ, or a value is not a class.
    """
    names = [METRICS.find(name).name for name in metrics]
    if confusion is None:
        confusion = confusion_counts(prediction, label, classes=classes, ignore_index=ignore_index)
    if not background:
        prediction, label, confusion = _power(prediction, label, confusion, ignore_index)
        ignore_index = -1
    scores = {name: OVERLAP[name](confusion) for name in names if name in OVERLAP}
    surface = [name for name in names if name not in OVERLAP]
    if surface:
        scores |= _surface_scores(prediction, label, confusion, ignore_index, surface, spacing, known)
    return {name: scores[name] for name in names}


def score_masks(
    pairs: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    ignored: NDArray[np.bool_] | None,
    metrics: Sequence[str],
    spacing: Sequence[float] | None = None,
) -> CaseScores:
    """Score one case whose classes overlap: each by itself, by the rules of `score_case`.

    Args:
        pairs: Predicted and true mask of each class, [*S].
        ignored: Pixels that belong to no mask, [*S]; None: all belong.
        metrics: Names of `MASK_METRICS`.
        spacing: Size of a pixel along each axis; distances are in pixels without it.

    Returns:
        For each metric the value of every class; None where the class is not counted.
    """
    scores: CaseScores = {METRICS.find(name).name: [] for name in metrics}
    for predicted, truth in pairs:
        label = truth.astype(np.uint8)
        if ignored is not None:
            label[ignored] = _VOID
        found = score_case(predicted.astype(np.uint8), label, 2, _VOID, metrics, spacing)
        for name, values in found.items():
            scores[name] += values
    return scores


def without_absent(cases: Sequence[CaseScores], occurring: Sequence[bool]) -> list[CaseScores]:
    """Take classes that no case of the whole set truly holds out of every score: they are not counted, never 0.

    Args:
        cases: What `score_case` returned, case by case.
        occurring: For each of its classes, whether the truth of any case holds it.
    """
    return [
        {
            name: [value if occurs else None for value, occurs in zip(values, occurring, strict=True)]
            for name, values in case.items()
        }
        for case in cases
    ]


def mean_scores(
    cases: Iterable[Mapping[str, Sequence[float | None]]],
) -> tuple[dict[str, float | None], dict[str, ClassScores]]:
    """Return for each metric the mean, and the mean per class; None where nothing was counted."""
    rows = list(cases)
    per_class = {
        name: [_mean(column) for column in zip(*(row[name] for row in rows), strict=True)]
        for name in (rows[0] if rows else ())
    }
    return {name: _mean(values) for name, values in per_class.items()}, per_class


def _power(
    prediction: NDArray[Any], label: NDArray[Any], confusion: Counts, ignore_index: int
) -> tuple[NDArray[Any], NDArray[Any], Counts]:
    """Number the classes from 1, ignored pixels -1: what is ignored becomes a background that no class shares."""
    raised = np.where(label == ignore_index, -1, label.astype(np.int32) + 1)
    return prediction.astype(np.int32) + 1, raised, np.pad(confusion, ((1, 0), (1, 0)))


def _surface_scores(
    prediction: NDArray[Any],
    label: NDArray[Any],
    confusion: Counts,
    ignore_index: int,
    names: Sequence[str],
    spacing: Sequence[float] | None,
    known: KnownDistances | None,
) -> CaseScores:
    ignored = label == ignore_index
    if ignored.any():
        prediction, label = np.where(ignored, 0, prediction), np.where(ignored, 0, label)
    worst = {"hd95": diagonal(label.shape, spacing), "assd": diagonal(label.shape, spacing), "surface_dice": 0.0}
    present = (confusion.sum(0) + confusion.sum(1) > 0)[1:]
    scores: CaseScores = {name: [] for name in names}
    measured = surface_distances(prediction, label, classes=len(confusion), spacing=spacing, known=known)
    for is_present, distances in zip(present, measured, strict=True):
        for name in names:
            if distances is not None:
                scores[name].append(float(getattr(distances, name)()))
            else:
                scores[name].append(worst[name] if is_present else None)
    return scores


def _mean(values: Iterable[float | None]) -> float | None:
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else None
