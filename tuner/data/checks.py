"""`data check`: every defect of a data set, found before anything is trained; warnings are told, defects refused."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS, DatasetSpec, dataset_options
from tuner.data.source import FoundClass
from tuner.errors import RequestError
from tuner.registry import load


class DataWarning(str):
    """The line of such a defect."""

    __slots__ = ()


class Findings(list[str]):
    """The defects of a data set, a line each; with what is read as classes, and what is worth knowing beside.

    Args:
        defects: Lines; those that are a `Flaw` keep nobody from training.
        notes: Lines that are no defects.
        classes: What the masks are read as; empty where the data set does not say.
    """

    def __init__(
        self, defects: Iterable[str] = (), *, notes: Iterable[str] = (), classes: Iterable[FoundClass] = ()
    ) -> None:
        super().__init__(defects)
        self.notes = list(notes)
        self.classes = list(classes)


def lacking(
    names: Sequence[str], present: Mapping[str, Collection[int | None]], what: Mapping[str, str], *, anywhere: bool
) -> Iterator[DataWarning]:
    """Yield the classes that a half of a data set lacks.

    Args:
        names: The classes by number.
        present: By half, the class numbers that occur; a half of which nothing could be read is left out.
        what: By half, where its classes occur: `training mask`.
        anywhere: A class that occurs nowhere is a defect too; otherwise only one that the other half has.
    """
    halves = {half: set(numbers) for half, numbers in present.items() if numbers}
    everything = set().union(*halves.values()) if halves else set()
    for half, numbers in halves.items():
        for number, name in enumerate(names):
            if number not in numbers and (anywhere or number in everything):
                yield DataWarning(f"class {name!r} occurs in no {what[half]}")


def check(config: Mapping[str, Any], *, data_root: Path | None, cache: Path | None = None) -> Findings:
    """Open every file of a data set, test cases too, and return its defects, a line each; empty when it is good.

    Notes and what is read as classes come with them.

    Those that are a `tuner.data.checks.DataWarning` keep nobody from training.

    Args:
        config: A `dataset` section; of its options those that say where and what the files are.
        data_root: Folder that holds one folder per data set; never written to.
        cache: Where it is remembered which files were good, so that only files whose size or time has changed are
            opened again; None opens all of them.

    Raises:
        UnknownNameError, SpecError: There is no such data set, or an option or value is not legal.
        DataError: Nothing of it is below the data root.
    """
    entry = DATASETS.find(str(config.get("name")), where="dataset.name")
    if entry.check is None:
        return Findings()
    memory = FileHashCache(cache / f"checked-{entry.name}.json" if cache else None)
    options = dataset_options(entry, config)
    found = load(entry.check)(options, data_root, memory)
    return found if isinstance(found, Findings) else Findings(found)


def check_download(entry: DatasetSpec, raw: Path) -> Findings:
    """Open every file of a raw download that `data prepare` would convert, and return its defects, a line each.

    Raises:
        RequestError: The data set is read as it is; nothing of it is converted.
        DataError: There is no such download.
    """
    if entry.check_raw is None:
        raise RequestError(
            f"{entry.name!r} is read as it is; there is no raw download to check.",
            hint=f"tuner data check {entry.name} checks what lies below the data root.",
            where="--raw",
        )
    found = load(entry.check_raw)(raw)
    return found if isinstance(found, Findings) else Findings(found)
