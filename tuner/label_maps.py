"""Maps of a label image that losses are made with: exact distances, skeletons and objects, in plain numpy.

SciPy, scikit-image and edt are imported by the maps that need them: a loss without maps costs none of them.

Every function takes one image's labels [*S] of integers, 2-D or 3-D; `void` marks pixels without a label, which count
as "not this class". Distances are Euclidean, in pixels, exact, and 0 where there is nothing to measure to: an
image of one class has no border. The image's edge is no border either.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Distances = NDArray[np.float32]


def own_distance(labels: Labels, *, classes: int, void: int) -> Distances:
    """Return [*S]: the distance of every pixel to the nearest pixel of another class (or void), at least 1."""
    regions = _regions(labels, classes, void)
    if regions.min() == regions.max():
        return np.zeros(labels.shape, np.float32)
    return _edt(regions)


def signed_distance(labels: Labels, *, classes: int, void: int) -> Distances:
    """Return [C, *S]: +distance to the class outside it, -(distance to the outside - 1) inside (Kervadec et al. 2019).

    All zero for a class that is absent or fills the image.
    """
    maps = np.zeros((classes, *labels.shape), np.float32)
    own = own_distance(labels, classes=classes, void=void)
    for c in range(classes):
        inside = labels == c
        if inside.any() and not inside.all():
            maps[c] = np.where(inside, 1 - own, distance_to(inside))
    return maps


def distance_to(mask: NDArray[np.bool_]) -> Distances:
    """Return [*S]: the distance of every pixel to the nearest True, 0 on the Trues; 0 everywhere if there is none."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, np.float32)
    distances = _edt(mask.astype(np.uint8) + 1)
    distances[mask] = 0
    return distances


def border_distance(mask: NDArray[np.bool_]) -> Distances:
    """Return [*S]: the distance to the nearest pixel on the other side of the mask's border; 0 if it has none."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, np.float32)
    return _edt(mask.astype(np.uint8) + 1)


def label_borders(labels: Labels, *, classes: int, void: int) -> NDArray[np.bool_]:
    """Return [*S]: pixels whose next pixel along an axis has another label, and void pixels."""
    regions = _regions(labels, classes, void)
    borders = regions > classes
    for axis in range(regions.ndim):
        differs = np.diff(regions.astype(np.int32), axis=axis) != 0
        ahead = [slice(None)] * regions.ndim
        ahead[axis] = slice(0, -1)
        borders[tuple(ahead)] |= differs
    return borders


def label_border_distance(labels: Labels, *, classes: int, void: int) -> Distances:
    """Return [*S]: distance to the nearest `label_borders` pixel, less one, at least 0; -1 where there is no border."""
    borders = label_borders(labels, classes=classes, void=void)
    if not borders.any():
        return np.full(labels.shape, -1, np.float32)
    return np.maximum(distance_to(borders) - 1, 0)


def skeleton(labels: Labels, *, classes: int, void: int) -> NDArray[np.bool_]:
    """Return [*S]: the centre lines of the foreground, one pixel thin, dilated twice inside it (Kirchhoff et al. 2024).

    As in the authors' code: all foreground classes are thinned as one mask (Zhang and Suen 1984 in 2-D, Lee, Kashyap,
    Chu 1994 in 3-D, topology-preserving), and a dilation adds the neighbours along the axes.
    """
    # half a second to import, and few losses need it
    from scipy import ndimage
    from skimage.morphology import skeletonize

    inside = (labels >= 1) & (labels < classes) & (labels != void)
    if not inside.any():
        return np.zeros(labels.shape, bool)
    lines = skeletonize(np.ascontiguousarray(inside)).astype(bool)
    cross = ndimage.generate_binary_structure(labels.ndim, 1)
    thick = ndimage.binary_dilation(lines, cross, iterations=2)
    return np.asarray(thick & inside, dtype=bool)


def objects(labels: Labels, *, classes: int, void: int) -> NDArray[np.int64]:
    """Return [*S]: 0 on background and void, and a number from 1 for each connected object of a foreground class."""
    from scipy import ndimage

    numbers = np.zeros(labels.shape, np.int64)
    found = 0
    for c in range(1, classes):
        mask = (labels == c) & (labels != void)
        if mask.any():
            parts, count = ndimage.label(mask, structure=np.ones((3,) * labels.ndim))
            numbers[mask] = parts[mask] + found
            found += count
    return numbers


def _regions(labels: Labels, classes: int, void: int) -> NDArray[np.uint16]:
    """Number classes from 1 and void as one more, since zero is nothing to the distance transform."""
    regions = labels.astype(np.int64) + 1
    regions[labels == void] = classes + 1
    return regions.astype(np.uint16)


def _edt(regions: NDArray[np.integer]) -> Distances:
    import edt

    distances: Distances = edt.edt(np.ascontiguousarray(regions), black_border=False, parallel=1)
    return distances


PER_CLASS = frozenset({"signed_distance"})
"""Maps with a value for every class; the others have one for every pixel."""

TargetMap = Callable[..., NDArray[np.generic]]

MAPS: dict[str, TargetMap] = {
    "own_distance": own_distance,
    "signed_distance": signed_distance,
    "label_border_distance": label_border_distance,
    "skeleton": skeleton,
    "objects": objects,
}
