"""Exact Euclidean distance transforms on the host and on the device, and target maps made with them.

On the host one pass along the columns counts steps for all masks together; the other axes take, for growing k, the
minimum with what lies k away plus k^2, until no pixel can gain: masks whose every pixel is near a border, as those of
unsure predictions are, need few such steps on small integers. Others go to the linear-time transform.

On a device one scan along an axis counts steps, and the other axes take the minimum over all places at once.

Labels [B, *S] are classes, and -1 on void pixels; the maps are those of `tuner.label_maps` for every image, to the
bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.errors import LossInputError
from tuner.label_maps import MAPS, PER_CLASS, border_distance
from tuner.losses.batch import LossInputs
from tuner.losses.components import connected_objects
from tuner.losses.graph_breaks import outside_of_graphs

NEAR = 64
"""The largest distance that is found by steps."""

CHECK_EVERY, MAX_UNSETTLED_STEPS = 8, 24
CAP = 160
"""Steps along a column count so far: CAP^2 + NEAR^2 is still an int16."""

BLOCK = 2**27
"""How many float32 the device's transform compares at once: half a GiB, few enough kernels for batches of images."""


def squared_border_distances(masks: Tensor) -> Tensor:
    """Return [M, *S] in float32: the squared distance of every pixel to the other side of its mask's border.

    masks [M, *S] bool; 0 everywhere in a mask that is empty or full. Computed where the masks are.
    """
    if masks.device.type != "cpu":
        return squared_region_distances(masks)
    distances: Tensor = _of_numpy(masks)
    return distances


def squared_region_distances(regions: Tensor) -> Tensor:
    """Return [M, *S] in float32: the squared distance of every pixel to the nearest pixel of another value.

    regions [M, *S] of integers or bool, any number of values; 0 everywhere in an image of one value. By torch alone:
    the number of kernels does not grow with M, and hardly with *S; the host waits for none of them. Exact: the
    transform is separable (Saito and Toriwaki 1994) and its sums are integers, below 2^24 for sides up to 2 048.
    """
    axes = range(regions.ndim - 1, 0, -1)
    rulers: dict[int, _Ruler] = {}
    squares = None
    for axis in axes:
        side = regions.shape[axis]
        if side not in rulers:
            rulers[side] = _Ruler.of(side, regions.device)
        along = _steps_to_change(regions, axis, rulers[side]).square_()
        # A pixel of another value is a goal itself, but its distance so far is that to a third pixel: more than
        # nothing, so that it never undercuts the goal, which the steps along this axis find.
        squares = along if squares is None else torch.minimum(_spread(squares, axis, rulers[side]), along)
    assert squares is not None
    return squares.nan_to_num_(posinf=0)


@dataclass(frozen=True, slots=True)
class _Ruler:
    """What every axis of one length asks for: places [2 side] that fall to 1, and squared distances [side, side]."""

    falling: Tensor
    squares: Tensor

    @classmethod
    def of(cls, side: int, device: torch.device) -> "_Ruler":
        falling = torch.arange(2 * side, 0, -1, dtype=torch.float32, device=device)
        places = falling[:side]
        return cls(falling, (places.unsqueeze(1) - places).square_())


def _steps_to_change(regions: Tensor, axis: int, ruler: _Ruler) -> Tensor:
    """Return [M, *S]: the number of steps along an axis to the nearest pixel of another value; inf where none is."""
    side = regions.shape[axis]
    changes = regions.narrow(axis, 1, side - 1) != regions.narrow(axis, 0, side - 1)
    edge = changes.new_zeros(*regions.shape[:axis], 1, *regions.shape[axis + 1 :])
    # There and back again, so that one scan looks both ways. On the way back it may still see the last change of the
    # way there, but only from farther away than that way there saw it.
    both = torch.cat([edge, changes, edge, changes.flip(axis)], axis)
    falling = ruler.falling.view(-1, *(1,) * (regions.ndim - 1 - axis))
    # a place divided by False is infinite
    steps = torch.cummin(falling / both, axis).values.sub_(falling).add_(1)
    return torch.minimum(steps.narrow(axis, 0, side), steps.narrow(axis, side, side).flip(axis))


def _spread(squares: Tensor, axis: int, ruler: _Ruler) -> Tensor:
    """Return, for every place on an axis, the minimum over that axis of squares [M, *S] plus the squared way there.

    In blocks of places, so that memory is bounded: by BLOCK numbers, or as many as `squares` has where these are more.
    """
    source = squares.unsqueeze(axis)
    ways = ruler.squares.view(*ruler.squares.shape, *(1,) * (squares.ndim - 1 - axis))
    blocks = torch.split(ways, max(1, BLOCK // squares.numel()))
    nearest = [torch.amin(source + block, axis + 1) for block in blocks]
    return nearest[0] if len(nearest) == 1 else torch.cat(nearest, axis)


@outside_of_graphs
def _of_numpy(masks: Tensor) -> Tensor:
    if not _has_host_transforms():
        return squared_region_distances(masks)
    return torch.from_numpy(_on_host(masks.numpy()))


def _on_host(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    distances = np.zeros(masks.shape, np.float32)
    width = masks.shape[-1]
    columns = _squared_steps(masks)
    for mask, column, out in zip(masks, columns, distances, strict=True):
        if not mask.any() or mask.all():
            continue
        # what lies beyond a row's end is too far to matter, so that rows can be shifted as one long row
        outside = np.full((*mask.shape[:-1], width + NEAR), CAP * CAP, np.int16)
        inside = outside.copy()
        np.multiply(column, ~mask, out=outside[..., :width])
        np.multiply(column, mask, out=inside[..., :width])
        if _settled(outside, width) and _settled(inside, width):
            np.add(outside[..., :width], inside[..., :width], out=out, casting="unsafe")
        else:
            np.square(border_distance(mask), out=out)
    return distances


def _squared_steps(masks: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return [M, *S]: the squared number of steps along the last axis but one to the other kind, at most CAP^2."""
    by_row = np.ascontiguousarray(np.moveaxis(masks, -2, 0))
    # all bits where a column goes on, and none where it changes
    goes_on = -(by_row[1:] == by_row[:-1]).view(np.int8).astype(np.int16)
    ahead = np.empty(by_row.shape, np.int16)
    back = np.empty(by_row.shape, np.int16)
    ahead[0] = back[-1] = CAP
    for n in range(1, len(ahead)):
        _one_more(ahead[n - 1], goes_on[n - 1], ahead[n])
        _one_more(back[-n], goes_on[-n], back[-n - 1])
    np.minimum(ahead, back, out=ahead)
    np.square(ahead, out=ahead)
    return np.moveaxis(ahead, 0, -2)


def _one_more(before: NDArray[np.int16], goes_on: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    np.bitwise_and(before, goes_on, out=out)
    np.add(out, 1, out=out)
    np.minimum(out, CAP, out=out)


def _settled(squares: NDArray[np.int16], width: int) -> bool:
    """Turn squared steps along the last axis but one into squared distances, in place; False if some exceed NEAR.

    squares [*S, width + NEAR].
    """
    flat, seen = squares.reshape(-1), squares[..., :width]
    axes = range(squares.ndim - 2)
    if not _widen(flat, seen, min(NEAR, width - 1), last=not axes):
        return False
    for axis in axes:
        along = np.moveaxis(squares, axis, 0)
        if not _widen(along, seen, min(NEAR, len(along) - 1), last=axis == axes[-1]):
            return False
    return True


def _widen(target: NDArray[np.int16], seen: NDArray[np.int16], reach: int, *, last: bool) -> bool:
    """Take the minimum with what lies k away along the first axis, plus k^2; False if the last axis leaves too much."""
    source, work, top = target.copy(), np.empty_like(target), int(seen.max())
    for k in range(1, reach + 1):
        if k * k >= top:
            break
        np.add(source, k * k, out=work)
        np.minimum(target[:-k], work[k:], out=target[:-k])
        np.minimum(target[k:], work[:-k], out=target[k:])
        if k % CHECK_EVERY == 0:
            top = int(seen.max())
            if last and k >= MAX_UNSETTLED_STEPS and top > NEAR * NEAR:
                return False
    return not last or int(seen.max()) <= NEAR * NEAR


def own_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, *S]: the distance to the nearest pixel of another class or void; 0 in an image of one class."""
    return squared_region_distances(labels).sqrt_()


def signed_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, C, *S]: + outside a class, -(distance - 1) inside; 0 for a class that is absent or fills the image."""
    numbers = torch.arange(classes, device=labels.device).view(-1, *(1,) * (labels.ndim - 1))
    inside = labels.unsqueeze(1) == numbers
    distance = squared_region_distances(inside.flatten(0, 1)).sqrt_().view(inside.shape)
    # a class without a border has the distance 0 inside, and every other at least 1
    return torch.where(inside, (1 - distance).clamp_max_(0), distance)


def label_border_distance(labels: Tensor, *, classes: int) -> Tensor:
    """Return [B, *S]: distance to the nearest border or void pixel, less one, at least 0; -1 where there is none."""
    borders = labels < 0
    for axis in range(1, labels.ndim):
        length = labels.shape[axis] - 1
        differs = labels.narrow(axis, 0, length) != labels.narrow(axis, 1, length)
        borders.narrow(axis, 0, length).logical_or_(differs)
    distance = squared_region_distances(borders).sqrt_().masked_fill_(borders, 0)
    found = borders.flatten(1).any(1).view(-1, *(1,) * (labels.ndim - 1))
    return torch.where(found, (distance - 1).clamp_min_(0), -1)


DEVICE_MAPS: dict[str, Callable[..., Tensor]] = {
    "own_distance": own_distance,
    "signed_distance": signed_distance,
    "label_border_distance": label_border_distance,
    "objects": connected_objects,
}


VOID = -1
"""What marks void pixels in the labels that maps are made from."""


def target_map(view: LossInputs, name: str, given: Tensor | None) -> Tensor:
    """Return the map `name` of `tuner.label_maps` for every image, [B, *S] or [B, C, *S], in the logits' type.

    `given` is used where it is not None; it must have been made from this target, after augmentation.
    Raises LossInputError if it does not have the shape of the target, or of the logits where it has one value a class.
    """
    if given is not None:
        _check(view, name, given)
        return given.to(view.logits.dtype)
    if name not in view.maps:
        marked = view.labels if view.void is None else view.labels.masked_fill(view.void, VOID)
        view.maps[name] = map_of_labels(marked, name, classes=view.classes).to(view.logits.dtype)
    return view.maps[name]


def map_of_labels(marked: Tensor, name: str, *, classes: int) -> Tensor:
    """Return the map `name` of `tuner.label_maps` for labels [B, *S], VOID on void pixels, where the labels are."""
    if name in DEVICE_MAPS and (marked.device.type != "cpu" or not _has_host_transforms()):
        return DEVICE_MAPS[name](marked, classes=classes)
    return _made_on_host(marked, name, classes).to(marked.device)


@outside_of_graphs
def _made_on_host(marked: Tensor, name: str, classes: int) -> Tensor:
    """Return the map of labels [B, *S], VOID on void pixels; torch.compile would take numpy's steps for its own."""
    images = marked.cpu().numpy()
    return torch.from_numpy(np.stack([MAPS[name](image, classes=classes, void=VOID) for image in images]))


@outside_of_graphs
@cache
def _has_host_transforms() -> bool:
    """Say whether the packages are here whose transforms are faster on the host than torch's own arithmetic."""
    try:
        import edt
        from scipy import ndimage
    except ImportError:
        return False
    return edt is not None and ndimage is not None


def _check(view: LossInputs, name: str, given: Tensor) -> None:
    per_class = name in PER_CLASS
    wanted = view.logits.shape if per_class else view.labels.shape
    if given.shape != wanted:
        raise LossInputError(
            f"map {name!r} is {list(given.shape)}, but logits are {list(view.logits.shape)}: "
            f"it must be {list(wanted)}, one value per pixel{' and class' if per_class else ''}."
        )
