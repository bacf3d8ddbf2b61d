"""Finding every defect of a Synapse folder: all lists, all slices, all volumes, and images that two cases share."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import FileHashCache
from tuner.data.catalog import ORGANS
from tuner.data.checks import DataWarning, lacking
from tuner.data.datasets.synapse import (
    LISTS,
    SLICES,
    case_of,
    find_folder,
    read_list,
    read_slice,
    read_volume,
    slice_path,
    volume_path,
)
from tuner.data.source import Image
from tuner.errors import DataError
from tuner.registry import Scalar

_TOPIC = "synapse check 2"


def check_files(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> list[str]:
    """Open every file that the lists name and return the defects, a line each; no option matters.

    A file that was found good is opened again only when its size or its time has changed.

    Raises:
        DataError: There is no such data set below the data root.
    """
    folder = find_folder(data_root, whole=False)
    train, defects = read_list(folder / LISTS / "train.txt")
    test, more = read_list(folder / LISTS / "test_vol.txt")
    defects += more
    for file, names, what in (("train.txt", train, "train on"), ("test_vol.txt", test, "test on")):
        if not names and (folder / LISTS / file).is_file():
            defects.append(f"{folder / LISTS / file}: names nothing: there is nothing to {what}")
    defects += [
        f"{folder / LISTS / 'train.txt'}: {name} is not of the form CASE_sliceNNN"
        for name in train
        if not case_of(name)
    ]
    for case in sorted({case_of(name) for name in train} & set(test)):
        defects.append(f"{folder / LISTS}: {case} is a training case and a test case")
    seen: dict[str, tuple[str, str]] = {}
    sizes: dict[str, dict[str, str]] = {}
    present: dict[str, set[int | None]] = {"training": set(), "test": set()}
    for case, path, is_volume in _files(folder, train, test):
        finding = _finding(path, is_volume, memory)
        if "defect" in finding:
            defects.append(f"{path}: {finding['defect']}")
            continue
        defects += _shared(finding, case, path, seen)
        present["test" if is_volume else "training"].update(finding["values"])
        sizes.setdefault(case, {}).setdefault(finding["size"], path.name)
    memory.save()
    for case, found in sizes.items():
        if len(found) > 1:
            shown = ", ".join(f"{size} ({name})" for size, name in found.items())
            defects.append(DataWarning(f"{folder / SLICES}: slices of {case} differ in size: {shown}"))
    places = {"training": "training slice", "test": "test volume"}
    return defects + list(lacking(ORGANS, present, places, anywhere=True))


def _files(folder: Path, train: list[str], test: list[str]) -> Iterator[tuple[str, Path, bool]]:
    for name in train:
        yield case_of(name), slice_path(folder, name), False
    for case in test:
        yield case, volume_path(folder, case), True


def _finding(path: Path, is_volume: bool, memory: FileHashCache) -> Mapping[str, Any]:
    """What is known of a file: its defect, or the digests of its images."""
    if not path.is_file():
        return {"defect": "named by a list, and not there"}
    known = memory.get(path, _TOPIC)
    if known is not None:
        return dict(known)
    try:
        image, label = read_volume(path) if is_volume else read_slice(path)
    except DataError as error:
        return {"defect": error.message.rstrip(".")}
    finding = {
        "images": [_digest(plane) for plane in (image if is_volume else image[None])],
        "size": " x ".join(map(str, image.shape[-2:])),
        "values": np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist(),
    }
    memory.put(path, _TOPIC, finding)
    return finding


def _digest(image: Image) -> str:
    """Hash of an image; empty for one of a single value (air), which any two cases may share."""
    if image.min() == image.max():
        return ""
    content: NDArray[np.float32] = np.ascontiguousarray(image, "<f4")
    return hashlib.sha256(content.data).hexdigest()[:32]


def _shared(finding: Mapping[str, Any], case: str, path: Path, seen: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Images of this file that another case has too: a validation or test by case would know its answers."""
    digests = finding.get("images", ())
    others: dict[str, tuple[str, int]] = {}
    for digest in filter(None, digests):
        first_case, first_file = seen.setdefault(digest, (case, path.name))
        if first_case != case:
            file, count = others.get(first_case, (first_file, 0))
            others[first_case] = (file, count + 1)
    for other, (file, count) in others.items():
        images = "image is" if count == 1 else "images are"
        yield f"{path}: {count} {images} also in {other} ({file}): cases must not share images"
