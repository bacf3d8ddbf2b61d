"""How often each class occurs, counted from targets."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tuner.errors import LossInputError


def count_class_frequencies(
    targets: Tensor | Iterable[Tensor], *, num_classes: int, ignore_index: int | None = None
) -> Tensor:
    """Return the share of each class among all pixels, [num_classes] in float64, adding up to 1.

    targets: class ids of any shape, or many such tensors, as a loader gives them; pixels of `ignore_index` do not
    count. Raises LossInputError on labels out of range, and where no pixel counts.
    """
    counts = torch.zeros(num_classes, dtype=torch.float64)
    for target in [targets] if isinstance(targets, Tensor) else targets:
        if target.is_floating_point():
            raise LossInputError(f"target {list(target.shape)} {target.dtype}: class ids must be integers.")
        labels = target.long().flatten()
        if ignore_index is not None:
            labels = labels[labels != ignore_index]
        found = torch.bincount(labels.clamp_min(-1) + 1, minlength=num_classes + 1).cpu()
        if found[0] or len(found) > num_classes + 1:
            raise LossInputError(
                f"target holds labels from {int(labels.min())} to {int(labels.max())}, but there are {num_classes} "
                f"classes: labels are 0 to {num_classes - 1}, or ignore_index."
            )
        counts += found[1:]
    if counts.sum() == 0:
        raise LossInputError("there is no labelled pixel to count: the targets are empty, or all ignore_index.")
    return counts / counts.sum()
