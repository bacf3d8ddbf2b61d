"""Topology losses for thin structures and small objects: clDice, cbDice, skeleton recall, blob loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tuner.losses.autograd import class_mean, quotient
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import one_hot
from tuner.losses.distance_transform import squared_border_distances, target_map
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
        t = one_hot(view).reshape(shape)[:, 1:]
        true_lines = soft_skeleton(t, iterations)
    dims = tuple(range(2, p.ndim))
    lines = soft_skeleton(p, iterations)
    if view.void is not None:
        # a line beside a void region may lie on it; void pixels have no say
        lines = lines.masked_fill(view.void.unsqueeze(1), 0)
    precision = quotient((lines * t).sum((0, *dims)) + smooth, lines.sum((0, *dims)) + smooth)
    recall = quotient((true_lines * p).sum((0, *dims)) + smooth, true_lines.sum((0, *dims)) + smooth)
    return _mean_of_harmonic(view, precision, recall, classes)


@segmentation_loss()
def cbdice(
    view: LossInputs, *, signed_distance: Tensor | None = None, iterations: int, smooth: float, classes: str
) -> Tensor:
    """Centerline boundary Dice (Shi et al. 2024), sums over the batch, mean over the foreground classes. In [0, 1].

        1 - 2 a b / (a + b),   a = (sum I_P p D_T + s) / (sum I_P p R + s),   b = (sum I_T D_P p + s) / (sum I_T R' + s)

    T is the target and P where p is above 1/2, both with the skeletons of `soft_cldice`. D is the distance to the
    outside, R that of the skeleton, each divided by the largest radius of the skeleton in its image, D at most 1; I on
    the skeleton is (1 + largest - radius) / largest, squared in 3-D: thin vessels count as much as thick ones. Under
    the sums R is the other mask's radius on its skeleton and the own one elsewhere. Masks, skeletons and distances
    have no gradient, p has. Void pixels are background. The authors' code is one loss of all foreground
    classes, and the negative of this one less 1; MONAI has none.
    """
    shape = view.logits.shape
    p = view.probabilities.reshape(shape)[:, 1:]
    signed = target_map(view, "signed_distance", signed_distance)[:, 1:]
    with torch.no_grad():
        t = one_hot(view).reshape(shape)[:, 1:] > 0
        found = p > 0.5
        away = squared_border_distances(found.flatten(0, 1)).view_as(found).to(p.dtype).sqrt()
        truth = _tube(t, 1 - signed, iterations)
        guess = _tube(found, away, iterations)
    near, far = guess.radius * p, truth.radius
    on_guess, on_truth = guess.bone_weight * p, truth.bone_weight
    dims = (0, *range(2, p.ndim))
    either = torch.where((guess.radius > 0) & (far == 0), near, far)
    other = torch.where((far > 0) & (guess.radius == 0), far, near)
    precision = quotient((on_guess * truth.depth).sum(dims) + smooth, (on_guess * either).sum(dims) + smooth)
    recall = quotient((on_truth * guess.depth * p).sum(dims) + smooth, (on_truth * other).sum(dims) + smooth)
    return _mean_of_harmonic(view, precision, recall, classes)


@dataclass(frozen=True, slots=True)
class _Tube:
    """Of masks [B, C, *S]: depth in them, radius on their skeletons, both in largest radii, and weight of skeletons."""

    depth: Tensor
    radius: Tensor
    bone_weight: Tensor


def _tube(mask: Tensor, distance: Tensor, iterations: int) -> _Tube:
    """Measure masks [B, C, *S] bool; distance is that to the outside, at least 1 inside, whatever it is elsewhere."""
    depth = torch.where(mask, distance.clamp_min(1), 0)
    bones = soft_skeleton(mask.to(depth.dtype), iterations) > 0.5
    radius = torch.where(bones, depth, 0)
    largest = radius.amax(tuple(range(2, mask.ndim)), keepdim=True).clamp_min(1)
    weight = torch.where(bones, (1 + largest - radius) / largest, 0)
    return _Tube(torch.minimum(depth, largest) / largest, radius / largest, weight if mask.ndim == 4 else weight**2)


def _mean_of_harmonic(view: LossInputs, precision: Tensor, recall: Tensor, classes: str) -> Tensor:
    """Return 1 less the harmonic mean of two rates of the foreground classes [C - 1], averaged over these."""
    both = precision + recall
    score = torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1), 0)
    counts = view.counts.sum(0, keepdim=True)
    units = (counts.sum(1) > 0).to(score.dtype)
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
