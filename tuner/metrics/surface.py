"""Distances between the surfaces of label maps: exact, all classes in one pass, by k-d trees on edge points.

A pixel is an edge point of its class when one of its 2·d direct neighbours has another label or lies outside of the
image. `spacing` is the size of a pixel along each axis (mm, say); without it distances are in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Labels = NDArray[Any]
Distances = NDArray[np.float64]
Pixels = NDArray[np.intp]

TOLERANCE = 1.0
"""Surface dice counts a point as hit within this many pixels or mm."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """From every edge point of one mask to the nearest edge point of the other, both ways; neither is empty."""

    to_truth: Distances
    """[points of the prediction]"""
    to_prediction: Distances
    """[points of the truth]"""

    def hd95(self) -> float:
        """Return the larger of the two directed 95th percentiles (as MONAI; MedPy pools both directions instead)."""
        return float(max(np.percentile(self.to_truth, 95), np.percentile(self.to_prediction, 95)))

    def assd(self) -> float:
        """Return the mean over the edge points of both masks."""
        total = self.to_truth.sum() + self.to_prediction.sum()
        return float(total / (self.to_truth.size + self.to_prediction.size))

    def surface_dice(self, tolerance: float = TOLERANCE) -> float:
        """Return the share of the edge points of both masks that is at most `tolerance` away from the other."""
        near = np.count_nonzero(self.to_truth <= tolerance) + np.count_nonzero(self.to_prediction <= tolerance)
        return near / (self.to_truth.size + self.to_prediction.size)


class KnownDistances:
    """Distances to the surfaces of one truth that were measured already: most points of a prediction were there before.

    For label maps that are scored again and again against the same truth, as in the validation after every epoch.
    """

    def __init__(self, room: int) -> None:
        """Keep at most `room` bytes; what is beyond them is measured anew."""
        self._left = room
        self._of: dict[int, tuple[Pixels, Distances]] = {}
        """By class: flat positions in ascending order, and how far each is from the truth"""

    def of(self, organ: int, pixels: Pixels) -> Distances:
        """Return how far each of the flat positions, in ascending order, is from a class; 0 where that is not known."""
        if organ not in self._of:
            return np.zeros(len(pixels))
        places, distances = self._of[organ]
        at = np.searchsorted(places, pixels).clip(max=len(places) - 1)
        return np.where(places[at] == pixels, distances[at], 0)

    def add(self, organ: int, pixels: Pixels, distances: Distances) -> None:
        """Keep the distances of flat positions, in ascending order, of which none was known."""
        size = pixels.nbytes + distances.nbytes
        if not 0 < size <= self._left:
            return
        self._left -= size
        if organ in self._of:
            places, earlier = self._of[organ]
            at = np.searchsorted(places, pixels)
            pixels, distances = np.insert(places, at, pixels), np.insert(earlier, at, distances)
        self._of[organ] = pixels, distances


def surface_distances(
    prediction: Labels,
    truth: Labels,
    *,
    classes: int,
    spacing: Sequence[float] | None = None,
    known: KnownDistances | None = None,
) -> list[SurfaceDistances | None]:
    """Measure every foreground class of two label maps.

    Args:
        prediction: [*S] integers in 0..C-1.
        truth: [*S] integers in 0..C-1.
        classes: C.
        spacing: Size of a pixel along each axis.
        known: What earlier calls with the same truth and spacing have measured; filled up.

    Returns:
        Distances of the classes 1..C-1; None where the prediction or the truth lacks the class.
    """
    scale = np.ones(truth.ndim) if spacing is None else np.asarray(spacing, np.float64)
    edge_p, edge_t = edges(prediction), edges(truth)
    pixels_p, pixels_t = _by_class(prediction, edge_p, classes), _by_class(truth, edge_t, classes)
    found: list[SurfaceDistances | None] = []
    for organ in range(1, classes):
        here, there = pixels_p[organ], pixels_t[organ]
        if not (here.size and there.size):
            found.append(None)
            continue
        # A point of both surfaces has distance 0; only the others are looked up.
        shared_p = edge_t.ravel()[here] & (truth.ravel()[here] == organ)
        shared_t = edge_p.ravel()[there] & (prediction.ravel()[there] == organ)
        points_p, points_t = (np.stack(np.unravel_index(p, truth.shape), 1) * scale for p in (here, there))
        earlier = np.zeros(len(here)) if known is None else known.of(organ, here)
        to_truth = _nearest(points_p, points_t, shared_p, earlier)
        if known is not None:
            new = (earlier == 0) & (to_truth > 0)
            known.add(organ, here[new], to_truth[new])
        found.append(SurfaceDistances(to_truth, _nearest(points_t, points_p, shared_t)))
    return found


def edges(labels: Labels) -> NDArray[np.bool_]:
    """Return which pixels of a label map [*S] are edge points of their class."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        source, view = np.moveaxis(labels, axis, 0), np.moveaxis(edge, axis, 0)
        change = source[1:] != source[:-1]
        view[1:] |= change
        view[:-1] |= change
        view[[0, -1]] = True
    return edge


def diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Return the diagonal of a volume of `shape`: no surface distance inside it is larger."""
    scale = np.ones(len(shape)) if spacing is None else np.asarray(spacing, np.float64)
    return float(np.linalg.norm(np.asarray(shape, np.float64) * scale))


def _by_class(labels: Labels, edge: NDArray[np.bool_], classes: int) -> list[Pixels]:
    """Flat positions of the edge points of each class."""
    # numpy finds the nonzero elements of a flat array ten times faster than those of a volume.
    pixels = np.flatnonzero(edge & (labels != 0))
    organs = labels.ravel()[pixels]
    order = np.argsort(organs, kind="stable")
    limits = np.searchsorted(organs[order], np.arange(1, classes))
    return np.split(pixels[order], limits)


def _nearest(
    points: Distances, others: Distances, shared: NDArray[np.bool_], known: Distances | None = None
) -> Distances:
    """Return how far each point is from the nearest other one; `known` are those distances, 0 where not known."""
    found = np.zeros(len(points)) if known is None else known.copy()
    asked = ~shared & (found == 0)
    if asked.any():
        # Measured on label maps: twice as fast for far points as the defaults, never slower.
        tree = cKDTree(others, leafsize=64, compact_nodes=False, balanced_tree=False)
        found[asked] = tree.query(points[asked])[0]
    return found
