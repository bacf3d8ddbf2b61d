"""Confusion counts on the device that holds the predictions: one bincount for a whole batch."""

import torch
from torch import Tensor


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
