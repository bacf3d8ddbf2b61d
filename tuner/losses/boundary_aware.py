"""The boundary-aware loss: a head of its own learns how far every pixel is from its object's border."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.losses.function import segmentation_loss
from tuner.losses.reductions import window_mean
from tuner.losses.target_maps import target_map
from tuner.losses.view import View

SCALES = (3, 7, 15)
HIDDEN = 32


class DistanceHead(nn.Module):
    """A small network from class probabilities, at the pixel and averaged around it, to the scores of K bins.

    It works in any number of dimensions, starts the same each time, and is trained with the segmentation network.
    """

    def __init__(self, *, classes: int, bins: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        inputs = classes * (1 + len(SCALES))
        self.first = nn.Parameter(torch.randn(HIDDEN, inputs, generator=generator) * (2 / inputs) ** 0.5)
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.last = nn.Parameter(torch.randn(bins, HIDDEN, generator=generator) * (1 / HIDDEN) ** 0.5)
        self.last_bias = nn.Parameter(torch.zeros(bins))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return scores [B, K, *S] from probabilities [B, C, *S]."""
        around = [window_mean(probabilities, size) for size in SCALES]
        inputs = torch.cat([probabilities, *around], 1).movedim(1, -1)
        kind = inputs.dtype
        hidden = torch.relu(F.linear(inputs, self.first.to(kind), self.first_bias.to(kind)))
        return F.linear(hidden, self.last.to(kind), self.last_bias.to(kind)).movedim(-1, 1)


@segmentation_loss()
def boundary_aware(
    view: View,
    *,
    state: DistanceHead,
    boundary_head: Tensor | None = None,
    own_distance: Tensor | None = None,
    radius: int,
    bins: int,
) -> Tensor:
    """Boundary-aware loss (Hayder, He, Salzmann 2017): mean over V and K of the bins' binary cross-entropies.

    The bins are those of `distance_bins`. Their scores are `boundary_head` [B, K, *S] where the network has such a
    head; otherwise the loss brings its own, on top of the probabilities. The paper is about instances; here an
    object is a connected piece of a foreground class, and the head serves the training only.
    """
    distance = target_map(view, "own_distance", own_distance)
    if boundary_head is None:
        boundary_head = state(view.probabilities.reshape(view.logits.shape))
    return bin_entropy(boundary_head, distance_bins(view, distance, radius=radius, bins=bins), view)


def distance_bins(view: View, distance: Tensor, *, radius: int, bins: int) -> Tensor:
    """Return [B, *S]: the bin floor(D bins / (radius + 1)) of D = min(ceil(distance), radius), 0 on background."""
    capped = distance.ceil().clamp_max(radius)
    inside = torch.where(view.labels > 0, capped, 0)
    return (inside * bins / (radius + 1)).floor().long()


def bin_entropy(scores: Tensor, bins: Tensor, view: View) -> Tensor:
    """Return the mean over valid pixels and bins of the sigmoid cross-entropy of scores [B, K, *S]."""
    clean = scores if view.void is None else torch.where(view.void.unsqueeze(1), 0, scores)
    at_bin = clean.gather(1, bins.unsqueeze(1)).squeeze(1)
    value = (F.softplus(clean).sum(1) - at_bin).flatten(1) * view.valid
    return value.sum() / (view.n_valid * scores.shape[1])
