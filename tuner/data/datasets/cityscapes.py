"""Cityscapes in its published layout: 19 evaluated classes, the official division, cities as cases.

Training images are divided by city, for the scenes of a city look alike; the official validation images, each on its
own, are the test cases (the labels of the official test images are not published).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.checks import Findings
from tuner.data.datasets.image_folder import Layout, raise_defects
from tuner.data.datasets.image_pairs import (
    Pair,
    Pairs,
    check_pairs,
    deciding,
    images_below,
    read_options_of,
    unused_note,
)
from tuner.data.label_map import ClassCodes
from tuner.data.mask_classes import MaskClasses
from tuner.data.source import IGNORE_INDEX, find_below
from tuner.errors import DataError
from tuner.registry import Scalar

IMAGES, LABELS = "leftImg8bit", "gtFine"
_IMAGE_END, _LABEL_END = "_leftImg8bit.png", "_gtFine_labelIds.png"
_OTHER_ENDS = ("_gtFine_instanceIds.png", "_gtFine_color.png", "_gtFine_labelTrainIds.png", "_gtFine_polygons.json")
"""Files of the download that no training needs."""

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the evaluated classes, in order of their train ids 0 to 18."""

LABEL_IDS = range(34)
"""Label ids that masks hold; those that are not evaluated are ignored."""


def open_cityscapes(options: Mapping[str, Scalar], data_root: Path | None) -> Pairs:
    """Find the pairs of `<data root>/<path>`.

    Raises:
        DataError: The folder is missing, an image has no labels, or there is nothing to train on.
    """
    folder = find_below(data_root, str(options["path"]), DATASETS["cityscapes"])
    layout = _read(folder)
    raise_defects(folder, layout.defects, "cityscapes")
    size = int(options["size"] or 0)
    return Pairs(
        folder=folder,
        size=(size, int(options["width"] or size)),
        channels=3,
        groups=layout.groups(),
        tests={pair.name: pair for pair in layout.tests},
        options=deciding(options),
        uneven=options["resize"] is False,
        decide=lambda pairs, memory: MaskClasses(train_ids()),
        background=False,
        read_options=read_options_of(options),
    )


def check_cityscapes(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> Findings:
    """Open every image and label map and return the defects, a line each; raises DataError when nothing is there.

    A class that never occurs is none: small parts of the data lack some. One that trains and is never tested, or the
    other way round, is.
    """
    layout = _read(find_below(data_root, str(options["path"]), DATASETS["cityscapes"]))
    found = check_pairs(
        layout.training,
        layout.tests,
        MaskClasses(train_ids()),
        memory,
        read=read_options_of(options),
        channels=3,
        every_class=False,
    )
    memory.save()
    return Findings([*layout.defects, *found], notes=[*layout.notes, *found.notes], classes=found.classes)


def train_ids() -> ClassCodes:
    """Return the evaluated classes by label id; every other label id is ignored."""
    numbers = {label: number for number, label in enumerate(EVALUATED)}
    return ClassCodes(
        DATASETS["cityscapes"].class_names, {label: numbers.get(label, IGNORE_INDEX) for label in LABEL_IDS}
    )


def _read(folder: Path) -> Layout:
    layout = Layout()
    layout.training = list(_pairs(folder, "train", layout))
    layout.tests = list(_pairs(folder, "val", layout))
    if not layout.training and not layout.defects:
        raise DataError(
            f"there is no CITY/*{_IMAGE_END} to train on.",
            hint=f"Expected:\n{DATASETS['cityscapes'].layout}",
            where=str(folder / IMAGES / "train"),
        )
    return layout


def _pairs(folder: Path, half: str, layout: Layout) -> Iterator[Pair]:
    images, labels = folder / IMAGES / half, folder / LABELS / half
    defects = layout.defects
    for place in (images, labels):
        if not place.is_dir() and (half == "train" or images.is_dir()):
            defects.append(f"{place}: the folder is not there")
    found, truths = (_named(place, ending, layout) for place, ending in ((images, _IMAGE_END), (labels, _LABEL_END)))
    for name, path in found.items():
        if name in truths:
            city = path.parent.name
            yield Pair(Path(name).name, city, path, truths[name])
        else:
            defects.append(f"{path}: there is no {LABELS}/{half}/{name}{_LABEL_END}")
    defects += [
        f"{path}: there is no {IMAGES}/{half}/{name}{_IMAGE_END}" for name, path in truths.items() if name not in found
    ]


def _named(place: Path, ending: str, layout: Layout) -> dict[str, Path]:
    """Return the pictures CITY/*ENDING by name; what else lies there is noted, but for the set's other label files."""
    unused: list[Path] = []
    found = {}
    for path in images_below(place, unused) if place.is_dir() else ():
        if path.name.endswith(ending) and path.parent.parent == place:
            found[_name(path, ending)] = path
            if path.is_symlink() and not path.exists():
                layout.defects.append(f"{path}: the link leads nowhere")
        elif not path.name.endswith(_OTHER_ENDS):
            unused.append(path)
    unused = [path for path in unused if not path.name.endswith(_OTHER_ENDS) or path.name.startswith(".")]
    layout.notes += unused_note(place, unused)
    return found


def _name(path: Path, ending: str) -> str:
    return f"{path.parent.name}/{path.name.removesuffix(ending)}"
