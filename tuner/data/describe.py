"""Statistics of a data set: cases, sizes, spacings, intensities, class frequencies, shapes of objects.

Lengths are in pixels (voxels) of the map. Along the edge of the map and against ignored pixels there is no boundary:
nobody knows what lies there.

Symbols: *S space ([H, W] or [D, H, W]).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter
from scipy.ndimage import label as connected

from tuner.data.arrays import ProgressCallback, Split
from tuner.data.cache import FileHashCache
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.source import IGNORE_INDEX, HasSpacing, Label, ListsClasses, Source, VariableSize

BINS = 64
_FINE = 4096
PERCENTILES = (0.5, 5, 50, 95, 99.5)


def describe_intensities(split: Split, classes: int) -> dict[str, Any]:
    """Return range and moments over all channels, and of each channel also percentiles, a histogram, moments by class.

    Percentiles are exact to a 4096th of the channel's range.
    """
    ranges = np.array([[(plane.min(), plane.max()) for plane in image] for image in split.images], np.float64)
    low, high = ranges[..., 0].min(0), ranges[..., 1].max(0)
    channels = [_Channel(float(a), float(b), classes) for a, b in zip(low, high, strict=True)]
    for image, labels in zip(split.images, split.labels, strict=True):
        for channel, plane in zip(channels, image, strict=True):
            channel.add(np.asarray(plane), np.asarray(labels))
    count = sum(channel.count for channel in channels)
    mean = sum(channel.sum for channel in channels) / count
    square = sum(channel.square for channel in channels) / count
    return {
        "min": float(low.min()),
        "max": float(high.max()),
        "mean": mean,
        "std": math.sqrt(max(square - mean**2, 0.0)),
        "channels": [channel.summary() for channel in channels],
    }


class _Channel:
    def __init__(self, low: float, high: float, classes: int) -> None:
        self.low, self.high = low, high
        self.count, self.sum, self.square = 0, 0.0, 0.0
        self._fine: NDArray[np.int64] = np.zeros(_FINE, np.int64)
        self._by_class = np.zeros((3, 256))
        self._classes = classes

    def add(self, plane: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """Add the values of a sample, [*S] each."""
        values, numbers = plane.ravel().astype(np.float64), labels.ravel()
        self.count += values.size
        self.sum += float(values.sum())
        self.square += float((values**2).sum())
        self._fine += np.histogram(values, _FINE, (self.low, max(self.high, self.low + 1e-12)))[0]
        for row, weights in enumerate((None, values, values**2)):
            self._by_class[row] += np.bincount(numbers, weights, 256)

    def summary(self) -> dict[str, Any]:
        """What is said of the channel."""
        mean = self.sum / self.count
        ends = np.cumsum(self._fine) / self.count
        step = (self.high - self.low) / _FINE
        places = [int(np.searchsorted(ends, percent / 100)) for percent in PERCENTILES]
        counts, sums, squares = self._by_class[:, : self._classes]
        means = sums / np.maximum(counts, 1)
        deviations = np.sqrt(np.maximum(squares / np.maximum(counts, 1) - means**2, 0))
        return {
            "min": self.low,
            "max": self.high,
            "mean": mean,
            "std": math.sqrt(max(self.square / self.count - mean**2, 0.0)),
            "percentiles": {
                f"{percent:g}": self.low + (place + 0.5) * step
                for percent, place in zip(PERCENTILES, places, strict=True)
            },
            "histogram": self._fine.reshape(BINS, -1).sum(1).tolist(),
            "by_class": [
                {"mean": float(middle), "std": float(spread)} if number else None
                for number, middle, spread in zip(counts, means, deviations, strict=True)
            ],
        }


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


QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}


def describe(
    config: Mapping[str, Any],
    *,
    data_root: Path | None,
    cache: Path,
    seed: int,
    on_progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Describe the prepared data of a `dataset` section, as JSON; prepares it when it is not yet.

    Sizes and spacings are those of the files; intensities, frequencies and shapes those of the samples that are trained
    on, at the size of the section; `found_classes` are those of the files. Raises as `prepare`.
    """
    data = prepare(config, data_root=data_root, cache=cache, seed=seed, on_progress=on_progress)
    _, _, source = open_source(config, data_root)
    memory = FileHashCache(cache / f"checked-{data.name}.json")
    cases = [*data.train.cases, *data.validation.cases]
    found = source.found_classes(cases, memory) if isinstance(source, ListsClasses) else ()
    memory.save()
    shares = [share for share in data.class_frequencies if share > 0]
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "folder": str(data.folder),
        "channels": data.channels,
        "classes": list(data.class_names),
        "found_classes": [row.as_dict() for row in found],
        "spatial_dims": data.spatial_dims,
        "validation_protocol": data.validation_protocol,
        "class_frequencies": dict(zip(data.class_names, data.class_frequencies, strict=True)),
        "imbalance": max(shares) / min(shares),
        "train": _describe_split(data, data.train, source, on_progress),
        "validation": _describe_split(data, data.validation, source, on_progress),
    }


def _describe_split(
    data: PreparedData, split: Split, source: Source, on_progress: ProgressCallback | None
) -> dict[str, Any]:
    counts = np.bincount(split.case_of, minlength=len(split.cases))
    tallies = [_Tally() for _ in data.class_names]
    voxels = np.zeros(256, np.int64)
    for number, labels in enumerate(split.labels):
        voxels += np.bincount(labels.ravel(), minlength=256)
        for index, shapes in measure(np.asarray(labels), data.classes).items():
            tallies[index].add(shapes)
        if on_progress:
            on_progress("measuring", number + 1, len(split.labels))
    whole = float(max(voxels.sum(), 1))
    return {
        "cases": {case: int(count) for case, count in zip(split.cases, counts, strict=True)},
        "samples": len(split.images),
        "size": [int(extent) for extent in np.median([labels.shape for labels in split.labels], 0)],
        "recorded": _recorded(data, split, source),
        "intensity": describe_intensities(split, data.classes),
        "ignored_percent": 100 * float(voxels[data.ignore_index]) / whole,
        "organs": {
            name: {
                "percent": 100 * float(voxels[index]) / whole,
                "samples": tallies[index].samples,
                **_objects(data, split, index),
                **tallies[index].summary(int(voxels[index])),
            }
            for index, name in enumerate(data.class_names)
            if index or not data.background
        },
    }


class _Tally:
    """The objects of a class over all samples."""

    def __init__(self) -> None:
        self.samples = 0
        self._whole = Shapes()

    def add(self, shapes: Shapes) -> None:
        """Add those of one sample."""
        self.samples += 1
        self._whole.sizes += shapes.sizes
        self._whole.widths += shapes.widths
        self._whole.thinness += shapes.thinness
        self._whole.boundary += shapes.boundary

    def summary(self, pixels: int) -> dict[str, Any]:
        """Quantiles over the objects of the samples, their mean width by area, and the boundary over the area."""
        found = self._whole
        return {
            "sample_objects": len(found.sizes),
            "object_size": quantiles(found.sizes),
            "object_width": quantiles(found.widths),
            "object_thinness": quantiles(found.thinness),
            "width": float(np.average(found.widths, weights=found.sizes)) if found.sizes else None,
            "boundary": found.boundary,
            "boundary_per_area": found.boundary / pixels if pixels else None,
        }


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return smallest, quartiles and largest; None of nothing."""
    if not len(values):
        return None
    found = np.quantile(np.asarray(values, np.float64), list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found), strict=True))


def _recorded(data: PreparedData, split: Split, source: Source) -> dict[str, Any]:
    """Sizes [*S] (of slices: [slices, H, W]) and spacings in mm as the files have them, and how often there is each."""
    sizes: dict[str, int] = {}
    spacings: dict[str, int] = {}
    for case in split.cases:
        stated = source.spaces(case) if isinstance(source, VariableSize) else None
        spaces = stated or [source.sample_shape[1:]] * source.count(case)
        shapes = [(len(spaces), *spaces[0])] if data.stacked and len(set(spaces)) == 1 else spaces
        for shape in shapes:
            _count(sizes, " x ".join(map(str, shape)))
        spacing = source.spacing(case) if isinstance(source, HasSpacing) else None
        if spacing is not None:
            _count(spacings, " x ".join(f"{extent:.4g}" for extent in _unresized(spacing, shapes[0], source)))
    return {"sizes": sizes, "spacings": spacings}


def _unresized(spacing: tuple[float, ...], shape: tuple[int, ...], source: Source) -> tuple[float, ...]:
    """The spacing of a file [slices, H, W] from that of its resized samples."""
    height, width = source.sample_shape[-2:]
    if not height:
        return spacing
    return (*spacing[:-2], spacing[-2] * height / shape[-2], spacing[-1] * width / shape[-1])


def _count(table: dict[str, int], key: str) -> None:
    table[key] = table.get(key, 0) + 1


def _objects(data: PreparedData, split: Split, index: int) -> dict[str, int]:
    """Connected objects of a class (in the volume where slices are stacked), and the cases that hold it."""
    from scipy.ndimage import label as connected

    objects = cases = 0
    for case in range(len(split.cases)):
        rows = np.flatnonzero(split.case_of == case).tolist()
        samples = [split.labels[row] == index for row in rows]
        if any(sample.any() for sample in samples):
            cases += 1
            volumes = [np.stack(samples)] if data.stacked else samples
            objects += sum(int(connected(volume)[1]) for volume in volumes)
    return {"cases": cases, "objects": objects}
