"""Facts of a data set by which it is compared with those of LossBench: imbalance, and shapes of objects."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.data.describe import measure
from tuner.data.preparation import PreparedData
from tuner.search.task_prior import PriorTask

MAX_MAPS = 64
"""Label maps that are measured, evenly spaced over the training samples."""

SCALES = {"classes": 1.0, "imbalance": 1.5, "object_share": 1.5, "thinness": 1.0, "boundary_per_area": 0.7}
"""Facts that are compared, and the difference of their logarithms that counts as 1."""

MEANINGS = {
    "classes": "classes that occur",
    "imbalance": "most frequent class / rarest",
    "object_share": "share of the image that an object takes",
    "thinness": "squares of its width that make up an object",
    "boundary_per_area": "boundary pixels per pixel of an object",
}


def measure_facts(data: PreparedData) -> dict[str, float]:
    """Measure the facts of the training samples.

    `object_share` and `thinness` are geometric means over the classes (without the background) of the median object;
    `boundary_per_area` is that of all objects together.
    """
    maps = data.train.labels
    places = np.unique(np.linspace(0, len(maps) - 1, min(MAX_MAPS, len(maps))).astype(int))
    sizes: dict[int, list[float]] = {}
    thinness: dict[int, list[float]] = {}
    boundary = area = 0.0
    for place in places:
        labels = np.asarray(maps[int(place)])
        for number, shapes in measure(labels, data.classes).items():
            if number == 0 and data.background:
                continue
            sizes.setdefault(number, []).extend(size / labels.size for size in shapes.sizes)
            thinness.setdefault(number, []).extend(shapes.thinness)
            boundary += shapes.boundary
            area += sum(shapes.sizes)
    shares = [share for share in data.class_frequencies if share > 0]
    return {
        "classes": float(len(shares)),
        "imbalance": max(shares) / min(shares),
        "object_share": _middle(sizes),
        "thinness": _middle(thinness),
        "boundary_per_area": boundary / area if area else 0.0,
    }


def _middle(by_class: Mapping[int, Sequence[float]]) -> float:
    """Return the geometric mean of the classes' medians; 0 where there is no object."""
    medians = [float(np.median(values)) for values in by_class.values() if len(values)]
    return math.exp(float(np.mean(np.log(medians)))) if medians else 0.0


def distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Return how far two data sets lie apart, root mean square over the facts; None where none can be compared."""
    found = [
        math.log(one[name] / other[name]) / scale for name, scale in SCALES.items() if one.get(name) and other.get(name)
    ]
    return math.sqrt(sum(d * d for d in found) / len(found)) if found else None


def similarity(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return a number from 0 to 1: 1 for equal facts, 0.6 where they differ by 1 each."""
    far = distance(one, other)
    return 0.0 if far is None else math.exp(-0.5 * far**2)


def outside(facts: Mapping[str, float], tasks: Sequence[PriorTask]) -> list[str]:
    """Return the facts in which a data set lies outside of what the tasks span, by more than a quarter of the scale."""
    found = []
    for name in SCALES:
        known = [task.facts[name] for task in tasks if task.facts.get(name)]
        margin = math.exp(SCALES[name] / 4)
        if known and facts.get(name) and not min(known) / margin <= facts[name] <= max(known) * margin:
            found.append(name)
    return found
