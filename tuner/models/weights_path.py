"""Where a file of pretrained weights lies. Imports no torch."""

from pathlib import Path

from tuner.errors import DataError

WHERE = "model.weights"


SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz")


def find_weights(name: str, data_root: Path | None) -> Path:
    """Return the file that a configuration names: absolute, or below the data root.

    Raises:
        DataError: It leads out of the data root, is not there, or is of a kind that cannot be read.
    """
    given = Path(name)
    if given.is_absolute():
        path = given
    elif data_root is None:
        raise DataError(
            f"{name!r} is below the data root, and none is set.",
            hint="Set --data-root or TUNER_DATA_ROOT, or write the whole path.",
            where=WHERE,
        )
    else:
        path = data_root / given
        if not path.resolve().is_relative_to(data_root.resolve()):
            raise DataError(f"{name!r} leads out of the data root {data_root}.", where=WHERE)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{name!r}: {path.suffix or 'no suffix'} is none of {', '.join(SUFFIXES)}.", where=WHERE)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES) if path.parent.is_dir() else []
        beside = f" Beside it there are: {', '.join(near[:8])}." if near else ""
        raise DataError(
            f"there is no file {path}.{beside}",
            hint="Weights are not downloaded: bring the file, or leave `weights` out to begin at random.",
            where=WHERE,
        )
    return path
