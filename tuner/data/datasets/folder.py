"""Images and masks in a folder of the user's own, as a source of samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.data.catalogue import DATASETS
from tuner.data.datasets.image_folder import Layout, raise_defects, read_layout
from tuner.data.datasets.image_pairs import Pair, Pairs, deciding, mask_values
from tuner.data.datasets.picture_check import check_pairs
from tuner.data.images import channels_of
from tuner.data.label_map import ClassCodes, codes_from, given_codes, parse_classes, parse_ignored
from tuner.data.memory import FileMemory
from tuner.data.places import find_below
from tuner.errors import DataError
from tuner.registry import Scalar


def open_folder(options: Mapping[str, Scalar], data_root: Path | None) -> Pairs:
    """Pair the images of `<data root>/<path>` with their masks.

    Raises:
        DataError: The folder, a mask or a listed image is missing, a group stands on both sides, or an option is none.
    """
    folder, layout = _read(options, data_root)
    raise_defects(folder, layout.defects, "folder")
    if not layout.training:
        raise DataError("there is no image to train on.", where=str(folder))
    size = int(options["size"] or 0)
    return Pairs(
        folder=folder,
        size=(size, int(options["width"] or size)),
        channels=_channels(options, layout.training[0]),
        groups=layout.groups(),
        tests={pair.name: pair for pair in layout.tests},
        options=deciding(options),
        uneven=options["resize"] is False,
        decide=lambda pairs, memory: decide_codes(options, pairs, memory),
        background=bool(options["background"]),
    )


def check_folder(options: Mapping[str, Scalar], data_root: Path | None, memory: FileMemory) -> list[str]:
    """Open every image and mask and return the defects, a line each; raises DataError when there is no such folder."""
    _, layout = _read(options, data_root)
    defects = list(layout.defects)
    if not layout.training:
        return defects
    found, codes = defects, None
    try:
        codes = decide_codes(options, [*layout.training, *layout.tests], memory, skip_broken=True)
    except DataError as error:
        found.append(str(error))
    channels = options["channels"]
    grey = channels is None and _first_channels(layout) == 1
    found += check_pairs(layout.training, layout.tests, codes, memory, grey_only=grey)
    memory.save()
    return found


def decide_codes(
    options: Mapping[str, Scalar], pairs: Sequence[Pair], memory: FileMemory, *, skip_broken: bool = False
) -> ClassCodes:
    """Return what the masks' codes mean: as the options say, else from the masks themselves."""
    classes, ignored = parse_classes(str(options["classes"])), parse_ignored(str(options["ignore"]))
    given = given_codes(classes, ignored)
    if given is not None:
        return given
    values: set[int] = set()
    for pair in pairs:
        try:
            values.update(mask_values(pair.mask, memory))
        except DataError:
            if not skip_broken:
                raise
    return codes_from(values, classes, ignored)


def _read(options: Mapping[str, Scalar], data_root: Path | None) -> tuple[Path, Layout]:
    folder = find_below(data_root, str(options["path"]), DATASETS["folder"])
    return folder, read_layout(folder, str(options["group"]))


def _channels(options: Mapping[str, Scalar], first: Pair) -> int:
    return int(options["channels"] or 0) or channels_of(first.image)


def _first_channels(layout: Layout) -> int | None:
    try:
        return channels_of(layout.training[0].image)
    except DataError:
        return None
