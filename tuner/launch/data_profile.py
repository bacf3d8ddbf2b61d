"""Profile of a data set for a study to be proposed: sizes, classes, and the shapes of their objects, from some samples.

Lengths are in pixels of the samples that were measured, whose size is `DataProfile.size`.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.data.datasets.volume_set import Volumes
from tuner.data.describe import Shapes, measure
from tuner.data.preparation import PreparedData, ProgressCallback, open_source, prepare
from tuner.data.source import Grouped, Source, VariableSize
from tuner.data.splits import choose_cases
from tuner.data.volumes import is_volume, read_channels, read_truth
from tuner.errors import DataError
from tuner.settings import Settings

SAMPLES = 48
"""Samples of each split that are measured."""
_MAX_SIDE, _MAX_SLICE_SIDE = 512, 256
"""Pictures, and slices of volumes, are measured at their own size, up to this side."""
_WINDOW_CASES = 3
_WINDOW_PERCENT = (0.5, 99.5)
"""Percentiles of the labelled voxels that a window of CT spans, as nnU-Net has it."""


@dataclass(frozen=True, slots=True)
class ClassProfile:
    """One class that metrics count, as it is in the samples that were measured."""

    name: str
    share: float
    """Of the training pixels"""
    objects: float
    """Connected objects in a sample that holds it, on average"""
    size: float
    """Median pixels of an object"""
    width: float
    """Mean width of its objects, by area"""
    thinness: float
    """How many squares of its width make up an object, by area"""


@dataclass(frozen=True, slots=True)
class DataProfile:
    """What a proposal rests on."""

    channels: int
    spatial_dims: int
    classes: tuple[str, ...]
    background: bool
    scored: tuple[ClassProfile, ...]
    imbalance: float
    """Share of the most frequent class over that of the rarest one that occurs"""
    empty: float
    """Share of the samples without any class that counts"""
    size: tuple[int, int]
    """[H, W] of the samples that were measured"""
    recorded: tuple[int, int]
    """Median [H, W] of the files' images"""
    uneven: bool
    """Whether the files' images differ in size"""
    cases: tuple[int, int, int]
    """Training, validation and test cases"""
    samples: tuple[int, int]
    """Training and validation samples"""
    measured: int
    """Samples that were measured"""

    @property
    def rarest(self) -> ClassProfile | None:
        """The rarest class that occurs, of those that metrics count."""
        return min((found for found in self.scored if found.share > 0), key=lambda found: found.share, default=None)

    @property
    def thinnest(self) -> ClassProfile | None:
        """The class with the thinnest objects."""
        return max((found for found in self.scored if found.share > 0), key=lambda found: found.thinness, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "channels": self.channels,
            "classes": list(self.classes),
            "imbalance": self.imbalance,
            "empty_samples": self.empty,
            "size": list(self.recorded),
            "cases": dict(zip(("train", "validation", "test"), self.cases, strict=True)),
            "samples": dict(zip(("train", "validation"), self.samples, strict=True)),
            "objects": [{name: getattr(found, name) for name in ClassProfile.__slots__} for found in self.scored],
        }


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Cases and samples of each split."""

    cases: tuple[int, int, int]
    """Training, validation, test"""
    samples: tuple[int, int]
    """Training, validation"""


def count_samples(section: Mapping[str, Any], settings: Settings, *, seed: int) -> SampleCounts:
    """Count the cases and samples of a data set, as `section` divides and reads it. Raises DataError."""
    entry, _, source = open_source(section, settings.data_root)
    train, held_out, _ = choose_cases(
        section["validation"],
        training=source.training,
        test=source.test,
        seed=seed,
        dataset=entry.name,
        group=source.group if isinstance(source, Grouped) else str,
    )
    samples = sum(map(source.count, train)), sum(map(source.count, held_out))
    return SampleCounts((len(train), len(held_out), len(source.test)), samples)


@contextmanager
def some_samples(
    section: Mapping[str, Any],
    settings: Settings,
    *,
    seed: int,
    counts: SampleCounts,
    on_progress: ProgressCallback | None = None,
) -> Iterator[PreparedData]:
    """Prepare `SAMPLES` samples of each split; what no study would use is removed from the cache at the end."""
    root, cache = settings.data_root, settings.cache
    data = prepare(section, data_root=root, cache=cache, seed=seed, on_progress=on_progress, samples=SAMPLES)
    try:
        yield data
    finally:
        if (len(data.train.cases), len(data.validation.cases)) != counts.cases[:2]:
            shutil.rmtree(data.folder, ignore_errors=True)


def profile_data(
    section: Mapping[str, Any], settings: Settings, *, seed: int, on_progress: ProgressCallback | None = None
) -> DataProfile:
    """Measure some samples of a data set, as slices or pictures of the size that they have.

    Args:
        section: A complete `dataset` section.
        settings: Where the data lies, and the cache.
        seed: The study's, which divides the cases.
        on_progress: Told of how far preparing the samples is.

    Raises:
        DataError: Files are missing or broken, or there are too few cases.
    """
    is_flat = {"dimensions": 2} if "dimensions" in section else {}
    whole = {**section, **is_flat} | ({"resize": True} if "resize" in section else {})
    _, _, source = open_source(whole, settings.data_root)
    recorded, uneven = _recorded(source)
    most = _MAX_SIDE if "width" in section else _MAX_SLICE_SIDE
    height, width = (max(16, round(extent * min(1.0, most / max(recorded)))) for extent in recorded)
    whole |= {"size": height, "width": width} if "width" in section else {"size": max(height, width)}
    counts = count_samples(whole, settings, seed=seed)
    with some_samples(whole, settings, seed=seed, counts=counts, on_progress=on_progress) as data:
        return _profile(data, counts, recorded, uneven=uneven)


def ct_window(section: Mapping[str, Any], settings: Settings) -> tuple[float, float] | None:
    """Return the window of CT that spans the labelled voxels of some cases, in HU; None where no channel is CT."""
    _, _, source = open_source(section, settings.data_root)
    if not isinstance(source, Volumes) or not any(kind.lower() == "ct" for kind in source.found.kinds):
        return None
    channel = next(number for number, kind in enumerate(source.found.kinds) if kind.lower() == "ct")
    values = []
    for case in list(source.found.cases.values())[:: max(1, len(source.found.cases) // _WINDOW_CASES)]:
        paths = case.images if len(case.images) > 1 else case.images * (channel + 1)
        image = read_channels(paths[channel], source.axes)
        truth = read_truth(case.label, source.axes, like=case.images[0])
        plane = image[0 if len(case.images) > 1 else channel]
        values.append(plane[truth > 0])
    labelled = np.concatenate(values)
    if not labelled.size or not is_volume(paths[channel]):
        return None
    low, high = np.percentile(labelled, _WINDOW_PERCENT)
    return float(5 * np.floor(low / 5)), float(5 * np.ceil(high / 5))


def _recorded(source: Source) -> tuple[tuple[int, int], bool]:
    """Return the median [H, W] of the files' images, and whether they differ; of some cases where there are many."""
    if not isinstance(source, VariableSize):
        _, *space = source.sample_shape
        return (space[-2], space[-1]), False
    cases = source.training
    spaces = {space[-2:] for case in cases[:: max(1, len(cases) // SAMPLES)] for space in source.spaces(case)}
    middle = np.median(np.asarray(sorted(spaces)), axis=0)
    return (int(middle[0]), int(middle[1])), len(spaces) > 1


def _profile(data: PreparedData, counts: SampleCounts, recorded: tuple[int, int], *, uneven: bool) -> DataProfile:
    chosen = np.unique(np.linspace(0, len(data.train.labels) - 1, SAMPLES).astype(int)).tolist()
    shapes: list[list[Shapes]] = [[] for _ in data.class_names]
    first, empty = int(data.background), 0
    pixels = np.zeros(256, np.int64)
    for number in chosen:
        labels = np.asarray(data.train.labels[number])
        found = measure(labels, data.classes)
        pixels += np.bincount(labels.ravel(), minlength=256)
        empty += not any(index >= first for index in found)
        for index, of_class in found.items():
            shapes[index].append(of_class)
    shares = pixels[: data.classes] / max(1, pixels[: data.classes].sum())
    _refuse_one_class(data, pixels)
    present = shares[shares > 0]
    height, width = data.train.labels[0].shape[-2:]
    return DataProfile(
        channels=data.channels,
        spatial_dims=data.spatial_dims,
        classes=data.class_names,
        background=data.background,
        scored=tuple(
            _class_profile(name, float(shares[index]), shapes[index])
            for index, name in enumerate(data.class_names)
            if index >= first
        ),
        imbalance=float(present.max() / present.min()),
        empty=empty / len(chosen),
        size=(height, width),
        recorded=recorded,
        uneven=uneven,
        cases=counts.cases,
        samples=counts.samples,
        measured=len(chosen),
    )


def _refuse_one_class(data: PreparedData, pixels: Any) -> None:
    """Refuse masks that hold one value only: there is nothing to tell apart."""
    held = [name for index, name in enumerate(data.class_names) if pixels[index]]
    if len(data.class_names) < 2 or len(held) < 2:
        raise DataError(
            f"the masks hold one class only ({', '.join(held) or 'none'}): there is nothing to tell apart.",
            hint="Two values would do, such as 0 and 255. Masks that are drawn in alpha, or as instances, are read by "
            "dataset.labels (docs/data.md).",
            where="dataset",
        )


def _class_profile(name: str, share: float, found: list[Shapes]) -> ClassProfile:
    sizes = np.asarray([size for shapes in found for size in shapes.sizes], np.float64)
    if not sizes.size:
        return ClassProfile(name, share, 0.0, 0.0, 0.0, 0.0)
    widths = [width for shapes in found for width in shapes.widths]
    thinness = [value for shapes in found for value in shapes.thinness]
    return ClassProfile(
        name,
        share,
        objects=len(sizes) / len(found),
        size=float(np.median(sizes)),
        width=float(np.average(widths, weights=sizes)),
        thinness=float(np.average(thinness, weights=sizes)),
    )
