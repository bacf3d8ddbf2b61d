"""The blob loss: every object counts the same, however small."""

import torch
from torch import Tensor

from tuner.losses.batch import View
from tuner.losses.function import segmentation_loss
from tuner.losses.target_maps import target_map


@segmentation_loss()
def blob(view: View, *, objects: Tensor | None = None, smooth: float) -> Tensor:
    """Blob loss (Kofler et al. 2023) with Dice: the mean Dice loss over the objects of each image. In [0, 1].

    An object is a connected component of a foreground class. Its Dice is taken over the image without the other
    objects of its class: TP = sum of p_c over it, P = TP + sum of p_c over all pixels that are not of class c.
    Images without an object add nothing. Ours: MONAI has none.
    """
    numbers = target_map(view, "objects", objects).flatten(1).long()
    most = int(numbers.max())
    if most == 0:
        return view.probabilities.sum() * 0
    p_true, valid = view.p_true, view.valid
    zeros = p_true.new_zeros(len(numbers), most + 1)
    found = zeros.scatter_add(1, numbers, p_true)[:, 1:]
    size = zeros.scatter_add(1, numbers, valid)[:, 1:]
    class_of = torch.zeros_like(numbers[:, :1]).expand(-1, most + 1).scatter(1, numbers, view.flat_labels)[:, 1:]
    outside = (view.probabilities.sum(-1) - view.class_sums(p_true)).gather(1, class_of)
    error = 1 - (2 * found + smooth) / (found + outside + size + smooth).clamp_min(1e-12)
    there = size > 0
    per_image = torch.where(there, error, 0).sum(1) / there.sum(1).clamp_min(1)
    with_objects = there.any(1).to(error.dtype)
    return (per_image * with_objects).sum() / with_objects.sum().clamp_min(1)
