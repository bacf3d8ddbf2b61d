"""Where the true class of every pixel lies in maps of all classes, and sums by class: each in the fastest way known."""

import torch
from torch import Tensor

INT32 = torch.iinfo(torch.int32).max
LANES = 512


def on_host(tensor: Tensor) -> bool:
    """Say whether the host may look at values at no cost: on the CPU, and not while torch.compile traces."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def true_places(maps: Tensor, labels: Tensor) -> Tensor:
    """Return where in maps [B, C, N] the class of labels [B, N] lies, for `at` and `take_from`.

    On the CPU as positions [B, N] in the flattened maps: several times faster to follow than an index along dim 1.
    """
    if maps.device.type != "cpu":
        return labels.unsqueeze(1)
    images, classes, pixels = maps.shape
    kind = torch.int32 if maps.numel() < INT32 else torch.int64
    places = torch.add(torch.arange(pixels, dtype=kind), labels.to(kind), alpha=pixels)
    if images > 1:
        places += torch.arange(0, maps.numel(), classes * pixels, dtype=kind).unsqueeze(1)
    return places


def at(maps: Tensor, places: Tensor) -> Tensor:
    """Return the values [B, N] of contiguous maps [B, C, N] at `true_places`."""
    if maps.device.type != "cpu":
        return maps.gather(1, places).squeeze(1)
    return maps.view(-1).index_select(0, places.view(-1)).view_as(places)


def take_from(maps: Tensor, places: Tensor, values: Tensor) -> None:
    """Subtract values [B, N] from contiguous maps [B, C, N] at `true_places`, in place."""
    if maps.device.type != "cpu":
        maps.scatter_add_(1, places, values.neg().unsqueeze(1))
    else:
        maps.view(-1).index_add_(0, places.view(-1), values.reshape(-1), alpha=-1)


def put_at(maps: Tensor, places: Tensor, values: Tensor) -> None:
    """Write values [B, N] into contiguous maps [B, C, N] at `true_places`."""
    if maps.device.type != "cpu":
        maps.scatter_(1, places, values.unsqueeze(1))
    else:
        maps.view(-1).index_copy_(0, places.view(-1).long(), values.reshape(-1))


def sums_by_class(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum values [B, N] by labels [B, N]: [B, C], added up in float64 where the device has it.

    float32 would round each addend to the digits that a sum of a million leaves. Off the CPU each class has LANES
    bins, or all threads would queue for the same few.
    """
    device = values.device.type
    wide = values if device == "mps" else values.double()
    if device == "cpu":
        sums = wide.new_zeros(len(wide), classes).scatter_add_(1, labels, wide)
    else:
        lanes = torch.arange(wide.shape[1], device=wide.device).remainder_(LANES).mul_(classes)
        bins = wide.new_zeros(len(wide), LANES * classes).scatter_add_(1, labels + lanes, wide)
        sums = bins.view(-1, LANES, classes).sum(1)
    return sums.to(values.dtype)
