"""Distances, skeletons and objects by brute force: loops over all pixels and all neighbours."""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from tests.losses.by_hand.reading import Array, Labels

Mask = NDArray[np.bool_]


def inside_distance(mask: Mask) -> Array:
    """Distance of every True to the nearest False, 0 on the others; all 0 if the mask is empty or full."""
    return _inside_distance(mask.tobytes(), mask.shape)


@cache
def _inside_distance(content: bytes, shape: tuple[int, ...]) -> Array:
    mask, found = np.frombuffer(content, bool).reshape(shape), np.zeros(shape)
    outside = np.argwhere(~mask)
    if mask.any() and len(outside):
        for place in np.argwhere(mask):
            found[tuple(place)] = np.sqrt(((outside - place) ** 2).sum(1).min())
    return found


def border_distance(mask: Mask) -> Array:
    """Distance to the nearest pixel of the other kind."""
    return inside_distance(mask) + inside_distance(~mask)


def signed_distance(mask: Mask, offset: float = 1.0) -> Array:
    """+distance outside, -(distance - offset) inside."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape)
    return inside_distance(~mask) - (inside_distance(mask) - offset) * mask


def own_distance(image: Labels) -> Array:
    """Distance to the nearest pixel with another label, void being one."""
    return np.asarray(sum(inside_distance(image == label) for label in np.unique(image)))


def steps(dims: int, *, diagonal: bool) -> list[tuple[int, ...]]:
    """The neighbours of a pixel."""
    every = [s for s in itertools.product((-1, 0, 1), repeat=dims) if any(s)]
    return every if diagonal else [s for s in every if sum(map(abs, s)) == 1]


def shifted(maps: NDArray[np.generic], step: tuple[int, ...], fill: float) -> NDArray[np.generic]:
    """The value of each pixel's neighbour at `step`, over the last axes; `fill` outside."""
    lead = maps.ndim - len(step)
    padded = np.pad(maps, [(0, 0)] * lead + [(1, 1)] * len(step), constant_values=fill)
    window = tuple(slice(1 + s, 1 + s + n) for s, n in zip(step, maps.shape[lead:], strict=True))
    return padded[(slice(None),) * lead + window]


def soft_skeleton(maps: Array, iterations: int) -> Array:
    """The soft skeleton of clDice of [..., *S] with cross erosion and box dilation, over all axes but the first two."""
    dims = maps.ndim - 2

    def eroded(m: Array) -> Array:
        return np.minimum.reduce([m, *(shifted(m, s, np.inf) for s in steps(dims, diagonal=False))])

    def opened(m: Array) -> Array:
        e = eroded(m)
        return np.maximum.reduce([e, *(shifted(e, s, -np.inf) for s in steps(dims, diagonal=True))])

    bones = np.maximum(maps - opened(maps), 0)
    for _ in range(iterations):
        maps = eroded(maps)
        lost = np.maximum(maps - opened(maps), 0)
        bones = bones + np.maximum(lost - bones * lost, 0)
    return bones


def skeleton(mask: Mask) -> Mask:
    """The thin centre lines that the authors' library finds, widened twice along the axes inside the mask."""
    bones = np.asarray(skeletonize(mask), bool)
    for _ in range(2):
        bones = np.logical_or.reduce([bones, *(shifted(bones, s, False) for s in steps(mask.ndim, diagonal=False))])
    return bones & mask


def objects(mask: Mask) -> list[Mask]:
    """Connected pieces, diagonal neighbours included."""
    left = {tuple(int(i) for i in place) for place in np.argwhere(mask)}
    found = []
    while left:
        todo, piece = [left.pop()], np.zeros_like(mask)
        while todo:
            place = todo.pop()
            piece[place] = True
            for step in steps(mask.ndim, diagonal=True):
                other = tuple(a + b for a, b in zip(place, step, strict=True))
                if other in left:
                    left.remove(other)
                    todo.append(other)
        found.append(piece)
    return found
