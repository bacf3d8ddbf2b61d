"""Finding every defect of pairs of image and mask: unreadable files, sizes, codes, lacking classes, shared images."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.datasets.image_pairs import Pair
from tuner.data.flaws import lacking
from tuner.data.images import read_codes, read_image
from tuner.data.label_map import ClassCodes, listed
from tuner.data.memory import FileMemory
from tuner.errors import DataError

_IMAGE, _MASK = "picture check 1", "mask check 1"


def check_pairs(
    training: Sequence[Pair],
    tests: Sequence[Pair],
    codes: ClassCodes | None,
    memory: FileMemory,
    *,
    grey_only: bool = False,
    every_class: bool = True,
) -> list[str]:
    """Open every image and mask, and return the defects, a line each.

    Args:
        training: Pairs that train.
        tests: Pairs that are held out.
        codes: What the masks may hold; None when that could not be told.
        memory: What is known of unchanged files.
        grey_only: An image in colour is a defect: it would lose its colour.
        every_class: A class that occurs nowhere is a defect; otherwise only one that the other half has.
    """
    defects: list[str] = []
    seen: dict[str, tuple[str, Path]] = {}
    present: dict[str, set[int | None]] = {}
    for half, pairs in (("training", training), ("test", tests)):
        held: set[int] = set()
        for pair in pairs:
            image, mask = (_finding(path, topic, memory) for path, topic in ((pair.image, _IMAGE), (pair.mask, _MASK)))
            defects += [f"{found['defect']}" for found in (image, mask) if "defect" in found]
            defects += _compare(pair, image, mask, codes, grey_only=grey_only)
            defects += _shared(image, pair, half, seen)
            held.update(mask.get("values", ()))
        present[half] = {codes.labels.get(value) for value in held} if codes else set()
    what = {half: f"{half} mask" for half in present}
    return defects + list(lacking(codes.names if codes else (), present, what, anywhere=every_class))


def _finding(path: Path, topic: str, memory: FileMemory) -> dict[str, Any]:
    try:
        known = memory.recall(path, topic) if path.is_file() else None
        if known is not None:
            return dict(known)
        finding = _look_at_image(path) if topic == _IMAGE else _look_at_mask(path)
    except DataError as error:
        return {"defect": str(error).rstrip(".")}
    memory.remember(path, topic, finding)
    return finding


def _look_at_image(path: Path) -> dict[str, Any]:
    image = read_image(path, None)
    flat = bool(image.min() == image.max())
    # An image of a single value (black) tells nothing: any two groups may share it.
    digest = "" if flat else hashlib.sha256(np.ascontiguousarray(image, "<f4").data).hexdigest()[:32]
    return {"size": list(image.shape[1:]), "channels": len(image), "digest": digest}


def _look_at_mask(path: Path) -> dict[str, Any]:
    codes = read_codes(path)
    return {"size": list(codes.shape), "values": np.unique(codes).tolist()[: 1 << 8]}


def _compare(
    pair: Pair, image: dict[str, Any], mask: dict[str, Any], codes: ClassCodes | None, *, grey_only: bool
) -> Iterator[str]:
    if "size" in image and "size" in mask and image["size"] != mask["size"]:
        yield f"{pair.mask}: {_size(mask)} pixels, and its image {_size(image)}"
    if grey_only and image.get("channels") == 3:
        yield f"{pair.image}: in colour, and the first image is grey: set dataset.channels to 1 or 3"
    foreign = codes.foreign(mask.get("values", ())) if codes else []
    if codes and foreign:
        yield f"{pair.mask}: holds {listed(foreign)}, which no class has ({codes.legal()})"


def _shared(image: dict[str, Any], pair: Pair, half: str, seen: dict[str, tuple[str, Path]]) -> Iterator[str]:
    """An image that another group has too: a validation or test would know its answers."""
    digest = image.get("digest")
    if not digest:
        return
    here = f"{half} {pair.group}"
    other, path = seen.setdefault(digest, (here, pair.image))
    if other != here and path != pair.image:
        yield f"{pair.image}: the same image as {path} ({other}): groups must not share images"


def _size(finding: dict[str, Any]) -> str:
    return " x ".join(map(str, reversed(finding["size"])))
