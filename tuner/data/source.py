"""Protocols of a data set: cases with samples, test cases at their original size, files below the data root.

A further data set is one module with a function that returns a `Source` (and one that checks its files), and one row
in `tuner.data.catalog`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import FileHashCache
from tuner.errors import DataError

if TYPE_CHECKING:
    from tuner.data.catalog import DatasetSpec


def find_below(data_root: Path | None, path: str, entry: "DatasetSpec") -> Path:
    """Return the folder `<data root>/<path>`.

    Raises:
        DataError: No data root is named, `path` leads out of it, or there is no such folder; with the layout, and how
            to get the data.
    """
    advice = f"Expected:\n{entry.layout}\n{entry.how_to_get}"
    if data_root is None:
        raise DataError(
            f"dataset {entry.name} needs a data root, and none was named.",
            hint=f"Name it with --data-root DIR or TUNER_DATA_ROOT. {advice}",
            where="dataset.name",
        )
    folder = inside(data_root, path, where="dataset.path")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "is not there"
        raise DataError(f"dataset {entry.name}: the folder {what}.", hint=advice, where=str(folder))
    return folder


def inside(root: Path, path: str, *, where: str) -> Path:
    """Return `root / path`; DataError when that is not below `root`, links followed."""
    relative = PurePosixPath(path)
    is_plain = path.isprintable() and "\\" not in path and not relative.is_absolute() and ".." not in relative.parts
    if not is_plain or not relative.parts or relative.parts[0].startswith("~"):
        raise DataError(f"{path!r} is not a path below {root}.", hint="Name it relative to that folder.", where=where)
    target = root / relative
    if not target.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{path!r} is a link that leads out of {root}.", hint="Only what lies below it is read.", where=where
        )
    return target


Image = NDArray[np.float32]
Label = NDArray[np.uint8]

IGNORE_INDEX = 255
"""The label that counts for nothing, in every data set."""


@dataclass(frozen=True, slots=True)
class FoundClass:
    """What is read as a class."""

    number: int
    """255: ignored"""
    name: str
    values: str
    """Its values or colours in the masks: `255`, `#ff0000`, `128..65535`"""
    share: float
    """Of all pixels"""
    objects: int
    """Connected objects (pixels that share a side) over all masks"""
    smallest: int | None
    """Pixels of the smallest object; None where there is none"""
    cases: int
    """Masks that hold it"""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return one line for people."""
        size = "" if self.smallest is None else f", the smallest of {self.smallest} px"
        return (
            f"class {self.number} {self.name!r} (value {self.values}): {100 * self.share:.3g} % of the pixels, "
            f"{self.objects} object{'s' * (self.objects != 1)}{size}, in {self.cases} "
            f"mask{'s' * (self.cases != 1)}"
        )


@dataclass(frozen=True, slots=True)
class TestCase:
    """A case as it was recorded, to be scored at its own size."""

    __test__ = False

    name: str
    image: Image
    """[D, H, W] or [D, C, H, W] slices of a stacked data set, [C, *S] otherwise; intensities as in training."""
    label: Label
    """[D, H, W], or [*S]."""
    spacing: tuple[float, ...] | None
    """Size of a pixel along each axis of `label` in mm; None where it is not known."""


class Source(Protocol):
    """A data set that was found: which cases it has, and how they are read. Nothing is read before it is asked for."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[C, *S] of every sample, after resizing."""

    @property
    def stacked(self) -> bool:
        """Whether the samples of a case are the slices of one volume."""

    @property
    def training(self) -> tuple[str, ...]:
        """Training cases."""

    @property
    def test(self) -> tuple[str, ...]:
        """Test cases."""

    def count(self, case: str) -> int:
        """Number of samples of a training or test case."""

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """Every file that the samples of these cases come from, under a name that is the same on every machine."""

    def recipe(self) -> Mapping[str, Any]:
        """Whatever else decides what the samples are: options and versions."""

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """The samples of a training or test case, in order: [C, *S] and [*S]."""

    def original(self, case: str) -> TestCase:
        """A test case at its original size."""


@runtime_checkable
class DefinesClasses(Protocol):
    """What a source has beside `Source` when its files decide which classes there are."""

    @property
    def background(self) -> bool:
        """Whether class 0 is background."""

    def class_names(self, memory: FileHashCache) -> tuple[str, ...]:
        """Names of the classes; what is learnt of a file is remembered."""


@runtime_checkable
class HasSpacing(Protocol):
    """What a source has beside `Source` when its layout may state how large a pixel is."""

    def spacing(self, case: str) -> tuple[float, ...] | None:
        """Size in mm of a pixel of a prepared case, along each axis of [slices, H, W] or [*S]; None: not known."""


@runtime_checkable
class VariableSize(Protocol):
    """What a source has beside `Source` when its samples may keep the sizes that they have."""

    @property
    def uneven(self) -> bool:
        """Whether they do; `sample_shape` has zeros for *S then."""

    def spaces(self, case: str) -> list[tuple[int, ...]]:
        """*S of every sample of a case, in order, from the heads of the files."""


@runtime_checkable
class Grouped(Protocol):
    """What a source has beside `Source` when several cases may be of one patient."""

    def group(self, case: str) -> str:
        """The patient (recording, place) that a training case is of: a group never stands on both sides."""


@runtime_checkable
class ListsClasses(Protocol):
    """What a source has beside `Source` when it can tell what its label maps are read as."""

    def found_classes(self, cases: Sequence[str], memory: FileHashCache) -> Sequence[FoundClass]:
        """Every class: its values in the files, its share, its objects at the size of the files."""


@runtime_checkable
class DeclaresRegions(Protocol):
    """What a source has beside `Source` when its files may say that its classes overlap."""

    @property
    def declared_regions(self) -> Mapping[str, Any] | None:
        """`regions` and `regions_class_order` of a `dataset` section, in numbers of classes; None: no regions."""


@runtime_checkable
class SupportsInference(Protocol):
    """What a source has beside `Source` when a trained network can be given further images of its kind."""

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
        """Plain data for `tuner.data.inference_inputs`: how images are read, the label id of each class."""
