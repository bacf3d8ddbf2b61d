"""Prepared data: a data set divided by case, resized, and kept memory-mapped for all workers of a host.

Symbols: N samples, C channels, *S space ([H, W] or [D, H, W]).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import CACHE_HINT, open_or_build
from tuner.data.catalogue import DATASETS, VALIDATION_SHARE, DatasetEntry
from tuner.data.memory import FileMemory
from tuner.data.options import complete_options
from tuner.data.source import IGNORE_INDEX, SelfNaming, Source, TestCase
from tuner.data.storage import ArrayWriter, require_space
from tuner.data.validation import Protocol, choose_cases
from tuner.errors import DataError
from tuner.registry import Scalar, load

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_FORMAT = 1
"""Raised when the same source would be prepared into other numbers."""


@dataclass(frozen=True)
class Split:
    """Samples of one half of the division; the arrays are read-only memory maps."""

    images: NDArray[np.float32]
    """[N, C, *S]"""
    labels: NDArray[np.uint8]
    """[N, *S], class ids or 255 (ignore)"""
    case_of: NDArray[np.int32]
    """[N] index into `cases`; the samples of a case follow each other, slices from the lowest up"""
    cases: tuple[str, ...]


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

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.class_names)

    @property
    def scored_names(self) -> tuple[str, ...]:
        """Names of the classes that metrics count."""
        return self.class_names[int(self.background) :]


def prepare(
    config: Mapping[str, Any],
    *,
    data_root: Path | None,
    cache: Path,
    seed: int,
    progress: Progress | None = None,
) -> PreparedData:
    """Return the data of a `dataset` section, prepared at the first call and mapped from the cache at every other.

    Args:
        config: `{"name", "size", "validation", …}`; missing options take their defaults.
        data_root: Folder that holds one folder per data set; never written to.
        cache: Folder of prepared data.
        seed: Decides which cases a validation share takes.
        progress: Called while files are read and samples are written.

    Raises:
        UnknownNameError, SpecError: The section names what there is not, or a value that is not legal.
        DataError: Files are missing or broken, or there are too few cases.
        DiskFullError: The cache has no space left.
    """
    entry, _, source = open_source(config, data_root)
    validation = config.get("validation", VALIDATION_SHARE)
    train, held_out, protocol = choose_cases(
        validation, training=source.training, test=source.test, seed=seed, dataset=entry.name
    )
    cases = {"train": train, "validation": held_out}
    files = source.files([*train, *held_out])
    memory = FileMemory(cache / f"hashes-{entry.name}.json" if files else None)
    contents = _read_contents(files, memory, progress)
    names = class_names_of(entry, source, memory)
    fingerprint = _fingerprint(entry.name, names, source, cases, contents)
    folder = cache / f"{entry.name}-{fingerprint[:16]}"
    memory.save()
    manifest = open_or_build(folder, lambda scratch: _write(scratch, entry.name, names, source, cases, progress))
    return PreparedData(
        name=entry.name,
        channels=source.sample_shape[0],
        class_names=names,
        ignore_index=IGNORE_INDEX,
        spatial_dims=len(source.sample_shape) - 1,
        train=_open_split(folder, "train", train, manifest),
        validation=_open_split(folder, "validation", held_out, manifest),
        fingerprint=fingerprint,
        class_frequencies=tuple(manifest["class_frequencies"]),
        validation_protocol=protocol,
        folder=folder,
        stacked=source.stacked,
        background=source.background if isinstance(source, SelfNaming) else entry.background,
    )


def test_cases(config: Mapping[str, Any], *, data_root: Path | None, cache: Path, seed: int) -> Iterator[TestCase]:
    """Yield the test cases at their original size, one at a time; for `train` and `report` only.

    `cache` and `seed` are those of `prepare`; test cases do not depend on the seed.
    """
    entry, _, source = open_source(config, data_root)
    memory = FileMemory(cache / f"hashes-{entry.name}.json")
    class_names_of(entry, source, memory)
    memory.save()
    for case in source.test:
        yield source.original(case)


def open_source(config: Mapping[str, Any], data_root: Path | None) -> tuple[DatasetEntry, dict[str, Scalar], Source]:
    """Find the data set of a `dataset` section: its row, its options with defaults filled in, and its cases."""
    entry = DATASETS.find(str(config.get("name")), where="dataset.name")
    options = complete_options(entry, config)
    source: Source = load(entry.source)(options, data_root)
    return entry, options, source


def class_names_of(entry: DatasetEntry, source: Source, memory: FileMemory) -> tuple[str, ...]:
    """Return the names of the classes: the row's, or what the files say where the row leaves it to them."""
    return source.class_names(memory) if isinstance(source, SelfNaming) else entry.class_names


def _read_contents(
    files: Sequence[tuple[str, Path]], memory: FileMemory, progress: Progress | None
) -> list[tuple[str, str]]:
    contents = []
    for done, (name, path) in enumerate(files, 1):
        try:
            contents.append((name, memory.content_hash(path)))
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}.", where=str(path)) from error
        if progress:
            progress("reading", done, len(files))
    return contents


def _fingerprint(
    name: str,
    class_names: Sequence[str],
    source: Source,
    cases: Mapping[str, Sequence[str]],
    contents: Sequence[tuple[str, str]],
) -> str:
    whole = {
        "format": _FORMAT,
        "dataset": name,
        "classes": class_names,
        "recipe": source.recipe(),
        "shape": source.sample_shape,
        "cases": cases,
        "files": contents,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _write(
    folder: Path,
    name: str,
    class_names: Sequence[str],
    source: Source,
    cases: Mapping[str, Sequence[str]],
    progress: Progress | None,
) -> dict[str, Any]:
    counts = np.zeros(256, np.int64)
    sizes = {case: source.count(case) for half in cases.values() for case in half}
    total, done = sum(sizes.values()), 0
    # An image takes four bytes a pixel and channel, a label one.
    needed = total * math.prod(source.sample_shape[1:]) * (4 * source.sample_shape[0] + 1)
    require_space(folder.parent, needed=needed, purpose="the prepared data", hint=CACHE_HINT)
    for half, names in cases.items():
        samples = sum(sizes[case] for case in names)
        channels, *space = source.sample_shape
        with ExitStack() as stack:
            images = stack.enter_context(
                ArrayWriter(folder / f"{half}-images.npy", shape=(samples, channels, *space), dtype="<f4")
            )
            labels = stack.enter_context(
                ArrayWriter(folder / f"{half}-labels.npy", shape=(samples, *space), dtype="u1")
            )
            for case in names:
                for image, label in source.samples(case):
                    images.append(image)
                    labels.append(label)
                    if half == "train":
                        counts += np.bincount(label.ravel(), minlength=256)
                    done += 1
                    if progress:
                        progress("preparing", done, total)
            if not images.is_complete:
                raise DataError(f"fewer samples than the {samples} that were announced.", where=name)
    frequencies = _frequencies(counts, name, len(class_names))
    return {"class_frequencies": frequencies, "class_names": list(class_names), "samples": sizes}


def _frequencies(counts: NDArray[np.int64], name: str, classes: int) -> list[float]:
    foreign = [int(label) for label in np.flatnonzero(counts) if classes <= label != IGNORE_INDEX]
    if foreign:
        raise DataError(f"labels {foreign} are not classes of {name} (0 to {classes - 1}).")
    counted = counts[:classes]
    if not counted.sum():
        raise DataError(f"the training cases of {name} hold no labelled pixel.")
    return [float(share) for share in counted / counted.sum()]


def _open_split(folder: Path, half: str, cases: tuple[str, ...], manifest: Mapping[str, Any]) -> Split:
    sizes = manifest["samples"]
    return Split(
        images=np.load(folder / f"{half}-images.npy", mmap_mode="r"),
        labels=np.load(folder / f"{half}-labels.npy", mmap_mode="r"),
        case_of=np.repeat(np.arange(len(cases), dtype=np.int32), [sizes[case] for case in cases]),
        cases=cases,
    )
