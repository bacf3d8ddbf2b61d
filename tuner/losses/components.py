"""Connected objects of a batch of label images by torch alone, for labels that are on a device: the host never waits.

Borůvka's rounds, from single pixels on: every component picks its neighbour of the least number and becomes one with
it. Being neighbours is mutual, so that only two that pick each other make a cycle. A component that is not yet whole at
least doubles in every round, so that the number of rounds is known beforehand.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def connected_objects(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, *S] int64, the numbers of `tuner.label_maps.objects`; labels [B, *S], below 1 no object."""
    pixels = math.prod(labels.shape[1:])
    own = torch.arange(labels.numel(), device=labels.device)
    roots = own
    touching = _windows(labels.int(), outside=0) == _for_windows(labels)
    touching &= _for_windows(labels > 0)
    for doublings in range(pixels.bit_length() - 1):
        roots = _merge(roots, own, touching, longest=pixels >> doublings)
    none = labels.numel()
    first = torch.full_like(own, none).scatter_reduce_(0, roots, own, "amin")[roots]
    return _number(first.view(labels.shape), own.view(labels.shape), labels, classes)


def _merge(roots: Tensor, own: Tensor, touching: Tensor, *, longest: int) -> Tensor:
    """Return the roots [B N] after one round; `longest` bounds how many components an image has that are not whole."""
    none = len(own)
    shape = touching.shape[: (touching.ndim + 1) // 2]
    here = roots.int().view(shape)
    around = _windows(here, outside=none)
    other = touching & (around != _for_windows(here))
    least = torch.where(other, around, none).flatten(len(shape)).amin(-1).flatten().long()
    picked = torch.full_like(own, none).scatter_reduce_(0, roots, least, "amin")
    picked = torch.where(picked < none, picked, own)
    # of two that picked each other the lesser stays a root
    above = torch.where((picked[picked] == own) & (own < picked), own, picked)
    for _ in range((longest - 1).bit_length()):
        above = above[above]
    return above[roots]


def _number(first: Tensor, own: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Number objects in the order of their classes, then of their first pixels; `first` [B, *S] leads to these."""
    flat, of_class = labels.flatten(1), torch.arange(1, classes, device=labels.device).view(-1, 1)
    begins = (first == own).flatten(1).unsqueeze(1) & (flat.unsqueeze(1) == of_class)
    counted = begins.flatten(1).cumsum(1)
    pixels = flat.shape[1]
    place = (flat - 1) * pixels + first.flatten(1) % pixels
    return torch.where(flat > 0, counted.gather(1, place.clamp_min(0)), 0).view(labels.shape)


def _windows(maps: Tensor, *, outside: int) -> Tensor:
    """Return [B, *S, 3, ...]: every pixel with all its neighbours, a view of the padded maps [B, *S]."""
    dims = maps.ndim - 1
    windows = F.pad(maps, (1, 1) * dims, value=outside)
    for axis in range(1, dims + 1):
        windows = windows.unfold(axis, 3, 1)
    return windows


def _for_windows(maps: Tensor) -> Tensor:
    """Return maps [B, *S] as [B, *S, 1, ...], to compare with `_windows`."""
    return maps.view(*maps.shape, *(1,) * (maps.ndim - 1))
