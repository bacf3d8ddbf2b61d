"""Finding every defect of a volume set: unreadable files, grids that disagree, foreign labels, shared images."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.class_codes import listed
from tuner.data.memory import FileMemory
from tuner.data.volume_files import Grid, read_channels, read_grid, read_truth
from tuner.data.volumes import Recording, VolumeSet
from tuner.errors import DataError

_IMAGE, _TRUTH = "volume check 1", "label map check 1"


def check_volumes(found: VolumeSet, memory: FileMemory) -> list[str]:
    """Open every file of every case and return the defects, a line each; saves what was good in `memory`."""
    defects: list[str] = []
    seen: dict[str, tuple[str, Path]] = {}
    for half, cases in (("training", found.cases), ("test", found.tests)):
        held: set[int] = set()
        for recording in cases.values():
            looks = [_finding(path, path == recording.label, memory) for path in recording.paths]
            defects += [str(look["defect"]) for look in looks if "defect" in look]
            defects += _compare(recording, looks)
            values = looks[-1].get("values", [])
            foreign = found.codes.foreign(values)
            if foreign:
                defects.append(
                    f"{recording.label}: holds {listed(foreign)}, which no class has ({found.codes.legal()})"
                )
            defects += _shared(recording, looks[0], seen)
            held.update(values)
        present = {found.codes.labels.get(value) for value in held}
        defects += [
            f"class {name!r} occurs in no {half} case"
            for number, name in enumerate(found.codes.names)
            if cases and number not in present
        ]
    memory.save()
    return defects


def _finding(path: Path, is_label: bool, memory: FileMemory) -> dict[str, Any]:
    topic = _TRUTH if is_label else _IMAGE
    try:
        known = memory.recall(path, topic) if path.is_file() else None
        if known is not None:
            return dict(known)
        grid = read_grid(path)
        finding = _grid_facts(grid)
        if is_label:
            finding["values"] = np.unique(read_truth(path)).tolist()[: 1 << 8]
        else:
            image = np.ascontiguousarray(read_channels(path), "<f4")
            flat = image.min() == image.max()
            finding["digest"] = "" if flat else hashlib.sha256(image.data).hexdigest()[:32]
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.remember(path, topic, finding)
    return finding


def _grid_facts(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing": None if grid.spacing is None else list(grid.spacing),
        "affine": None if grid.affine is None else list(grid.affine),
    }


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


def _shared(recording: Recording, look: dict[str, Any], seen: dict[str, tuple[str, Path]]) -> Iterator[str]:
    digest = look.get("digest")
    if not digest:
        return
    other, path = seen.setdefault(digest, (recording.name, recording.images[0]))
    if other != recording.name:
        yield f"{recording.images[0]}: the same image as {path}: cases must not share images"
