"""Overlap metrics: Dice and IoU from confusion counts, which are counted on the predictions' device.

Symbols: C classes, class 0 the background; `confusion[t, p]` the number of pixels with truth t and prediction p.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.errors import RequestError


def confusion_by_case(
    prediction: Tensor, target: Tensor, case_of: Tensor, *, cases: int, classes: int, ignore_index: int
) -> Tensor:
    """Count pixels by case, truth and prediction, without a copy to the host and without one-hot masks.

    Args:
        prediction: [N, *S] integers in 0..C-1.
        target: [N, *S] integers in 0..C-1, or `ignore_index`.
        case_of: [N] integers in 0..cases-1, the case that a sample belongs to.
        cases: Number of cases.
        classes: C.
        ignore_index: The label that takes a pixel out.

    Returns:
        [cases, C, C] int64 on the same device, truth along dim 1.
    """
    block = classes * classes
    offset = (case_of.to(target.device, torch.int32) * block).view(-1, *[1] * (target.ndim - 1))
    joint = target.to(torch.int32, copy=True).mul_(classes).add_(prediction).add_(offset)
    # Ignored pixels are counted in one bin behind the last: a boolean index would make the device wait.
    joint.masked_fill_(target == ignore_index, cases * block)
    counts = torch.bincount(joint.flatten(), minlength=cases * block + 1)[: cases * block]
    return counts.view(cases, classes, classes)


Counts = NDArray[np.int64]
ClassScores = list[float | None]


def confusion_counts(prediction: NDArray[Any], label: NDArray[Any], *, classes: int, ignore_index: int) -> Counts:
    """Count pixels by truth and prediction.

    Args:
        prediction: [*S] integers in 0..C-1.
        label: [*S] integers in 0..C-1, or `ignore_index` where a pixel counts for nothing.
        classes: C.
        ignore_index: The label that takes a pixel out.

    Returns:
        [C, C] int64, truth along the rows.

    Raises:
        RequestError: Shapes differ, or a value is not a class.
    """
    if prediction.shape != label.shape:
        raise RequestError(f"prediction {prediction.shape} and label {label.shape} differ in shape.")
    truth, predicted = label.ravel(), prediction.ravel()
    counted = truth != ignore_index
    if not counted.all():
        truth, predicted = truth[counted], predicted[counted]
    for name, values in (("label", truth), ("prediction", predicted)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise RequestError(f"{name} holds {values.min()} to {values.max()}; classes are 0 to {classes - 1}.")
    joint = truth.astype(np.intp) * classes + predicted
    return np.bincount(joint, minlength=classes * classes).reshape(classes, classes)


def dice(confusion: Counts) -> ClassScores:
    """Dice per foreground class, 2 TP / (2 TP + FP + FN); None where truth and prediction lack the class."""
    return _per_class(confusion, lambda hit, total: 2 * hit / total)


def iou(confusion: Counts) -> ClassScores:
    """Intersection over union per foreground class, TP / (TP + FP + FN); None where both lack the class."""
    return _per_class(confusion, lambda hit, total: hit / (total - hit))


OVERLAP: Mapping[str, Callable[[Counts], ClassScores]] = {
    "dice": dice,
    "iou": iou,
}
"""The metrics for which confusion counts suffice; those of surfaces are methods of `SurfaceDistances`."""


def _per_class(confusion: Counts, ratio: Callable[[float, float], float]) -> ClassScores:
    hits = np.diagonal(confusion)
    totals = confusion.sum(0) + confusion.sum(1)
    return [ratio(float(h), float(t)) if t else None for h, t in zip(hits[1:], totals[1:], strict=True)]
