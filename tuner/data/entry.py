"""What the catalogue says about a data set. Importing this reads no file and no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tuner.registry import Option, Scalar


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One data set. Options that all have (`size`) stand in each row, for their defaults differ."""

    name: str
    summary: str
    channels: int | None
    """None where the files decide."""
    class_names: tuple[str, ...]
    """Empty where the files decide."""
    options: tuple[Option, ...]
    source: str
    """`fn(options, data_root) -> Source`"""
    check: str | None
    """`fn(options, data_root, memory) -> list of defects`; None when nothing is on disk."""
    convert: str | None
    """`fn(raw, out, test, progress)`, behind `tuner data prepare`; None when there is nothing to convert."""
    layout: str
    """What has to lie where, below the data root."""
    how_to_get: str
    augment: Mapping[str, Scalar] = field(default_factory=dict)
    """Augmentation options that differ from the defaults for this data set."""
    check_raw: str | None = None
    """`fn(raw) -> list of defects` of the raw download that `convert` reads."""
    background: bool = True
    """Whether class 0 is background, which no metric counts."""


def size_option(default: int) -> Option:
    """Return the option `size` of square images."""
    return Option(
        "size", "int", default, "Height and width in pixels that every image is resized to.", low=16, high=1024
    )


def resize_option(what: str) -> Option:
    """Return the option `resize` of data sets whose images may keep their sizes."""
    return Option(
        "resize", "bool", True, f"false: {what} keep the sizes that they have, and `train.patch` is trained on."
    )


def height_and_width(height: int, width: int | None) -> tuple[Option, ...]:
    """Return the options `size` and `width` of oblong images."""
    return (
        Option("size", "int", height, "Height in pixels that every image is resized to.", low=16, high=4096),
        Option("width", "int", width, "Width in pixels; null: as the height.", low=16, high=4096, nullable=True),
    )
