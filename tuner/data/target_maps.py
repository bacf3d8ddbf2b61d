"""Target maps of the training samples, made once per prepared data set and shared, memory-mapped, by all workers."""

import hashlib
import json
import logging
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.atomic_io import ArrayWriter, require_space
from tuner.data.cache import CACHE_HINT, open_or_build
from tuner.data.preparation import PreparedData
from tuner.errors import DiskFullError
from tuner.label_maps import MAPS

logger = logging.getLogger(__name__)

MAX_BYTES = 8 * 2**30
"""A map larger than this is left to be made batch by batch: reading it would cost more than making it."""

_FORMAT = 1
_FILE = "map.npy"


def training_maps(data: PreparedData, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the maps `names` (others than those of `tuner.label_maps` are left out) of the training split, [N, ...].

    They are valid for labels that are not augmented. A map for which there is no space is left out, with a warning.
    """
    found = {}
    for name in sorted(set(names) & set(MAPS)):
        try:
            folder = _open(data, name)
        except DiskFullError as error:
            logger.warning("map %s is made batch by batch: %s", name, error)
            continue
        if folder is not None:
            found[name] = np.load(folder / _FILE, mmap_mode="r")
    return found


def _open(data: PreparedData, name: str) -> Path | None:
    labels = data.train.labels
    if not len(labels):
        return None
    first = _made(data, name, 0)
    if len(labels) * first.nbytes > MAX_BYTES:
        logger.info("map %s is made batch by batch: it would take %d MB", name, len(labels) * first.nbytes // 2**20)
        return None
    key = {"format": _FORMAT, "map": name, "data": data.fingerprint, "classes": data.classes, "void": data.ignore_index}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = data.folder.parent / f"{data.folder.name}-{name}-{digest[:16]}"
    open_or_build(folder, lambda scratch: _write(scratch, data, name, first))
    return folder


def _write(folder: Path, data: PreparedData, name: str, first: NDArray[Any]) -> dict[str, Any]:
    count = len(data.train.labels)
    require_space(folder.parent, needed=count * first.nbytes, purpose=f"the map {name}", hint=CACHE_HINT)
    logger.info("making map %s of %d samples", name, count)
    with ArrayWriter(folder / _FILE, shape=(count, *first.shape), dtype=first.dtype) as file:
        for number in range(count):
            file.append(_made(data, name, number))
    return {"map": name, "bytes": math.prod((count, first.nbytes))}


def _made(data: PreparedData, name: str, number: int) -> NDArray[Any]:
    labels = np.asarray(data.train.labels[number])
    return np.asarray(MAPS[name](labels, classes=data.classes, void=data.ignore_index))
