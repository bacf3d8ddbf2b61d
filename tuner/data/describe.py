"""What a data set holds: cases, sizes, spacings, intensities, class frequencies, and the shapes of its objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.arrays import Progress, Split
from tuner.data.intensities import describe_intensities
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.shapes import Shapes, measure
from tuner.data.source import OfManySizes, Source, Spaced

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}


def describe(
    config: Mapping[str, Any],
    *,
    data_root: Path | None,
    cache: Path,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Describe the prepared data of a `dataset` section, as JSON; prepares it when it is not yet.

    Sizes and spacings are those of the files; intensities, frequencies and shapes those of the samples that are trained
    on, at the size of the section. Raises as `prepare`.
    """
    data = prepare(config, data_root=data_root, cache=cache, seed=seed, progress=progress)
    _, _, source = open_source(config, data_root)
    shares = [share for share in data.class_frequencies if share > 0]
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "folder": str(data.folder),
        "channels": data.channels,
        "classes": list(data.class_names),
        "spatial_dims": data.spatial_dims,
        "validation_protocol": data.validation_protocol,
        "class_frequencies": dict(zip(data.class_names, data.class_frequencies, strict=True)),
        "imbalance": max(shares) / min(shares),
        "train": _describe_split(data, data.train, source, progress),
        "validation": _describe_split(data, data.validation, source, progress),
    }


def _describe_split(data: PreparedData, split: Split, source: Source, progress: Progress | None) -> dict[str, Any]:
    counts = np.bincount(split.case_of, minlength=len(split.cases))
    tallies = [_Tally() for _ in data.class_names]
    voxels = np.zeros(256, np.int64)
    for number, labels in enumerate(split.labels):
        voxels += np.bincount(labels.ravel(), minlength=256)
        for index, shapes in measure(np.asarray(labels), data.classes).items():
            tallies[index].add(shapes)
        if progress:
            progress("measuring", number + 1, len(split.labels))
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
        stated = source.spaces(case) if isinstance(source, OfManySizes) else None
        spaces = stated or [source.sample_shape[1:]] * source.count(case)
        shapes = [(len(spaces), *spaces[0])] if data.stacked and len(set(spaces)) == 1 else spaces
        for shape in shapes:
            _count(sizes, " x ".join(map(str, shape)))
        spacing = source.spacing(case) if isinstance(source, Spaced) else None
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
