"""The distance maps of `tuner.label_maps` by torch alone, for labels on a device: nothing is copied to the host.

Labels [B, *S] are classes, and -1 on void pixels; the maps are those of `tuner.label_maps` for every image.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tuner.losses.distance_transform import squared_distances


def own_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, *S]: the distance to the nearest pixel of another class or void; 0 in an image of one class."""
    own = torch.zeros(labels.shape, device=labels.device)
    for c in range(-1, classes):
        inside = labels == c
        own = torch.where(inside, squared_distances(~inside).sqrt(), own)
    return torch.where(own < torch.inf, own, 0)


def signed_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, C, *S]: + outside a class, -(distance - 1) inside; 0 for a class that is absent or fills the image."""
    own, maps = own_distance(labels, classes=classes), []
    for c in range(classes):
        inside = labels == c
        flat = inside.flatten(1)
        mixed = (flat.any(1) & ~flat.all(1)).view(-1, *(1,) * (labels.ndim - 1))
        distance = torch.where(inside, 1 - own, squared_distances(inside).sqrt())
        maps.append(torch.where(mixed, distance, 0))
    return torch.stack(maps, 1)


def label_border_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, *S]: distance to the nearest border or void pixel, less one, at least 0; -1 where there is none."""
    borders = labels < 0
    for axis in range(1, labels.ndim):
        length = labels.shape[axis] - 1
        differs = labels.narrow(axis, 0, length) != labels.narrow(axis, 1, length)
        borders.narrow(axis, 0, length).logical_or_(differs)
    found = borders.flatten(1).any(1).view(-1, *(1,) * (labels.ndim - 1))
    return torch.where(found, (squared_distances(borders).sqrt() - 1).clamp_min(0), -1)


DEVICE_MAPS: dict[str, Callable[..., Tensor]] = {
    "own_distance": own_distance,
    "signed_distance": signed_distance,
    "label_border_distance": label_border_distance,
}
