"""Foreground sampler: where the classes of the training samples are, for patches that are drawn around them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import open_or_build
from tuner.data.preparation import PreparedData

MAX_LOCATIONS = 1000
"""Places that are kept of a class in a sample; fewer where there are many samples."""
MIN_LOCATIONS = 32
_ALL = 200_000
_FORMAT = 1
_FILE = "places.npy"


class ForegroundSampler:
    """Some pixels of every class in every training sample.

    Args:
        rows: [M, 2 + d] int32: sample, class and position, ordered by sample, then by class.
        samples: Number of samples.
    """

    def __init__(self, rows: NDArray[np.int32], samples: int) -> None:
        self._rows = rows
        self._limits = np.searchsorted(rows[:, 0], np.arange(samples + 1))

    def draw(self, sample: int, class_draw: float, place_draw: float) -> NDArray[np.int32] | None:
        """Return a position in a sample: a class first, then a pixel of it; both draws are in 0..1.

        None when the sample holds no class.
        """
        rows = self._rows[self._limits[sample] : self._limits[sample + 1]]
        if not len(rows):
            return None
        classes, starts = np.unique(rows[:, 1], return_index=True)
        chosen = int(class_draw * len(classes))
        end = starts[chosen + 1] if chosen + 1 < len(starts) else len(rows)
        row = int(starts[chosen]) + int(place_draw * (end - starts[chosen]))
        position: NDArray[np.int32] = rows[row, 2:]
        return position


def find_foreground(data: PreparedData) -> ForegroundSampler:
    """Return the places of a prepared data set, from the cache after the first time.

    Class 0 is left out where it is background. Which pixels are kept depends on the data only.
    """
    key = json.dumps({"format": _FORMAT, "data": data.fingerprint, "background": data.background}, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = data.folder.parent / f"{data.folder.name}-places-{digest}"
    open_or_build(folder, lambda scratch: _write(scratch, data))
    return ForegroundSampler(np.load(folder / _FILE, mmap_mode="r"), len(data.train.labels))


def _write(folder: Path, data: PreparedData) -> Mapping[str, Any]:
    samples = len(data.train.labels)
    most = int(np.clip(_ALL // max(1, samples), MIN_LOCATIONS, MAX_LOCATIONS))
    found = [_of_sample(np.asarray(data.train.labels[number]), number, data, most) for number in range(samples)]
    rows = np.concatenate(found) if found else np.zeros((0, 2 + data.spatial_dims), np.int32)
    np.save(folder / _FILE, rows)
    return {"places": len(rows)}


def _of_sample(labels: NDArray[np.uint8], number: int, data: PreparedData, most: int) -> NDArray[np.int32]:
    flat = labels.ravel()
    rng = np.random.default_rng([number, most])
    parts = [np.zeros((0, 2 + labels.ndim), np.int32)]
    for label in np.flatnonzero(np.bincount(flat, minlength=256)[: data.classes]):
        if label == 0 and data.background:
            continue
        pixels = np.flatnonzero(flat == label)
        if len(pixels) > most:
            pixels = np.sort(rng.choice(pixels, most, replace=False))
        places = np.stack(np.unravel_index(pixels, labels.shape), 1)
        parts.append(np.column_stack([np.full((len(places), 2), (number, label)), places]).astype(np.int32))
    return np.concatenate(parts)
