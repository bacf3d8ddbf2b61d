"""The conditional boundary loss: pixels near borders are drawn to their own class and away from the others."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.errors import LossInputError
from tuner.losses.autograd import TINY
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.distance_transform import target_map

CONTEXT, CENTRE, PULL = 1.0, 0.2, 2.0
MIN_NORM = 1e-4
MAX_ANCHORS = 8192


@segmentation_loss()
def conditional_boundary(
    view: LossInputs,
    *,
    features: Tensor | None = None,
    classifier_weight: Tensor | None = None,
    classifier_bias: Tensor | None = None,
    own_distance: Tensor | None = None,
    window: int,
    width_ratio: float,
) -> Tensor:
    """Conditional boundary loss (Wu et al. 2023): context + 0.2 centre + 2 pull, over pixels near borders.

    Near: within `width_ratio` image diagonals of a pixel of another class. The parts are those of `boundary_parts`.
    features [B, D, *S] are what the network classifies with weight [C, D] and bias [C]; where it hands over none, the
    probabilities stand for them, classified by their logarithms. Void pixels are neither alike nor different.
    """
    distance = target_map(view, "own_distance", own_distance)
    width = max(1.0, width_ratio * math.hypot(*distance.shape[1:]))
    near = (distance > 0) & (distance <= width)
    if features is None:
        features = view.probabilities.reshape(view.logits.shape)
        classifier_weight, classifier_bias = None, None
    else:
        _check_features(view, features, classifier_weight, classifier_bias)
    parts = boundary_parts(
        view, near, _sized(features, view), weight=classifier_weight, bias=classifier_bias, window=window
    )
    return CONTEXT * parts.context + CENTRE * parts.centre + PULL * parts.pull


@dataclass(frozen=True, slots=True)
class BoundaryParts:
    """The three terms, each a scalar; 0 where no anchor has the neighbours that it needs."""

    context: Tensor
    centre: Tensor
    pull: Tensor


def boundary_parts(
    view: LossInputs, near: Tensor, features: Tensor, *, weight: Tensor | None, bias: Tensor | None, window: int
) -> BoundaryParts:
    """Return the terms for the anchors `near` [B, *S], over the neighbours in a window around each.

    context: mean over neighbours of (cosine of the two features - [same class])^2, anchors a window from the edge.
    centre: cross-entropy of the classified mean of all same-class neighbours, and of the rightly predicted ones; it
    moves the features, not the classifier.
    pull: squared distance of a rightly predicted anchor to the mean of its rightly predicted same-class neighbours
    (no gradient through the mean). The last two are averaged over the anchors of a class, then over classes. The
    released code drops class 0 from the context; ours does not. Of more than MOST_ANCHORS anchors in a batch every
    second (third, ...) one is taken: they are neighbours and say nearly the same.
    """
    valid = torch.ones_like(near) if view.void is None else ~view.void
    anchors = _Anchors.of(near & valid, view.labels, view.logits.detach().argmax(1), valid, window)
    if len(anchors.places) == 0:
        nothing = features.sum() * 0
        return BoundaryParts(nothing, nothing, nothing)
    rows = features.flatten(2).transpose(1, 2).flatten(0, 1)
    own = rows[anchors.places]
    same_sum, right_sum = torch.zeros_like(own), torch.zeros_like(own)
    context = own.new_zeros(())
    neighbours = anchors.neighbours(own.dtype)
    for around in neighbours:
        other = rows[around.places]
        same_sum = same_sum + other * around.same.unsqueeze(1)
        right_sum = right_sum + other * around.right.unsqueeze(1)
        gap = (F.cosine_similarity(own, other, dim=1, eps=MIN_NORM) - around.same).square()
        context = context + (gap * around.inner).sum() / around.inner.sum().clamp_min(1)
    same, right = (torch.stack(kinds).sum(0) for kinds in zip(*((n.same, n.right) for n in neighbours), strict=True))
    every = same_sum / (same + 1e-5).unsqueeze(1)
    hit = right_sum / (right + 1e-5).unsqueeze(1)
    sure = anchors.is_right & (right > 0)
    labels, classes = anchors.labels, view.classes
    centre = _mean_of_classes(_entropy(every, labels, weight, bias), labels, same > 0, classes)
    centre = centre + _mean_of_classes(_entropy(hit, labels, weight, bias), labels, sure, classes)
    pull = _mean_of_classes((own - hit.detach()).square().mean(1), labels, sure, classes)
    return BoundaryParts(context / len(anchors.offsets), centre, pull)


@dataclass(frozen=True, slots=True)
class _Neighbour:
    """One offset: where it leads [K], and as 0 and 1 [K]: same class, and rightly predicted, and pair counts."""

    places: Tensor
    same: Tensor
    right: Tensor
    inner: Tensor


@dataclass(frozen=True, slots=True)
class _Anchors:
    """Anchors [K], numbered through the batch, with what is known of every pixel of the batch [B N]."""

    places: Tensor
    coordinates: Tensor
    sizes: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    every_label: Tensor
    every_right: Tensor
    every_valid: Tensor

    @classmethod
    def of(cls, near: Tensor, labels: Tensor, guess: Tensor, valid: Tensor, window: int) -> "_Anchors":
        reach = range(-(window // 2), window // 2 + 1)
        offsets = tuple(step for step in itertools.product(reach, repeat=near.ndim - 1) if any(step))
        where = near.nonzero()
        sizes = tuple(near.shape[1:])
        places = near.flatten().nonzero().squeeze(1)
        thinning = max(1, -(-len(places) // MAX_ANCHORS))
        where, places = where[::thinning], places[::thinning]
        right = (guess == labels) & valid
        return cls(places, where[:, 1:], sizes, offsets, labels.flatten(), right.flatten(), valid.flatten())

    @property
    def labels(self) -> Tensor:
        return self.every_label[self.places]

    @property
    def is_right(self) -> Tensor:
        return self.every_right[self.places]

    def neighbours(self, kind: torch.dtype) -> "list[_Neighbour]":
        limits = torch.tensor(self.sizes, device=self.places.device)
        strides = torch.tensor(
            [math.prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes))], device=self.places.device
        )
        reach = max(max(offset) for offset in self.offsets)
        central = ((self.coordinates >= reach) & (self.coordinates < limits - reach)).all(1)
        found = []
        for offset in self.offsets:
            step = torch.tensor(offset, device=self.places.device)
            ahead = self.coordinates + step
            inside = ((ahead >= 0) & (ahead < limits)).all(1)
            places = torch.where(inside, self.places + (step * strides).sum(), self.places)
            known = inside & self.every_valid[places]
            same = known & (self.every_label[places] == self.labels)
            right = same & self.every_right[places]
            found.append(_Neighbour(places, same.to(kind), right.to(kind), (central & known).to(kind)))
        return found


def _entropy(centres: Tensor, labels: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is None:
        return F.cross_entropy(torch.log(centres.clamp_min(TINY)), labels, reduction="none")
    offset = None if bias is None else bias.detach().to(centres.dtype)
    return F.cross_entropy(F.linear(centres, weight.detach().to(centres.dtype), offset), labels, reduction="none")


def _mean_of_classes(values: Tensor, labels: Tensor, counts: Tensor, classes: int) -> Tensor:
    """Average values [K] where `counts`, over each class, then over the classes that have any."""
    kept = counts.to(values.dtype)
    total = values.new_zeros(classes).scatter_add(0, labels, values * kept)
    number = values.new_zeros(classes).scatter_add(0, labels, kept)
    return (total / number.clamp_min(1)).sum() / (number > 0).sum().clamp_min(1)


def _check_features(view: LossInputs, features: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    if weight is None:
        raise LossInputError("features come without classifier_weight [C, D]: the loss needs both.")
    if features.ndim != view.logits.ndim or len(features) != len(view.logits):
        raise LossInputError(
            f"features are {list(features.shape)}, but logits are {list(view.logits.shape)}: "
            f"features must be [{len(view.logits)}, D, *S], at any resolution."
        )
    wanted = (view.classes, features.shape[1])
    if tuple(weight.shape) != wanted or (bias is not None and tuple(bias.shape) != wanted[:1]):
        found = f"{list(weight.shape)} and {'no bias' if bias is None else list(bias.shape)}"
        raise LossInputError(
            f"classifier_weight and classifier_bias are {found}: for {view.classes} classes and features "
            f"{list(features.shape)} they must be {list(wanted)} and {list(wanted[:1])}."
        )


def _sized(features: Tensor, view: LossInputs) -> Tensor:
    size = view.labels.shape[1:]
    features = features.to(view.logits.dtype)
    if features.shape[2:] == size:
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear" if len(size) == 2 else "trilinear")
