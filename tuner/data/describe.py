"""What a data set holds: cases, sizes, intensities, class frequencies, objects."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import label as connected

from tuner.data.prepared import PreparedData, Split, prepare


def describe(config: Mapping[str, Any], *, data_root: Path | None, cache: Path, seed: int) -> dict[str, Any]:
    """Describe the prepared data of a `dataset` section, as JSON; prepares it when it is not yet.

    Raises as `prepare`.
    """
    data = prepare(config, data_root=data_root, cache=cache, seed=seed)
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "folder": str(data.folder),
        "channels": data.channels,
        "classes": list(data.class_names),
        "spatial_dims": data.spatial_dims,
        "validation_protocol": data.validation_protocol,
        "class_frequencies": dict(zip(data.class_names, data.class_frequencies, strict=True)),
        "train": _describe_split(data, data.train),
        "validation": _describe_split(data, data.validation),
    }


def _describe_split(data: PreparedData, split: Split) -> dict[str, Any]:
    counts = np.bincount(split.case_of, minlength=len(split.cases))
    voxels = np.sum([np.bincount(labels.ravel(), minlength=256) for labels in split.labels], 0)
    organs = {
        name: {
            "percent": 100 * float(voxels[index]) / float(max(voxels.sum(), 1)),
            "samples": sum(bool((labels == index).any()) for labels in split.labels),
            **_objects(data, split, index),
        }
        for index, name in enumerate(data.class_names)
        if index or not data.background
    }
    return {
        "cases": {case: int(count) for case, count in zip(split.cases, counts, strict=True)},
        "samples": len(split.images),
        "size": [int(extent) for extent in np.median([labels.shape for labels in split.labels], 0)],
        "intensity": _intensities(split),
        "ignored_percent": 100 * float(voxels[data.ignore_index]) / float(max(voxels.sum(), 1)),
        "organs": organs,
    }


def _intensities(split: Split) -> dict[str, float]:
    """Moments sample by sample: a data set may be larger than the memory."""
    means = [float(image.mean(dtype=np.float64)) for image in split.images]
    squares = [float((image.astype(np.float64) ** 2).mean()) for image in split.images]
    mean = float(np.mean(means))
    return {
        "min": min(float(image.min()) for image in split.images),
        "max": max(float(image.max()) for image in split.images),
        "mean": mean,
        "std": math.sqrt(max(float(np.mean(squares)) - mean**2, 0.0)),
    }


def _objects(data: PreparedData, split: Split, index: int) -> dict[str, int]:
    """Connected objects of a class (in the volume where slices are stacked), and the cases that hold it."""
    objects = cases = 0
    for case in range(len(split.cases)):
        rows = np.flatnonzero(split.case_of == case).tolist()
        samples = [split.labels[row] == index for row in rows]
        if any(sample.any() for sample in samples):
            cases += 1
            volumes = [np.stack(samples)] if data.stacked else samples
            objects += sum(int(connected(volume)[1]) for volume in volumes)
    return {"cases": cases, "objects": objects}
