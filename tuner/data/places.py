"""Where a data set lies: always below the data root, whatever an option or a file of the data set says."""

from pathlib import Path, PurePosixPath

from tuner.data.entry import DatasetEntry
from tuner.errors import DataError


def find_below(data_root: Path | None, path: str, entry: DatasetEntry) -> Path:
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
