"""What the objects of a label map look like: how many, how large, how wide, how long a boundary they have.

Lengths are in pixels (voxels) of the map. Along the edge of the map and against ignored pixels there is no boundary:
nobody knows what lies there.

Symbols: *S space ([H, W] or [D, H, W]).
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter
from scipy.ndimage import label as connected

from tuner.data.source import IGNORE_INDEX, Label

Distances = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)

# Weights of the 3, 6 and 4 directions of a cubic grid by the share of the sphere that is nearest to each: Ohser and
# Muecklich, Statistical Analysis of Microstructures in Materials Science (2000), table 4.2.
_DIRECTIONS_3D = {1: 2 * 0.04577789120476, 2: 2 * 0.03698062787608, 3: 2 * 0.03519563978232}


@dataclass
class Shapes:
    """The objects of a class."""

    sizes: list[int] = field(default_factory=list)
    """Pixels of each connected object (pixels that share a side are connected)."""
    widths: list[float] = field(default_factory=list)
    """Width of each object: twice the distance to the edge, less one, averaged along its middle line."""
    thinness: list[float] = field(default_factory=list)
    """How many squares (cubes) of its width make up an object: a bar's length over its width, 0.8 for a disc."""
    boundary: float = 0.0
    """Length (area in 3-D) of the boundary with other classes."""


def measure(labels: Label, classes: int) -> dict[int, Shapes]:
    """Measure the objects of every class that occurs in a label map [*S]."""
    depth, middle = _depths(labels)
    boundaries = boundary_lengths(labels, classes)
    found: dict[int, Shapes] = {}
    for number, box in enumerate(find_objects(labels.astype(np.int32) + 1, max_label=classes)):
        if box is None:
            continue
        shapes = found[number] = Shapes(boundary=boundaries[number])
        numbered, count = connected(labels[box] == number)
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        on_line = np.where(middle[box], numbered, 0).ravel()
        widths = 2 * _mean_by(on_line, depth[box].ravel(), count) - 1
        shapes.sizes = [int(size) for size in sizes]
        shapes.widths = [float(width) for width in widths]
        shapes.thinness = [float(value) for value in sizes / widths**labels.ndim]
    return found


def boundary_lengths(labels: Label, classes: int) -> list[float]:
    """Estimate the boundary of each class in a label map [*S] from its crossings with lines of 4 or 13 directions.

    Cauchy and Crofton's formula: the length is pi / 2 (the area 2) times the mean over the directions of the crossings,
    times the distance (area) between neighbouring lines. Exact on average over all orientations; of a straight edge
    along an axis it finds 95 % (2-D) or 93 % (3-D), of small boxes 90 %.
    """
    lengths = np.zeros(classes)
    for step in itertools.product((-1, 0, 1), repeat=labels.ndim):
        if step <= (0,) * labels.ndim:
            continue  # the opposite direction crosses the same pairs
        axes = sum(map(abs, step))
        weight = 2 * _DIRECTIONS_3D[axes] if labels.ndim == 3 else math.pi / 8
        here, there = _neighbours(labels, step)
        crossed = (here != there) & (here != IGNORE_INDEX) & (there != IGNORE_INDEX)
        for side in (here, there):
            counts = np.bincount(side[crossed], minlength=256)[:classes]
            lengths += weight / math.sqrt(axes) * counts
    return [float(length) for length in lengths]


def _neighbours(labels: NDArray[Kind], step: tuple[int, ...]) -> tuple[NDArray[Kind], NDArray[Kind]]:
    """Every pixel that has a neighbour in a direction, and that neighbour."""
    here = tuple(
        slice(max(0, -shift), extent - max(0, shift)) for shift, extent in zip(step, labels.shape, strict=True)
    )
    there = tuple(
        slice(max(0, shift), extent - max(0, -shift)) for shift, extent in zip(step, labels.shape, strict=True)
    )
    return labels[here], labels[there]


def _depths(labels: Label) -> tuple[Distances, NDArray[np.bool_]]:
    """How far each pixel is from the nearest one of another class, and whether none around it is farther, [*S] each.

    One distance transform serves all classes: the distance to the nearest pixel that has a neighbour of another class,
    plus one.
    """
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        step = tuple(int(place == axis) for place in range(labels.ndim))
        here, there = _neighbours(labels, step)
        differs = here != there
        for shift in (step, tuple(-place for place in step)):
            _neighbours(edge, shift)[0][...] |= differs
    if not edge.any():
        # One class alone: as deep as the map is wide.
        return np.full(labels.shape, max(1.0, min(labels.shape) / 2)), np.ones(labels.shape, bool)
    depth: Distances = distance_transform_edt(~edge) + 1
    return depth, depth >= maximum_filter(depth, 3)


def _mean_by(numbers: NDArray[np.int32], values: Distances, count: int) -> Distances:
    """The mean of `values` for each of the numbers 1 to `count`; 1 where there is none."""
    sums = np.bincount(numbers, weights=values, minlength=count + 1)[1:]
    held = np.bincount(numbers, minlength=count + 1)[1:]
    means: Distances = np.where(held > 0, sums / np.maximum(held, 1), 1.0)
    return means
