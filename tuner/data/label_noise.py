"""Label noise: training labels with the errors that annotators make, of a stated kind and rate.

An object is a connected region (pixels that share a side) of one class in the labels of a case: of a volume where the
samples of a case are its slices. Every error is of whole objects, and the same for the same seed, case and object
whatever the rate: what is missing at a rate of 0.1 is missing at 0.2 too. Ignored pixels stay as they are.

| kind | what happens to an object |
|---|---|
| `boundary` | its border is drawn too far inside or outside (evenly likely): `rate` of its pixels are lost, or added |
| `drop` | it is missing with probability `rate` |
| `flip` | it has another class with probability `rate` |
| `shift` | it is moved in a random direction by `rate` of its own size (the side of a square or cube of its pixels) |

Where there is no background class, what an object leaves behind becomes the class that is nearest.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.source import IGNORE_INDEX, Label
from tuner.errors import DataError
from tuner.registry import Option

KEY = "label_noise"
KINDS = ("none", "boundary", "drop", "flip", "shift")
OPTIONS = (
    Option("kind", "str", "none", "What is wrong with the training labels.", choices=KINDS),
    Option("rate", "float", 0.2, "How much of it: a share of the objects, of their pixels or of their size.", 0.0, 1.0),
    Option("seed", "int", 0, "Which objects it happens to.", 0, 2**31 - 1),
)
_FORMAT = 1
"""Raised when the same noise would give other labels."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """What is done to training labels."""

    kind: str
    rate: float
    seed: int

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> "LabelNoise | None":
        """Return the noise of a `dataset` section; None where labels stay as they are."""
        given = dataset.get(KEY) or {}
        values: dict[str, Any] = {option.name: given.get(option.name, option.default) for option in OPTIONS}
        noise = cls(str(values["kind"]), float(values["rate"]), int(values["seed"]))
        return None if noise.kind == "none" or noise.rate == 0 else noise

    def fingerprint(self, clean: str) -> str:
        """Return the fingerprint of data with this noise from that of the same data without."""
        whole = {"format": _FORMAT, "data": clean, **asdict(self)}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of a case."""

    number: int
    """Its class."""
    box: tuple[slice, ...]
    mask: Flags
    """Within the box."""


def spoil(labels: Label, noise: LabelNoise, case: str, *, classes: int, background: bool, stacked: bool) -> Label:
    """Return the labels of a case with noise; the given ones are left as they are.

    Args:
        labels: [*S], or [slices, H, W] of a stacked case.
        noise: Kind, rate and seed.
        case: Name of the case, which decides the draws beside the seed.
        classes: Number of classes.
        background: Whether class 0 is background; it has no objects then, and fills what objects leave behind.
        stacked: Whether the first axis are slices: borders and shifts stay within a slice.

    Raises:
        DataError: `flip` with one class only.
    """
    first = int(background)
    if noise.kind == "flip" and classes - first < 2:
        raise DataError(
            "label noise of kind flip exchanges classes, and there is one class only.",
            hint=f"Take one of {', '.join(kind for kind in KINDS if kind not in ('none', 'flip'))}.",
            where=f"dataset.{KEY}.kind",
        )
    spoiled = labels.copy()
    moved = []
    for place, item in enumerate(_objects(labels, first, classes)):
        rng = _generator(noise, case, place)
        if noise.kind == "boundary":
            _move_border(spoiled, labels, item, rng, noise.rate, background=background, stacked=stacked)
        elif noise.kind == "shift":
            offsets = _offsets(item.mask, rng, noise.rate, stacked=stacked)
            if offsets.any():
                moved.append((item, offsets))
                _vacate(spoiled, labels, item, item.mask, background=background)
        elif rng.random() < noise.rate:
            if noise.kind == "drop":
                _vacate(spoiled, labels, item, item.mask, background=background)
            else:
                others = [number for number in range(first, classes) if number != item.number]
                spoiled[item.box][item.mask] = rng.choice(others)
    for item, offsets in moved:
        _place(spoiled, labels, item, offsets)
    return spoiled


def _generator(noise: LabelNoise, case: str, place: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{noise.seed}:{noise.kind}:{case}:{place}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _objects(labels: Label, first: int, classes: int) -> Iterator[_Object]:
    """Yield the objects by class and place."""
    from scipy import ndimage

    for number, whole in enumerate(ndimage.find_objects(labels.astype(np.int32) + 1, max_label=classes)):
        if whole is None or number < first:
            continue
        numbered, _ = ndimage.label(labels[whole] == number)
        for index, box in enumerate(ndimage.find_objects(numbered), 1):
            outer = tuple(
                slice(part.start + inner.start, part.start + inner.stop) for part, inner in zip(whole, box, strict=True)
            )
            yield _Object(number, outer, numbered[box] == index)


def _widen(box: tuple[slice, ...], by: int, shape: tuple[int, ...], *, stacked: bool) -> tuple[slice, ...]:
    """Return a box that is wider by so many pixels on each side, within the map; not along the slices of a stack."""
    return tuple(
        part if stacked and axis == 0 else slice(max(0, part.start - by), min(extent, part.stop + by))
        for axis, (part, extent) in enumerate(zip(box, shape, strict=True))
    )


def _placed(item: _Object, box: tuple[slice, ...]) -> Flags:
    """Return the mask of an object in a wider box."""
    mask = np.zeros([part.stop - part.start for part in box], dtype=bool)
    inner = tuple(
        slice(own.start - outer.start, own.stop - outer.start) for own, outer in zip(item.box, box, strict=True)
    )
    mask[inner] = item.mask
    return mask


def _depth(mask: Flags, *, stacked: bool) -> NDArray[np.float64]:
    """Return for each pixel of a mask the distance to the nearest pixel outside; beyond the array is no outside."""
    from scipy import ndimage

    sampling = (1e6, *[1.0] * (mask.ndim - 1)) if stacked else None
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=sampling)
    return distance


def _move_border(
    spoiled: Label,
    labels: Label,
    item: _Object,
    rng: np.random.Generator,
    rate: float,
    *,
    background: bool,
    stacked: bool,
) -> None:
    count = round(rate * int(item.mask.sum()))
    grows = rng.random() < 0.5
    if count == 0:
        return
    reach = 2 + int(np.ceil(rate * max(item.mask.shape)))
    box = _widen(item.box, reach if grows else 1, labels.shape, stacked=stacked)
    mask = _placed(item, box)
    # ties by a draw: in the order of the array, borders would move to one side
    order = rng.random(mask.shape) * 1e-3
    if not grows:
        depth = np.where(mask, _depth(mask, stacked=stacked) + order, np.inf)
        lost = np.zeros(mask.shape, dtype=bool)
        lost.flat[np.argsort(depth, axis=None)[:count]] = True
        _vacate(spoiled, labels, _Object(item.number, box, mask), lost & mask, background=background)
        return
    free = ~mask & (labels[box] != IGNORE_INDEX)
    if background:
        free &= labels[box] == 0  # a border that is drawn too far outside hides no other object
    if stacked:
        free &= mask.any(axis=tuple(range(1, mask.ndim)), keepdims=True)
    distance = np.where(free, _depth(~mask, stacked=stacked) + order, np.inf)
    added = np.zeros(mask.shape, dtype=bool)
    added.flat[np.argsort(distance, axis=None)[: min(count, int(free.sum()))]] = True
    spoiled[box][added & free] = item.number


def _offsets(mask: Flags, rng: np.random.Generator, rate: float, *, stacked: bool) -> NDArray[np.int64]:
    """Return by how many pixels an object moves along each axis."""
    axes = mask.ndim - int(stacked)
    pixels = int(mask.sum()) / (mask.shape[0] if stacked else 1)
    direction = rng.standard_normal(axes)
    length = rate * pixels ** (1 / axes) / max(float(np.linalg.norm(direction)), 1e-9)
    step = np.rint(direction * length).astype(np.int64)
    return np.concatenate([np.zeros(1, np.int64), step]) if stacked else step


def _place(spoiled: Label, labels: Label, item: _Object, offsets: NDArray[np.int64]) -> None:
    """Draw an object where it has moved to, as far as that lies within the map and is not ignored."""
    places = np.argwhere(item.mask) + [part.start for part in item.box] + offsets
    places = places[((places >= 0) & (places < labels.shape)).all(axis=1)]
    kept = labels[tuple(places.T)] != IGNORE_INDEX
    spoiled[tuple(places[kept].T)] = item.number


def _vacate(spoiled: Label, labels: Label, item: _Object, where: Flags, *, background: bool) -> None:
    """Take pixels of an object (a mask in its box) away from it, where no other object has taken them already."""
    from scipy import ndimage

    view = spoiled[item.box]
    gone = where & (view == item.number)
    if background:
        view[gone] = 0
        return
    box = _widen(item.box, 1, labels.shape, stacked=False)
    around = labels[box]
    inside = _placed(item, box)
    known = ~inside & (around != IGNORE_INDEX)
    if not known.any():
        return
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = around[tuple(nearest)]
    inner = tuple(
        slice(own.start - outer.start, own.stop - outer.start) for own, outer in zip(item.box, box, strict=True)
    )
    view[gone] = filled[inner][gone]
