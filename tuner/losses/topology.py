"""Topology losses for thin structures and small objects: clDice, cbDice, skeleton recall, blob loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tuner.losses.autograd import class_mean, quotient
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.dense import one_hot
from tuner.losses.distance_transform import map_of_labels, target_map
from tuner.losses.neighbours import label_skeletons, soft_skeleton
from tuner.losses.softmax_stats import ClassSums, on_host


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
        bones = label_skeletons(view.labels, classes=view.classes - 1, iterations=iterations)
        true_lines = t * bones.unsqueeze(1)
    dims = tuple(range(2, p.ndim))
    lines = soft_skeleton(p, iterations)
    if view.void is not None:
        # a line beside a void region may lie on it; void pixels have no say
        lines = lines.masked_fill(view.void.unsqueeze(1), 0)
    precision = quotient((lines * t).sum((0, *dims)) + smooth, lines.sum((0, *dims)) + smooth)
    recall = quotient((true_lines * p).sum((0, *dims)) + smooth, true_lines.sum((0, *dims)) + smooth)
    return _mean_of_harmonic(view, precision, recall, classes)


@segmentation_loss(logs=False)
def cbdice(
    view: LossInputs, *, own_distance: Tensor | None = None, iterations: int, smooth: float, classes: str
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
    # a pixel is of one class in T, and of one at most in P: maps [B, *S] serve all classes
    p = view.probabilities
    found = _likely_class(p.detach()).view_as(view.labels)
    own = target_map(view, "own_distance", own_distance)
    away = map_of_labels(found, "own_distance", classes=view.classes).to(own.dtype)
    tubes = Tubes.of(torch.cat([view.labels, found]), torch.cat([own, away]), view.classes, iterations)
    truth, guess = tubes.halves()
    same = view.labels == found
    own_p = view.p_true.view_as(own)
    found_p = p.gather(1, found.flatten(1).unsqueeze(1)).view_as(own)
    near = guess.radius * found_p
    on_guess, on_truth = guess.bone_weight * found_p, truth.bone_weight
    sums = [
        on_guess * truth.depth * same,
        on_guess * torch.where(same & (truth.radius > 0), truth.radius, near),
        on_truth * guess.depth * same * own_p,
        on_truth * torch.where(same & (guess.radius > 0), near, truth.radius),
    ]
    of_class = torch.cat([found, found, view.labels, view.labels]).flatten(1)
    by_class: Tensor = ClassSums.apply(torch.cat(sums).flatten(1), of_class, view.classes)  # type: ignore[no-untyped-call]
    a, near_a, b, near_b = by_class.view(4, -1, view.classes).sum(1)[:, 1:] + smooth
    return _mean_of_harmonic(view, quotient(a, near_a), quotient(b, near_b), classes)


def _likely_class(p: Tensor) -> Tensor:
    """Return the foreground class of every pixel whose probability is above 1/2, [B, N] of p [B, C, N]; 0 for none."""
    # no more than one is: a product with their numbers is several times faster than a search for the largest
    numbers = torch.arange(1, p.shape[1], dtype=p.dtype, device=p.device)
    return torch.matmul(numbers, (p[:, 1:] > 0.5).to(p.dtype)).long()


@dataclass(frozen=True, slots=True)
class Tubes:
    """Of labels [M, *S]: depth in their class, radius on its skeleton, both in largest radii, and weight of skeletons.

    All are 0 on background.
    """

    depth: Tensor
    radius: Tensor
    bone_weight: Tensor

    @classmethod
    def of(cls, labels: Tensor, distance: Tensor, classes: int, iterations: int) -> "Tubes":
        """Measure labels of so many classes; distance is that to another class, 0 where there is none."""
        bones = label_skeletons(labels, classes=classes - 1, iterations=iterations)
        depth = torch.where(labels > 0, distance.clamp_min(1), 0)
        radius = torch.where(bones, depth, 0)
        places = labels.flatten(1)
        tops = radius.new_ones(len(labels), classes).scatter_reduce(1, places, radius.flatten(1), "amax")
        largest = tops.gather(1, places).view_as(depth)
        weight = torch.where(bones, (1 + largest - radius) / largest, 0)
        if labels.ndim == 4:
            weight = weight.square()
        return cls(torch.minimum(depth, largest) / largest, radius / largest, weight)

    def halves(self) -> tuple["Tubes", "Tubes"]:
        """Return those of the first half of the labels, and of the second."""
        parts = (self.depth.chunk(2), self.radius.chunk(2), self.bone_weight.chunk(2))
        first, second = (Tubes(*part) for part in zip(*parts, strict=True))
        return first, second


def _mean_of_harmonic(view: LossInputs, precision: Tensor, recall: Tensor, classes: str) -> Tensor:
    """Return 1 less the harmonic mean of two rates of the foreground classes [C - 1], averaged over these."""
    both = precision + recall
    score = torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1), 0)
    counts = view.counts.sum(0, keepdim=True)
    units = (counts.sum(1) > 0).to(score.dtype)
    return class_mean((1 - score).unsqueeze(0), counts[:, 1:], units, classes=classes, weights=view.class_weights)


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
