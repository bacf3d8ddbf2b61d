"""Finding every defect of a volume set: unreadable files, grids that disagree, foreign labels, shared images."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.datasets.volume_set import Recording, VolumeSet
from tuner.data.flaws import lacking
from tuner.data.label_map import listed
from tuner.data.memory import FileMemory
from tuner.data.volumes import Grid, read_channels, read_grid, read_truth
from tuner.errors import DataError

_IMAGE, _TRUTH = "volume check 2", "label map check 2"

Seen = dict[str, tuple[str, Path]]
"""Digest of a slice -> the case that had it first, and its file."""


def check_volumes(found: VolumeSet, memory: FileMemory, *, channels: int | None = None) -> list[str]:
    """Open every file of every case and return the defects, a line each; saves what was good in `memory`.

    Args:
        found: The cases.
        memory: What is known of unchanged files.
        channels: How many every case must have; None: as many as the first one that can be read.
    """
    defects: list[str] = []
    seen: Seen = {}
    present: dict[str, set[int | None]] = {}
    for half, cases in (("training", found.cases), ("test", found.tests)):
        held: set[int] = set()
        for recording in cases.values():
            looks = [_finding(path, path == recording.label, memory) for path in recording.paths]
            defects += [str(look["defect"]) for look in looks if "defect" in look]
            defects += _compare(recording, looks)
            count = sum(look.get("channels", 0) for look in looks[:-1])
            if not any("defect" in look for look in looks[:-1]):
                channels = channels or count
                defects += _count_channels(recording, count, channels)
            values = looks[-1].get("values", [])
            foreign = found.codes.foreign(values)
            if foreign:
                defects.append(
                    f"{recording.label}: holds {listed(foreign)}, which no class has ({found.codes.legal()})"
                )
            defects += _shared(recording, looks[0], seen)
            held.update(values)
        present[half] = {found.codes.labels.get(value) for value in held}
    memory.save()
    what = {half: f"{half} case" for half in present}
    return defects + list(lacking(found.codes.names, present, what, anywhere=True))


def _finding(path: Path, is_label: bool, memory: FileMemory) -> dict[str, Any]:
    topic = _TRUTH if is_label else _IMAGE
    try:
        known = memory.recall(path, topic) if path.is_file() else None
        if known is not None:
            return dict(known)
        finding = _grid_facts(read_grid(path), path)
        if is_label:
            finding["values"] = np.unique(read_truth(path)).tolist()[: 1 << 8]
        else:
            finding["digests"] = _digests(path)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.remember(path, topic, finding)
    return finding


def _digests(path: Path) -> list[str]:
    """Hash of every slice; empty for one of a single value (air), which any two cases may share."""
    image = read_channels(path)
    if image.min() == image.max() and image.shape[1] > 1:
        raise DataError(f"every voxel is {image.flat[0]:g}: the volume is empty.", where=str(path))
    slices = [np.ascontiguousarray(image[:, place], "<f4") for place in range(image.shape[1])]
    return ["" if one.min() == one.max() else hashlib.sha256(one.data).hexdigest()[:24] for one in slices]


def _grid_facts(grid: Grid, path: Path) -> dict[str, Any]:
    numbers = [*(grid.spacing or ()), *(grid.affine or ())]
    if not all(map(math.isfinite, numbers)) or not all(extent > 0 for extent in grid.spacing or ()):
        shown = ", ".join(f"{extent:g}" for extent in grid.spacing or ())
        raise DataError(f"the spacing ({shown}) or the affine of its head is no size of a voxel.", where=str(path))
    return {
        "shape": list(grid.shape),
        "channels": grid.channels,
        "spacing": None if grid.spacing is None else list(grid.spacing),
        "affine": None if grid.affine is None else list(grid.affine),
    }


def _count_channels(recording: Recording, count: int, expected: int) -> Iterator[str]:
    if count != expected:
        yield f"{recording.images[0]}: {count} channel{'s' * (count != 1)}, and {expected} in the other cases"


def _compare(recording: Recording, looks: list[dict[str, Any]]) -> Iterator[str]:
    """Every file of a case must lie on the grid of its first image."""
    first = looks[0]
    if "defect" in first:
        return
    for path, look in zip(recording.paths[1:], looks[1:], strict=True):
        if "defect" in look:
            continue
        if look["shape"] != first["shape"]:
            yield f"{path}: shape {look['shape']}, and {recording.images[0].name} {first['shape']}"
            continue
        for what in ("spacing", "affine"):
            here, there = look[what], first[what]
            if here is not None and there is not None and not np.allclose(here, there, rtol=1e-3, atol=1e-3):
                yield f"{path}: its {what} is not that of {recording.images[0].name}"
                break


def _shared(recording: Recording, look: dict[str, Any], seen: Seen) -> Iterator[str]:
    """Slices that another case has too: a validation or test by case would know its answers."""
    digests = [digest for digest in look.get("digests", ()) if digest]
    others: dict[str, tuple[Path, int]] = {}
    for digest in digests:
        other, path = seen.setdefault(digest, (recording.name, recording.images[0]))
        if other != recording.name:
            others[other] = (path, others.get(other, (path, 0))[1] + 1)
    for path, count in others.values():
        what = "the same image as" if count == len(digests) else f"{count} of its {len(digests)} slices are also in"
        yield f"{recording.images[0]}: {what} {path}: cases must not share images"
