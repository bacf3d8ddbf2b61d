"""Minimum and maximum over the neighbours of every pixel, and what is made of them: skeletons and borders."""

from collections.abc import Callable

import torch
from torch import Tensor

from tuner.losses.softmax_stats import on_host

Choose = Callable[[Tensor, Tensor], Tensor]


def erode(maps: Tensor, least: Choose = torch.minimum) -> Tensor:
    """Return the minimum of maps [B, C, *S] over each pixel and its neighbours along the axes."""
    found = maps
    for axis in range(2, maps.ndim):
        found = least(found, _of_neighbours(maps, axis, least))
    return found


def dilate(maps: Tensor, most: Choose = torch.maximum) -> Tensor:
    """Return the maximum of maps [B, C, *S] over each pixel and all its neighbours, diagonal ones too."""
    for axis in range(2, maps.ndim):
        maps = most(maps, _of_neighbours(maps, axis, most))
    return maps


def _of_neighbours(maps: Tensor, axis: int, choose: Choose) -> Tensor:
    """Choose among the two neighbours along an axis; the edge is its own neighbour (torch's pooling is far slower)."""
    length = maps.shape[axis] - 1
    before = torch.cat([maps.narrow(axis, 0, 1), maps.narrow(axis, 0, length)], axis)
    after = torch.cat([maps.narrow(axis, 1, length), maps.narrow(axis, length, 1)], axis)
    return choose(before, after)


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of maps [B, C, *S] in [0, 1]: what every erosion loses by opening."""
    eroded = erode(maps)
    bones = torch.relu(maps - dilate(eroded))
    for _ in range(iterations):
        maps, eroded = eroded, erode(eroded)
        lost = torch.relu(maps - dilate(eroded))
        bones = bones + torch.relu(lost - bones * lost)
    return bones


BYTE, WORD = 8, 62
"""Classes that the bits of a uint8 and of an int64 tell apart."""


def label_skeletons(labels: Tensor, *, classes: int, iterations: int) -> Tensor:
    """Say of every pixel of labels [B, *S], 0 or a class of 1..`classes`, whether it is on its class's `soft_skeleton`.

    Every pixel has the set of classes that reach it, one bit for each, so that one operation on a byte does what
    takes one on a float for every class.
    """
    kind, bits = (torch.uint8, BYTE) if classes <= BYTE else (torch.int64, WORD)
    words = torch.arange(0, classes, bits, device=labels.device).view(-1, *(1,) * labels.ndim)
    place = labels - 1 - words
    bit = torch.ones_like(place).bitwise_left_shift_(place.clamp(0, bits - 1))
    sets = torch.where((place >= 0) & (place < bits), bit, 0).to(kind)
    eroded = erode(sets, torch.bitwise_and)
    bones = sets & ~dilate(eroded, torch.bitwise_or)
    for _ in range(iterations):
        if on_host(eroded) and not eroded.any():
            break
        sets, eroded = eroded, erode(eroded, torch.bitwise_and)
        bones = bones | (sets & ~dilate(eroded, torch.bitwise_or))
    return (bones != 0).any(0)


def differs_around(maps: Tensor, window: int, void: Tensor | None = None) -> Tensor:
    """Say of maps [B, C, *S] of whole numbers whether the window of odd side around a pixel holds two values.

    Not where it holds a void pixel as well, by void [B, 1 or C, *S].
    """
    seen = torch.cat([maps, -maps] if void is None else [maps, -maps, void.to(maps.dtype)], 1)
    for _ in range(window // 2):
        seen = dilate(seen)
    channels = maps.shape[1]
    high, low = seen[:, :channels], seen[:, channels : 2 * channels]
    differs = high + low > 0
    return differs if void is None else differs & (seen[:, 2 * channels :] == 0)
