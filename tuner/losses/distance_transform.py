"""EDT on host and device, target maps.

Exact Euclidean distances to the borders of masks that change in every step: on the host, and on the device.

On the host one pass along the columns counts steps for all masks together; the other axes take, for growing k, the
minimum with what lies k away plus k^2, until no pixel can gain: masks whose every pixel is near a border, as those of
unsure predictions are, need few such steps on small integers. Others go to the linear-time transform.

The distance maps of `tuner.label_maps` by torch alone, for labels on a device: nothing is copied to the host.

Labels [B, *S] are classes, and -1 on void pixels; the maps are those of `tuner.label_maps` for every image.

Target maps for losses: handed in with the batch, or made here from the target.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.errors import LossInputError
from tuner.label_maps import MAPS, PER_CLASS, border_distance
from tuner.losses.batch import LossInputs

NEAR = 64
"""The largest distance that is found by steps."""

CHECK_EVERY, MAX_UNSETTLED_STEPS = 8, 24
CAP = 160
"""Steps along a column count so far: CAP^2 + NEAR^2 is still an int16."""


def squared_border_distances(masks: Tensor) -> Tensor:
    """Return [M, *S] in float32: the squared distance of every pixel to the other side of its mask's border.

    masks [M, *S] bool; 0 everywhere in a mask that is empty or full. Computed where the masks are.
    """
    if masks.device.type != "cpu":
        outside, inside = squared_distances(masks), squared_distances(~masks)
        mixed = (masks.flatten(1).any(1) & (~masks).flatten(1).any(1)).view(-1, *(1,) * (masks.ndim - 1))
        return torch.where(mixed, outside + inside, 0)
    distances: Tensor = _of_numpy(masks)
    return distances


def squared_distances(masks: Tensor) -> Tensor:
    """Return [M, *S] in float32: the squared distance to the nearest True, by torch alone; inf where there is none.

    Every axis costs as many passes as it has pixels, and the host waits for none of them.
    """
    squares = torch.where(masks, 0.0, torch.inf)
    for axis in range(masks.ndim - 1, 0, -1):
        source = squares
        squares = squares.clone()
        for step in range(1, source.shape[axis]):
            rest = source.shape[axis] - step
            for near, far in ((0, step), (step, 0)):
                part = squares.narrow(axis, near, rest)
                part.copy_(torch.minimum(part, source.narrow(axis, far, rest) + float(step * step)))
    return squares


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _of_numpy(masks: Tensor) -> Tensor:
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
    if not _widened(flat, seen, min(NEAR, width - 1), last=not axes):
        return False
    for axis in axes:
        along = np.moveaxis(squares, axis, 0)
        if not _widened(along, seen, min(NEAR, len(along) - 1), last=axis == axes[-1]):
            return False
    return True


def _widened(target: NDArray[np.int16], seen: NDArray[np.int16], reach: int, *, last: bool) -> bool:
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
        if view.labels.device.type != "cpu" and name in DEVICE_MAPS:
            marked = view.labels if view.void is None else view.labels.masked_fill(view.void, VOID)
            view.maps[name] = DEVICE_MAPS[name](marked, classes=view.classes).to(view.logits.dtype)
            return view.maps[name]
        labels = marked_labels(view)
        made = [MAPS[name](image, classes=view.classes, void=VOID) for image in labels]
        view.maps[name] = torch.from_numpy(np.stack(made)).to(view.logits.device, view.logits.dtype)
    return view.maps[name]


def marked_labels(view: LossInputs) -> np.ndarray:
    """Return the labels [B, *S] on the host, VOID on void pixels."""
    labels = view.labels if view.void is None else view.labels.masked_fill(view.void, VOID)
    return labels.cpu().numpy()


def _check(view: LossInputs, name: str, given: Tensor) -> None:
    per_class = name in PER_CLASS
    wanted = view.logits.shape if per_class else view.labels.shape
    if given.shape != wanted:
        raise LossInputError(
            f"map {name!r} is {list(given.shape)}, but logits are {list(view.logits.shape)}: "
            f"it must be {list(wanted)}, one value per pixel{' and class' if per_class else ''}."
        )
