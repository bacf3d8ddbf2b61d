"""Preparation: a data set divided by case, resized, memory-mapped for all workers of a host; its fingerprint.

Symbols: N samples, C channels, *S space ([H, W] or [D, H, W]).

One study, one content of its data: values found on another one could not be compared.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.arrays import (
    ProgressCallback,
    Ragged,
    Split,
    class_frequencies,
    label_writer,
    open_split,
    stack_range,
    write_splits,
)
from tuner.data.cache import FileHashCache, open_or_build
from tuner.data.catalog import DATASETS, VALIDATION_SHARE, DatasetSpec, dataset_options
from tuner.data.label_noise import KEY, LabelNoise, spoil
from tuner.data.regions import KEY as REGIONS
from tuner.data.regions import ORDER, Regions, resolve_regions
from tuner.data.source import (
    IGNORE_INDEX,
    DeclaresRegions,
    DefinesClasses,
    Grouped,
    Source,
    SupportsInference,
    TestCase,
)
from tuner.data.splits import Protocol, choose_cases
from tuner.errors import ConflictError, DataError, Problem, SpecError
from tuner.registry import Scalar, load

__all__ = ["PreparedData", "ProgressCallback", "Split", "class_names_of", "open_source", "prepare", "test_cases"]

_FORMAT = 1
"""Raised when the same source would be prepared into other numbers."""


@dataclass(frozen=True)
class PreparedData:
    """A data set as a trial sees it."""

    name: str
    channels: int
    class_names: tuple[str, ...]
    """Index 0 is the background, where there is one."""
    ignore_index: int
    spatial_dims: int
    train: Split
    validation: Split
    fingerprint: str
    """Hash of the contents, the options and the division; the same on every machine."""
    class_frequencies: tuple[float, ...]
    """Share of each class of the training pixels that count; sums to 1."""
    validation_protocol: Protocol
    """How validation cases were chosen; `test` marks results that are no test any more."""
    folder: Path
    stacked: bool
    """True: the slices of a case are scored as one volume [slices, H, W]."""
    background: bool = True
    """Whether class 0 is background; no metric counts it then."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How further images are read (`tuner.data.inference_inputs`), as plain data; empty where that is not known."""
    regions: Regions | None = None
    """Classes that overlap, each a set of `class_names`; None: the classes of the label map are what is learnt."""

    @property
    def uneven(self) -> bool:
        """Whether samples have sizes of their own: such data is trained on in patches."""
        return isinstance(self.train.images, Ragged)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[C, *S] of every sample; zeros for *S where samples keep sizes of their own."""
        images = self.train.images
        if isinstance(images, Ragged):
            return (self.channels, *[0] * self.spatial_dims)
        return tuple(images.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.class_names)

    @property
    def scored_names(self) -> tuple[str, ...]:
        """Names of the classes, or regions, that metrics count."""
        return self.class_names[int(self.background) :] if self.regions is None else self.regions.names

    @property
    def outputs(self) -> int:
        """Channels of a network's output: one a class, or one a region."""
        return self.classes if self.regions is None else len(self.regions)

    @property
    def output_frequencies(self) -> tuple[float, ...]:
        """Share of the training pixels that count of each class, or in each region."""
        shares = self.class_frequencies
        return shares if self.regions is None else self.regions.shares(shares)


def prepare(
    config: Mapping[str, Any],
    *,
    data_root: Path | None,
    cache: Path,
    seed: int,
    on_progress: ProgressCallback | None = None,
    samples: int | None = None,
) -> PreparedData:
    """Return the data of a `dataset` section, prepared at the first call and mapped from the cache at every other.

    Args:
        config: `{"name", "size", "validation", …}`; missing options take their defaults.
        data_root: Folder that holds one folder per data set; never written to.
        cache: Folder of prepared data.
        seed: Decides which cases a validation share takes.
        on_progress: Called while files are read and samples are written.
        samples: Prepare about so many samples of each split only, from cases all over it: for a measurement.

    Raises:
        UnknownNameError, SpecError: The section names what there is not, or a value that is not legal.
        DataError: Files are missing or broken, or there are too few cases.
        DiskFullError: The cache has no space left.
    """
    entry, _, source = open_source(config, data_root)
    validation = config.get("validation", VALIDATION_SHARE)
    train, held_out, protocol = choose_cases(
        validation,
        training=source.training,
        test=source.test,
        seed=seed,
        dataset=entry.name,
        group=source.group if isinstance(source, Grouped) else str,
    )
    if samples is not None:
        train, held_out = _some(source, train, samples), _some(source, held_out, samples)
    cases = {"train": train, "validation": held_out}
    files = source.files([*train, *held_out])
    memory = FileHashCache(cache / f"hashes-{entry.name}.json" if files else None)
    contents = _read_contents(files, memory, on_progress)
    names = class_names_of(entry, source, memory)
    reading = source.reading(memory) if isinstance(source, SupportsInference) else {}
    background = source.background if isinstance(source, DefinesClasses) else entry.background
    regions = regions_of(config, source, names, background=background)
    fingerprint = _fingerprint(entry.name, names, source, cases, contents, regions)
    folder = cache / f"{entry.name}-{fingerprint[:16]}"
    memory.save()
    manifest = open_or_build(
        folder,
        lambda scratch: write_splits(
            scratch, name=entry.name, class_names=names, source=source, cases=cases, on_progress=on_progress
        ),
        goes_on=True,
    )
    noise = LabelNoise.of(config)
    if noise is not None:
        clean = open_split(folder, "train", train, manifest, source)
        spoiling = _Spoiling(folder, manifest, clean, noise, len(names), background, source.stacked)
        fingerprint = noise.fingerprint(fingerprint)
        folder = cache / f"{entry.name}-{fingerprint[:16]}"
        manifest = open_or_build(folder, spoiling.build)
    return PreparedData(
        name=entry.name,
        channels=source.sample_shape[0],
        class_names=names,
        ignore_index=IGNORE_INDEX,
        spatial_dims=len(source.sample_shape) - 1,
        train=open_split(folder, "train", train, manifest, source),
        validation=open_split(folder, "validation", held_out, manifest, source),
        fingerprint=fingerprint,
        class_frequencies=tuple(manifest["class_frequencies"]),
        validation_protocol=protocol,
        folder=folder,
        stacked=source.stacked,
        background=background,
        reading=reading,
        regions=regions,
    )


def regions_of(
    config: Mapping[str, Any], source: Source, class_names: Sequence[str], *, background: bool
) -> Regions | None:
    """Return the regions that the section declares, or else the files; None where neither does.

    Raises SpecError for classes that there are not, and where both declare different ones.
    """
    declared = source.declared_regions if isinstance(source, DeclaresRegions) else None
    chosen = config if config.get(REGIONS) else declared
    if chosen is None:
        return None
    found = resolve_regions(chosen[REGIONS], chosen.get(ORDER), class_names, background=background)
    if declared is not None and chosen is config:
        stated = resolve_regions(declared[REGIONS], declared.get(ORDER), class_names, background=background)
        if found != stated:
            raise SpecError(
                [Problem(f"dataset.{REGIONS}", f"the files declare other regions ({declared[REGIONS]}); leave it out")]
            )
    return found


def _some(source: Source, cases: Sequence[str], samples: int) -> tuple[str, ...]:
    """Return cases from all over a split that hold so many samples together; one at least, in their order."""
    chosen: list[int] = []
    held = 0
    # With its bits reversed a number jumps over the whole range at once.
    for index in sorted(range(len(cases)), key=lambda number: f"{number:032b}"[::-1]):
        if held >= samples:
            break
        chosen.append(index)
        held += source.count(cases[index])
    return tuple(cases[index] for index in sorted(chosen))


def test_cases(config: Mapping[str, Any], *, data_root: Path | None, cache: Path, seed: int) -> Iterator[TestCase]:
    """Yield the test cases at their original size, one at a time; for `train` and `report` only.

    `cache` and `seed` are those of `prepare`; test cases do not depend on the seed.
    """
    entry, _, source = open_source(config, data_root)
    memory = FileHashCache(cache / f"hashes-{entry.name}.json")
    class_names_of(entry, source, memory)
    memory.save()
    for case in source.test:
        yield source.original(case)


def open_source(config: Mapping[str, Any], data_root: Path | None) -> tuple[DatasetSpec, dict[str, Scalar], Source]:
    """Find the data set of a `dataset` section: its row, its options with defaults filled in, and its cases."""
    entry = DATASETS.find(str(config.get("name")), where="dataset.name")
    options = dataset_options(entry, config)
    source: Source = load(entry.source)(options, data_root)
    return entry, options, source


def class_names_of(entry: DatasetSpec, source: Source, memory: FileHashCache) -> tuple[str, ...]:
    """Return the names of the classes: the row's, or what the files say where the row leaves it to them."""
    return source.class_names(memory) if isinstance(source, DefinesClasses) else entry.class_names


def _read_contents(
    files: Sequence[tuple[str, Path]], memory: FileHashCache, on_progress: ProgressCallback | None
) -> list[tuple[str, str]]:
    contents = []
    for done, (name, path) in enumerate(files, 1):
        try:
            contents.append((name, memory.content_hash(path)))
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}.", where=str(path)) from error
        if on_progress:
            on_progress("reading", done, len(files))
    return contents


def _fingerprint(
    name: str,
    class_names: Sequence[str],
    source: Source,
    cases: Mapping[str, Sequence[str]],
    contents: Sequence[tuple[str, str]],
    regions: Regions | None,
) -> str:
    whole: dict[str, Any] = {
        "format": _FORMAT,
        "dataset": name,
        "classes": class_names,
        "recipe": source.recipe(),
        "shape": source.sample_shape,
        "cases": cases,
        "files": contents,
    }
    if regions is not None:
        whole["regions"] = regions.as_dict()
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Spoiling:
    """Makes prepared data with noisy training labels from the same data without; everything else is shared."""

    folder: Path
    manifest: Mapping[str, Any]
    clean: Split
    noise: LabelNoise
    classes: int
    background: bool
    stacked: bool

    def build(self, scratch: Path) -> dict[str, Any]:
        """Fill the folder and return its manifest."""
        for path in sorted(self.folder.glob("*.npy")):
            if not path.name.startswith("train-labels"):
                _link(path, scratch / path.name)
        counts = np.zeros(256, np.int64)
        with label_writer(scratch, "train", self.clean.labels) as file:
            for label in self._labels():
                counts += np.bincount(label.ravel(), minlength=256)
                file.append(label)
        frequencies = class_frequencies(counts, self.folder.name, self.classes)
        kept = {key: value for key, value in self.manifest.items() if key != "files"}
        return kept | {"class_frequencies": frequencies, KEY: asdict(self.noise)}

    def _labels(self) -> Iterator[NDArray[np.uint8]]:
        split = self.clean
        counts = np.bincount(split.case_of, minlength=len(split.cases))
        start = 0
        for case, count in zip(split.cases, counts.tolist(), strict=True):
            if self.stacked:
                yield from self._spoil(stack_range(split.labels, start, start + count), case)
            else:
                for number in range(start, start + count):
                    name = case if count == 1 else f"{case}#{number - start}"
                    yield self._spoil(np.asarray(split.labels[number]), name)
            start += count

    def _spoil(self, labels: NDArray[np.uint8], case: str) -> NDArray[np.uint8]:
        return spoil(labels, self.noise, case, classes=self.classes, background=self.background, stacked=self.stacked)


def _link(path: Path, target: Path) -> None:
    """Share a file that is only read; copy it where the file system has no links."""
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copy2(path, target)


def check_same_data(dataset: str, study: str, *, found: str, stored: str | None, where: str) -> None:
    """Raise ConflictError when the fingerprint of the data is another one than was stored with the study.

    Args:
        dataset: Name of the data set.
        study: Name of the study.
        found: Fingerprint of the data that is here.
        stored: Fingerprint that the study began with; None when nobody has looked yet.
        where: Where the data was read from.
    """
    if stored is None or stored == found:
        return
    raise ConflictError(
        f"the data of {dataset!r} here is not what study {study!r} began with: fingerprint {found[:16]}, "
        f"stored {stored[:16]}. Its trials could not be compared.",
        hint="Bring the data back, or begin another study by --name.",
        where=where,
    )
