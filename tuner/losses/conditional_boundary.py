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
from tuner.losses.softmax_stats import constant, on_host, picked_places

CONTEXT, CENTRE, PULL = 1.0, 0.2, 2.0
MIN_NORM = 1e-4
MAX_ANCHORS = 8192
GROUP = 2**24
"""How many features a device gathers at once; the host, whose cache is small, takes one offset after the other."""


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
        view, near, _resize(features, view), weight=classifier_weight, bias=classifier_bias, window=window
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
    released code drops class 0 from the context; ours does not. Of more than MAX_ANCHORS anchors in a batch every
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
    around = anchors.neighbours(own.dtype)
    kinds = (around.places, around.same, around.right, around.inner)
    if on_host(own):
        parts = [kind.unbind() for kind in kinds]
    else:
        parts = [torch.split(kind, max(1, GROUP // own.numel())) for kind in kinds]
    for places, same, right, inner in zip(*parts, strict=True):
        other = rows[places]
        same_sum = same_sum + _sum(other, same)
        right_sum = right_sum + _sum(other, right)
        gap = (F.cosine_similarity(own, other, dim=-1, eps=MIN_NORM) - same).square()
        context = context + ((gap * inner).sum(-1) / inner.sum(-1).clamp_min(1)).sum()
    same, right = around.same.sum(0), around.right.sum(0)
    every = same_sum / (same + 1e-5).unsqueeze(1)
    hit = right_sum / (right + 1e-5).unsqueeze(1)
    sure = anchors.is_right & (right > 0)
    labels, classes = anchors.labels, view.classes
    centre = _mean_of_classes(_entropy(every, labels, weight, bias), labels, same > 0, classes)
    centre = centre + _mean_of_classes(_entropy(hit, labels, weight, bias), labels, sure, classes)
    pull = _mean_of_classes((own - hit.detach()).square().mean(1), labels, sure, classes)
    return BoundaryParts(context / len(anchors.offsets), centre, pull)


def _sum(other: Tensor, kept: Tensor) -> Tensor:
    """Return other [K, D] times kept [K], or the sum over the first axis of [G, K, D] times [G, K]."""
    product = other * kept.unsqueeze(-1)
    return product if product.ndim == 2 else product.sum(0)


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Where each of O offsets leads, and as 0 and 1: same class, rightly predicted, pair counts; all [O, K]."""

    places: Tensor
    same: Tensor
    right: Tensor
    inner: Tensor


@dataclass(frozen=True, slots=True)
class _Anchors:
    """Anchors [K], numbered through the batch, with what is known of every pixel of the batch [B N].

    `used` [K] says which of them there are; None where it is all. Only the host can have as many as there are.
    """

    places: Tensor
    used: Tensor | None
    sizes: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    every_label: Tensor
    every_right: Tensor
    every_valid: Tensor

    @classmethod
    def of(cls, near: Tensor, labels: Tensor, guess: Tensor, valid: Tensor, window: int) -> "_Anchors":
        reach = range(-(window // 2), window // 2 + 1)
        offsets = tuple(step for step in itertools.product(reach, repeat=near.ndim - 1) if any(step))
        flags, used = near.flatten(), None
        if on_host(flags):
            places = flags.nonzero().squeeze(1)
            places = places[:: max(1, -(-len(places) // MAX_ANCHORS))]
        else:
            thinning = (flags.sum() + (MAX_ANCHORS - 1)) // MAX_ANCHORS
            places, used = picked_places(flags, min(MAX_ANCHORS, len(flags)), thinning.clamp_min(1))
        right = (guess == labels) & valid
        sizes = tuple(near.shape[1:])
        return cls(places, used, sizes, offsets, labels.flatten(), right.flatten(), valid.flatten())

    @property
    def labels(self) -> Tensor:
        return self.every_label[self.places]

    @property
    def is_right(self) -> Tensor:
        return self.every_right[self.places]

    def neighbours(self, kind: torch.dtype) -> _Neighbours:
        device = self.places.device
        limits = constant(self.sizes, device)
        strides = constant([math.prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes))], device)
        steps = constant(self.offsets, device)
        coordinates = self.places.unsqueeze(1) // strides % limits
        reach = max(max(offset) for offset in self.offsets)
        central = ((coordinates >= reach) & (coordinates < limits - reach)).all(1)
        ahead = coordinates + steps.unsqueeze(1)
        inside = ((ahead >= 0) & (ahead < limits)).all(-1)
        places = torch.where(inside, self.places + (steps * strides).sum(1, keepdim=True), self.places)
        known = inside & self.every_valid[places]
        if self.used is not None:
            known &= self.used
        same = known & (self.every_label[places] == self.labels)
        right = same & self.every_right[places]
        return _Neighbours(places, same.to(kind), right.to(kind), (central & known).to(kind))


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


def _resize(features: Tensor, view: LossInputs) -> Tensor:
    size = view.labels.shape[1:]
    features = features.to(view.logits.dtype)
    if features.shape[2:] == size:
        return features
    return F.interpolate(features, size=tuple(size), mode="bilinear" if len(size) == 2 else "trilinear")
