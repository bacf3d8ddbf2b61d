"""Topology losses for thin structures and small objects: clDice, skeleton recall, blob loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from tuner.losses.autograd import class_mean, quotient
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.distance_transform import target_map
from tuner.losses.softmax_stats import on_host


@segmentation_loss()
def blob(view: LossInputs, *, objects: Tensor | None = None, smooth: float) -> Tensor:
    """Blob loss (Kofler et al. 2023) with Dice: the mean Dice loss over the objects of each image. In [0, 1].

    An object is a connected component of a foreground class. Its Dice is taken over the image without the other
    objects of its class: TP = sum of p_c over it, P = TP + sum of p_c over all pixels that are not of class c.
    Images without an object add nothing. Ours: MONAI has none.
    """
    numbers = target_map(view, "objects", objects).flatten(1).long()
    # every object has a pixel: a bound that the host knows without waiting for a device
    most = int(numbers.max()) if on_host(numbers) else numbers.shape[1]
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


@segmentation_loss()
def soft_cldice(view: LossInputs, *, iterations: int, smooth: float, classes: str) -> Tensor:
    """Soft clDice (Shit et al. 2021), sums over the batch, mean over the foreground classes. In [0, 1].

        1 - 2 a b / (a + b),  a = (sum S(p) t + s) / (sum S(p) + s),  b = (sum S(t) p + s) / (sum S(t) + s)

    S is the soft skeleton by `iterations` erosions: at least half the width of the widest tube. Void pixels are
    background to it. Ours equals MONAI's `SoftclDiceLoss` for one image of one foreground class; that is a mean over
    images, with all classes in one sum, and knows no ignore_index.
    """
    shape = view.logits.shape
    p = view.probabilities.reshape(shape)[:, 1:]
    with torch.no_grad():
        truth = torch.zeros_like(view.probabilities).scatter_(1, view.flat_labels.unsqueeze(1), view.valid.unsqueeze(1))
        t = truth.reshape(shape)[:, 1:]
        true_lines = soft_skeleton(t, iterations)
    dims = tuple(range(2, p.ndim))
    lines = soft_skeleton(p, iterations)
    if view.void is not None:
        # a line beside a void region may lie on it; void pixels have no say
        lines = lines.masked_fill(view.void.unsqueeze(1), 0)
    precision = quotient((lines * t).sum((0, *dims)) + smooth, lines.sum((0, *dims)) + smooth)
    recall = quotient((true_lines * p).sum((0, *dims)) + smooth, true_lines.sum((0, *dims)) + smooth)
    both = precision + recall
    score = torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1), 0)
    counts = view.counts.sum(0, keepdim=True)
    units = (counts.sum(1) > 0).to(p.dtype)
    return class_mean((1 - score).unsqueeze(0), counts[:, 1:], units, classes=classes, weights=view.class_weights)


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of maps [B, C, *S] in [0, 1]: what every erosion loses by opening."""
    eroded = _erode(maps)
    bones = torch.relu(maps - _dilate(eroded))
    for _ in range(iterations):
        maps, eroded = eroded, _erode(eroded)
        lost = torch.relu(maps - _dilate(eroded))
        bones = bones + torch.relu(lost - bones * lost)
    return bones


def _erode(maps: Tensor) -> Tensor:
    """Return the minimum over each pixel and its neighbours along the axes."""
    least = maps
    for axis in range(2, maps.ndim):
        least = torch.minimum(least, _with_neighbour(maps, axis, torch.minimum))
    return least


def _dilate(maps: Tensor) -> Tensor:
    """Return the maximum over each pixel and all its neighbours, diagonal ones too."""
    for axis in range(2, maps.ndim):
        maps = torch.maximum(maps, _with_neighbour(maps, axis, torch.maximum))
    return maps


def _with_neighbour(maps: Tensor, axis: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Choose among the two neighbours along an axis; the edge is its own neighbour (torch's pooling is far slower)."""
    length = maps.shape[axis] - 1
    before = torch.cat([maps.narrow(axis, 0, 1), maps.narrow(axis, 0, length)], axis)
    after = torch.cat([maps.narrow(axis, 1, length), maps.narrow(axis, length, 1)], axis)
    return choose(before, after)


@segmentation_loss()
def skeleton_recall(view: LossInputs, *, skeleton: Tensor | None = None, smooth: float, classes: str) -> Tensor:
    """Skeleton recall loss (Kirchhoff et al. 2024): mean_{c > 0} 1 - (sum p_c s_c + s) / (sum s_c + s). In [0, 1].

    s_c are the pixels of class c on the target's skeleton: the thin centre lines of the foreground, dilated twice, as
    in the authors' code, which returns minus recall. Sums over the batch. MONAI has none.
    """
    bones = target_map(view, "skeleton", skeleton).flatten(1) * view.valid
    sizes = view.class_sums(bones).sum(0, keepdim=True)
    found = view.class_sums(view.p_true * bones).sum(0, keepdim=True)
    recall = quotient(found + smooth, sizes + smooth)
    units = (view.counts.sum() > 0).to(found.dtype).unsqueeze(0)
    return class_mean((1 - recall)[:, 1:], sizes[:, 1:], units, classes=classes, weights=view.class_weights)
