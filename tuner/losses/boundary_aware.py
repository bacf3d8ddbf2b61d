"""The boundary-aware loss: a head of its own learns how far every pixel is from its object's border."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.errors import LossInputError
from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.distance_transform import target_map

SCALES = (2, 4, 8)
HIDDEN = 16


class DistanceHead(nn.Module):
    """A small network from class probabilities, at the pixel and around it, to the scores of K distance bins.

    After `adopt_features` it works on the segmentation network's features instead. What lies around is averaged over
    blocks of 2, 4 and 8 pixels, mixed there, and interpolated back. The head works in any number of dimensions, starts
    the same each time, and is trained with the segmentation network.
    """

    def __init__(self, *, classes: int, bins: int) -> None:
        super().__init__()
        self.on_features = False
        self.bins = bins
        self._start(classes)

    def adopt_features(self, channels: int) -> None:
        """Start anew on features of so many channels; only before an optimizer knows the parameters."""
        self.on_features = True
        self._start(channels)

    def _start(self, channels: int) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = channels * (1 + len(SCALES))
        first = torch.randn(1 + len(SCALES), HIDDEN, channels, generator=generator)
        self.first = nn.Parameter(first * (2 / inputs) ** 0.5)
        self.last = nn.Parameter(torch.randn(self.bins, HIDDEN, generator=generator) * (1 / HIDDEN) ** 0.5)
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.last_bias = nn.Parameter(torch.zeros(self.bins))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return scores [B, K, *S] from probabilities [B, C, *S]."""
        first = self.first.to(probabilities.dtype)
        hidden = _mix(probabilities, first[0], self.first_bias)
        size = list(probabilities.shape[2:])
        pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
        way = "bilinear" if len(size) == 2 else "trilinear"
        for scale, weight in zip(SCALES, first[1:], strict=True):
            if min(size) >= scale:
                around = _mix(pool(probabilities, scale), weight, None)
                hidden = hidden + F.interpolate(around, size=size, mode=way, align_corners=False)
        return _mix(torch.relu(hidden), self.last.to(hidden.dtype), self.last_bias)


def _mix(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Mix the channels of maps [B, I, *S] by weight [O, I]."""
    mixed = torch.matmul(weight, maps.flatten(2)).reshape(len(maps), len(weight), *maps.shape[2:])
    return mixed if bias is None else mixed + bias.to(mixed.dtype).view(-1, *(1,) * (maps.ndim - 2))


@segmentation_loss()
def boundary_aware(
    view: LossInputs,
    *,
    state: DistanceHead,
    boundary_head: Tensor | None = None,
    features: Tensor | None = None,
    own_distance: Tensor | None = None,
    radius: int,
    bins: int,
) -> Tensor:
    """Boundary-aware loss (Hayder, He, Salzmann 2017): mean over V and K of the bins' binary cross-entropies.

    The bins are those of `distance_bins`. Their scores are `boundary_head` [B, K, *S] where the network has such a
    head; otherwise the loss brings its own, on top of `features` [B, D, *S] where it was built for them (as a training
    does), else of the probabilities. The paper is about instances; here an
    object is a connected piece of a foreground class, and the head serves the training only.
    """
    distance = target_map(view, "own_distance", own_distance)
    if boundary_head is None:
        boundary_head = state(_seen_by(state, view, features))
    wanted = (len(view.labels), bins, *view.labels.shape[1:])
    if tuple(boundary_head.shape) != wanted:
        raise LossInputError(f"the head's scores are {list(boundary_head.shape)}: they must be {list(wanted)}.")
    return bin_entropy(boundary_head, distance_bins(view, distance, radius=radius, bins=bins), view)


def _seen_by(head: DistanceHead, view: LossInputs, features: Tensor | None) -> Tensor:
    if not head.on_features:
        return view.probabilities.reshape(view.logits.shape)
    wanted = (len(view.labels), head.first.shape[2], *view.labels.shape[1:])
    if features is None or tuple(features.shape) != wanted:
        found = "none" if features is None else list(features.shape)
        raise LossInputError(f"the head was built for features {list(wanted)}, found {found}.")
    return features.to(view.logits.dtype)


def distance_bins(view: LossInputs, distance: Tensor, *, radius: int, bins: int) -> Tensor:
    """Return [B, *S]: the bin floor(D bins / (radius + 1)) of D = min(ceil(distance), radius), 0 on background."""
    capped = distance.ceil().clamp_max(radius)
    inside = torch.where(view.labels > 0, capped, 0)
    return (inside * bins / (radius + 1)).floor().long()


def bin_entropy(scores: Tensor, bins: Tensor, view: LossInputs) -> Tensor:
    """Return the mean over valid pixels and bins of the sigmoid cross-entropy of scores [B, K, *S]."""
    clean = scores if view.void is None else torch.where(view.void.unsqueeze(1), 0, scores)
    at_bin = clean.gather(1, bins.unsqueeze(1)).squeeze(1)
    value = (F.softplus(clean).sum(1) - at_bin).flatten(1) * view.valid
    return value.sum() / (view.n_valid * scores.shape[1])
