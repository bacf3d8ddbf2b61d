"""The active boundary loss: predicted borders are drawn, step by step, towards the true ones."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.batch import LossInputs, segmentation_loss
from tuner.losses.distance_transform import target_map
from tuner.losses.softmax_stats import constant, on_host, picked_places

MIN_DIVERGENCE = 1e-5
GROWTH = 1.2
FAR = 1e5
# down, up, left, right, up-right, down-right, up-left, down-left: ties go to the first, as in the authors' code
STEPS_2D = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
STEPS_3D = tuple(step for step in itertools.product((0, 1, -1), repeat=3) if any(step))


@segmentation_loss()
def active_boundary(
    view: LossInputs,
    *,
    label_border_distance: Tensor | None = None,
    boundary_share: float,
    theta: float,
    label_smoothing: float,
) -> Tensor:
    """Active boundary loss (Wang et al. 2022), the released code without its faults; 0 where there is no border.

    Where neighbouring predictions differ most (at most `boundary_share` of an image, widened by a pixel), the loss
    asks the divergence to the neighbour that is nearest to a true border to be the largest: cross-entropy over the
    eight neighbours (26 in 3-D) with label smoothing, times min(distance, theta) / theta, mean over these pixels.
    The released code truncates distances to integers and sets its threshold by the batch instead of the image.
    """
    distance = target_map(view, "label_border_distance", label_border_distance)
    return direction_loss(view, distance, boundary_share=boundary_share, theta=theta, label_smoothing=label_smoothing)


def direction_loss(
    view: LossInputs, distance: Tensor, *, boundary_share: float, theta: float, label_smoothing: float
) -> Tensor:
    """Return the loss for distances [B, *S] to the true borders, less one; negative in images without a border."""
    logits = view.clean_logits
    with torch.no_grad():
        log_p = torch.log_softmax(logits, 1)
        chosen = _Chosen.of(view, log_p, distance, boundary_share)
        near = _pixels_of(log_p, chosen.neighbours)
    if len(chosen.pixels) == 0:
        return logits.sum() * 0
    centre = torch.log_softmax(_pixels_of(logits, chosen.pixels), -1)
    divergence = (near.exp() * (near - centre.unsqueeze(1))).sum(-1)
    outcome = torch.log_softmax(divergence, 1)
    directions = outcome.shape[1]
    share = label_smoothing / directions
    aimed = outcome.gather(1, chosen.direction.unsqueeze(1)).squeeze(1)
    entropy = -(1 - label_smoothing) * aimed - share * (outcome.sum(1) - aimed)
    pull = distance.flatten()[chosen.pixels].clamp(max=theta) / theta
    if chosen.used is None:
        return (entropy * pull).mean()
    return torch.where(chosen.used, entropy * pull, 0).sum() / chosen.used.sum().clamp_min(1)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The pixels to move [K], their neighbours [K, D] (replicated at the edge), and the direction to go [K].

    `used` [K] says which of them are meant; None where all are. Only the host can have as many as there are.
    """

    pixels: Tensor
    neighbours: Tensor
    direction: Tensor
    used: Tensor | None

    @classmethod
    def of(cls, view: LossInputs, log_p: Tensor, distance: Tensor, share: float) -> "_Chosen":
        steps = STEPS_2D if distance.ndim == 3 else STEPS_3D
        moving = _predicted_borders(view, log_p, share) & (distance >= 0)
        if view.void is not None:
            moving &= ~view.void
        sizes = distance.shape[1:]
        used = None
        if on_host(moving):
            pixels = moving.flatten().nonzero().squeeze(1)
        else:
            # a border pixel moves at most itself and its neighbours
            most = (len(steps) + 1) * len(distance) * _largest_count(share, math.prod(sizes))
            pixels, used = picked_places(moving.flatten(), min(max(most, 1), moving.numel()))
        image = pixels // math.prod(sizes)
        places = _coordinates(pixels % math.prod(sizes), sizes)
        offsets = constant(steps, pixels.device)
        ahead = places.unsqueeze(1) + offsets
        limits = constant([side - 1 for side in sizes], pixels.device)
        inside = ((ahead >= 0) & (ahead <= limits)).all(-1)
        flat = _flat_index(torch.minimum(ahead.clamp_min(0), limits), sizes) + (image * math.prod(sizes)).unsqueeze(1)
        values = distance.flatten()
        around = torch.where(inside, values[flat], FAR)
        best = torch.cat([around, values[pixels].unsqueeze(1)], 1).argmin(1)
        keep = best < len(steps)
        if used is not None:
            return cls(pixels, flat, best.clamp_max(len(steps) - 1), used & keep)
        return cls(pixels[keep], flat[keep], best[keep], None)


def _largest_count(share: float, pixels: int) -> int:
    """Return how many pixels of an image may be taken for predicted border."""
    return min(int(share * pixels), pixels - 1)


def _predicted_borders(view: LossInputs, log_p: Tensor, share: float) -> Tensor:
    """Return [B, *S]: the pixels that differ most from the next one along any axis, and those around them."""
    p = log_p.exp()
    own = (p * log_p).sum(1)
    change = torch.zeros_like(own)
    for axis in range(1, own.ndim):
        length = own.shape[axis] - 1
        here = own.narrow(axis, 0, length)
        there = (p.narrow(axis + 1, 0, length) * log_p.narrow(axis + 1, 1, length)).sum(1)
        differs = here - there
        if view.void is not None:
            apart = view.void.narrow(axis, 0, length) | view.void.narrow(axis, 1, length)
            differs = differs.masked_fill(apart, 0)
        change.narrow(axis, 0, length).add_(differs)
    flat = change.flatten(1)
    most = _largest_count(share, flat.shape[1])
    limit = torch.topk(flat, most + 1, dim=1).values[:, -1:]
    # the smallest step of the authors' grid 1e-5 * 1.2^m that leaves at most `most` pixels
    grid = torch.log((limit / MIN_DIVERGENCE).clamp_min(1)).div(math.log(GROWTH)).sub(1e-9).ceil().clamp_min(0)
    border = (flat > MIN_DIVERGENCE * GROWTH**grid).to(log_p.dtype).view_as(own).unsqueeze(1)
    pool = F.max_pool2d if own.ndim == 3 else F.max_pool3d
    return pool(border, 3, stride=1, padding=1).squeeze(1) > 0


def _pixels_of(maps: Tensor, pixels: Tensor) -> Tensor:
    """Return [*pixels.shape, C] of maps [B, C, *S], pixels numbered through the whole batch."""
    area = math.prod(maps.shape[2:])
    flat = maps.flatten(2)
    return flat[pixels // area, :, pixels % area]


def _coordinates(flat: Tensor, sizes: tuple[int, ...]) -> Tensor:
    places = []
    for size in reversed(sizes):
        places.append(flat % size)
        flat = flat // size
    return torch.stack(places[::-1], -1)


def _flat_index(places: Tensor, sizes: tuple[int, ...]) -> Tensor:
    flat = places[..., 0]
    for axis, size in enumerate(sizes[1:], start=1):
        flat = flat * size + places[..., axis]
    return flat
