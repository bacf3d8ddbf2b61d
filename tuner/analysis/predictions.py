"""What trials predicted, beside the truth: read from artifacts and prepared data, bounded, and never unpickled.

Label maps are uint8, [H, W] or [D, H, W]; 255 is ignored.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.local import Artifacts
from tuner.colors import CLASS_COLOURS, CONFUSED, EXTRA, MISSED
from tuner.data.arrays import SampleArray, open_validation
from tuner.data.cache import read_manifest
from tuner.data.catalog import DATASETS
from tuner.data.regions import KEY, ORDER, resolve_regions
from tuner.errors import SpecError
from tuner.label_archive import LabelArchive, Labels

PREDICTIONS = "predictions.npz"
IGNORED = 255

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Truth:
    """Images and labels of the validation cases, mapped from the prepared data of this machine."""

    images: SampleArray
    """[N, C, *S]"""
    labels: SampleArray
    """[N, *S]"""
    places: Mapping[str, slice]
    classes: tuple[str, ...]
    background: bool = True
    """Whether class 0 is background, which pictures show as nothing."""
    written: Labels | None = None
    """[256] Of a study with regions, what each label is predicted as at best: classes that its regions merge are one"""

    @classmethod
    def find(cls, cache: Path, spec: Mapping[str, Any], resources: Mapping[str, Any]) -> "Truth | None":
        """Return the truth of a stored study; None where its data was not prepared on this machine."""
        fingerprint, dataset = resources.get("fingerprint"), spec.get("dataset")
        options = dataset if isinstance(dataset, Mapping) else {}
        name = options.get("name")
        if not isinstance(fingerprint, str) or not fingerprint.isalnum():
            return None
        if not isinstance(name, str) or name not in DATASETS:
            return None
        folder = cache / f"{name}-{fingerprint[:16]}"
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        images, labels = open_validation(folder, manifest)
        names = manifest.get("class_names") or DATASETS[name].class_names
        background = bool(options.get("background", DATASETS[name].background))
        places = _places(manifest["samples"], len(labels))
        return cls(images, labels, places, tuple(names), background, _written(options, names, background=background))

    def of(self, case: str) -> tuple[NDArray[Any], Labels] | None:
        """Return image and labels of a case, both [D, H, W]; None for a case that is not there.

        `CASE#2` is the third sample of a case whose samples are scored one by one.
        """
        place = self.places.get(case) or self._one_of(case)
        if place is None:
            return None
        images, labels = self.images[place], self.labels[place]
        if self.written is not None:
            labels = self.written[labels]
        if labels.ndim == 4:
            return images[0, 0], labels[0]
        return images[:, 0], labels

    def _one_of(self, case: str) -> slice | None:
        name, _, number = case.rpartition("#")
        place = self.places.get(name)
        if place is None or not number.isdecimal() or int(number) >= place.stop - place.start:
            return None
        return slice(place.start + int(number), place.start + int(number) + 1)


def _written(options: Mapping[str, Any], names: Sequence[str], *, background: bool) -> Labels | None:
    """Return the label that a perfect prediction of each has, [256]; None without regions that fit the classes."""
    declared = options.get(KEY)
    if not isinstance(declared, Mapping):
        return None
    try:
        regions = resolve_regions(declared, options.get(ORDER), names, background=background)
    except SpecError:
        return None
    return regions.written(np.arange(256, dtype=np.uint8), ignore_index=IGNORED)


@contextmanager
def predicted_cases(artifacts: Artifacts, study: str, number: int) -> Iterator[LabelArchive]:
    """Open what a trial predicted at its best epoch. Raises NotFoundError when it is not there or cannot be read."""
    with artifacts.open(study, number, PREDICTIONS) as handle:
        yield LabelArchive(handle)


def render_case(
    grey: NDArray[Any], truth: Labels | None, predicted: Labels, view: str, *, background: bool = True
) -> Rgb:
    """Draw one slice as [H, W, 3]: grey image [H, W] below, classes or kinds of error above, borders strong.

    `view`: `image`, `truth`, `prediction` or `difference`. `background`: whether label 0 is drawn as nothing.
    """
    if not background:
        predicted, truth = _from_one(predicted), None if truth is None else _from_one(truth)
    low, high = (float(grey.min()), float(grey.max())) if grey.size else (0.0, 1.0)
    base = np.repeat((255 * (grey - low) / (high - low) if high > low else 0 * grey)[..., None], 3, -1)
    if view == "difference" and truth is not None:
        valid = truth != IGNORED
        for mask, colour in (
            (valid & (truth > 0) & (predicted == 0), MISSED),
            (valid & (truth == 0) & (predicted > 0), EXTRA),
            (valid & (truth > 0) & (predicted > 0) & (truth != predicted), CONFUSED),
        ):
            base[mask] = 0.15 * base[mask] + 0.85 * np.array(colour)
        base[border(np.where(valid, truth, 0))] = (255, 255, 255)
    elif view in ("truth", "prediction"):
        labels = predicted if view == "prediction" or truth is None else np.where(truth == IGNORED, 0, truth)
        palette = np.array([CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(256)], np.float32)
        inside = labels > 0
        base[inside] = 0.35 * base[inside] + 0.65 * palette[labels[inside].astype(int) - 1]
    drawn: Rgb = base.clip(0, 255).astype(np.uint8)
    return drawn


def render_between(grey: NDArray[Any], truth: Labels | None, first: Labels, second: Labels) -> Rgb:
    """Draw one slice as [H, W, 3]: where the second prediction differs from the first, and which of them is right.

    Only the first is right: the colour of what is missed; only the second: that of what is extra; neither, or nobody
    knows the truth: that of a wrong class. The border is that of the truth, else of the first.
    """
    low, high = (float(grey.min()), float(grey.max())) if grey.size else (0.0, 1.0)
    base = np.repeat((255 * (grey - low) / (high - low) if high > low else 0 * grey)[..., None], 3, -1)
    differs = first != second
    right = (np.zeros(first.shape, bool),) * 2 if truth is None else (first == truth, second == truth)
    if truth is not None:
        differs &= truth != IGNORED
    for mask, colour in (
        (differs & right[0], MISSED),
        (differs & right[1], EXTRA),
        (differs & ~right[0] & ~right[1], CONFUSED),
    ):
        base[mask] = 0.15 * base[mask] + 0.85 * np.array(colour)
    base[border(first if truth is None else np.where(truth == IGNORED, 0, truth)) & ~differs] = (255, 255, 255)
    drawn: Rgb = base.clip(0, 255).astype(np.uint8)
    return drawn


def border(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the pixels inside an object of [H, W] that touch another label."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        step = np.diff(labels, axis=axis) != 0
        ahead, behind = [slice(None)] * 2, [slice(None)] * 2
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        edge[tuple(ahead)] |= step
        edge[tuple(behind)] |= step
    return edge & (labels > 0)


def _from_one(labels: Labels) -> Labels:
    """Number classes from 1, so that none of them is drawn as nothing."""
    return np.where(labels == IGNORED, IGNORED, labels + 1).astype(np.uint8)


def _places(samples: Mapping[str, int], count: int) -> dict[str, slice]:
    """Return where each validation case lies: they are the last cases of the manifest, as many as fill the array."""
    places: dict[str, slice] = {}
    end = count
    for case, size in reversed(list(samples.items())):
        if end <= 0:
            break
        places[case] = slice(end - size, end)
        end -= size
    return places
