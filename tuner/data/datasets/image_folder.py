"""Image/mask folder.

A folder of images and masks: which mask belongs to which image, who trains and who tests, and what is amiss.

Images and masks in a folder of the user's own, as a source of samples.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.datasets.image_pairs import Pair, Pairs, check_pairs, deciding, images_below, mask_values
from tuner.data.images import SUFFIXES, channels_of
from tuner.data.label_map import ClassCodes, codes_from, given_codes, parse_classes, parse_ignored
from tuner.data.source import find_below
from tuner.data.splits import group_of
from tuner.errors import DataError
from tuner.registry import Scalar

IMAGES, MASKS = "images", "masks"
TRAIN, VALIDATION, TEST = "train.txt", "val.txt", "test.txt"


@dataclass
class Layout:
    """What lies in the folder."""

    training: list[Pair] = field(default_factory=list)
    tests: list[Pair] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def groups(self) -> dict[str, tuple[Pair, ...]]:
        """Training pairs by group."""
        found: dict[str, list[Pair]] = {}
        for pair in self.training:
            found.setdefault(pair.group, []).append(pair)
        return {group: tuple(found[group]) for group in sorted(found)}


def read_layout(folder: Path, pattern: str) -> Layout:
    """Pair images with masks and divide them by the split files; defects are collected, not raised.

    Raises:
        DataError: The pattern is none.
    """
    layout = Layout()
    find_group = group_of(pattern)
    pairs, amiss = _pairs(folder, find_group, pattern, layout.defects)
    lists = {name: _read_names(folder / name, layout.defects) for name in (TRAIN, VALIDATION, TEST)}
    if all(names is None for names in lists.values()):
        layout.training = list(pairs.values())
        return layout
    held_out = TEST if lists[TEST] is not None else VALIDATION
    training = [name for file in (TRAIN, VALIDATION) if file != held_out for name in lists[file] or []]
    tests = lists[held_out] or []
    if lists[TRAIN] is None:
        layout.defects.append(f"{folder / TRAIN}: the list is not there, and {held_out} is")
    for file, names in lists.items():
        layout.defects += [
            f"{folder / file}: {name} is listed, and there is no such image in {IMAGES}/"
            for name in names or []
            if name not in pairs and name not in amiss
        ]
    layout.defects += [f"{folder}: {name} is in several lists" for name in _repeated([*training, *tests])]
    layout.training = [pairs[name] for name in dict.fromkeys(training) if name in pairs]
    layout.tests = [pairs[name] for name in dict.fromkeys(tests) if name in pairs]
    _check_groups(folder, layout, is_pattern=bool(pattern))
    return layout


def _pairs(
    folder: Path, find_group: Callable[[str], str | None], pattern: str, defects: list[str]
) -> tuple[dict[str, Pair], set[str]]:
    """Return the pairs by name, and the names of which there is something and no pair."""
    images, masks = (_by_stem(folder / name, defects) for name in (IMAGES, MASKS))
    defects += [f"{path}: there is no mask {name}.* in {MASKS}/" for name, path in images.items() if name not in masks]
    defects += [
        f"{path}: there is no image {name}.* in {IMAGES}/" for name, path in masks.items() if name not in images
    ]
    pairs = {}
    for name in images.keys() & masks.keys():
        group = find_group(name)
        if group is None:
            defects.append(f"{images[name]}: the name does not fit the pattern {pattern!r} of dataset.group")
        else:
            pairs[name] = Pair(name, group, images[name], masks[name])
    amiss = (images.keys() | masks.keys()) - pairs.keys()
    return {name: pairs[name] for name in sorted(pairs)}, amiss


def _by_stem(folder: Path, defects: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not folder.is_dir():
        defects.append(f"{folder}: the folder is not there")
        return found
    for path in images_below(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            defects.append(f"{path}: {found[name].name} has the same name")
        else:
            found[name] = path
    if not found:
        defects.append(f"{folder}: holds no picture")
    return found


def _read_names(path: Path, defects: list[str]) -> list[str] | None:
    if not path.exists():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        defects.append(f"{path}: cannot be read as text: {error}")
        return []
    names = [_bare(line.strip()) for line in lines if line.strip()]
    defects += [f"{path}: {name} is listed twice" for name in _repeated(names)]
    if not names:
        defects.append(f"{path}: names nothing")
    return list(dict.fromkeys(names))


def _bare(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else name


def _check_groups(folder: Path, layout: Layout, *, is_pattern: bool) -> None:
    groups = layout.groups()
    for pair in layout.tests if is_pattern else ():
        # One that stands in both lists itself has been named.
        others = [other.name for other in groups.get(pair.group, ()) if other != pair]
        if others:
            layout.defects.append(
                f"{folder}: {pair.name} is held out and its group {pair.group!r} trains ({others[0]})"
            )
    layout.defects += [
        f"{folder}: {pair.name} is a held out image and the name of a training group"
        for pair in layout.tests
        if is_pattern and pair.name in groups and pair.group != pair.name
    ]


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in names:
        if name in seen:
            twice[name] = None
        seen.add(name)
    return list(twice)


def raise_defects(folder: Path, defects: list[str], dataset: str) -> None:
    """Raise DataError for a layout that cannot be read; the first three defects in full."""
    if not defects:
        return
    more = f"; and {len(defects) - 3} more" if len(defects) > 3 else ""
    raise DataError(
        "; ".join(defects[:3]) + f"{more}.", hint=f"tuner data check {dataset} lists all of them.", where=str(folder)
    )


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


def check_folder(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> list[str]:
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
    options: Mapping[str, Scalar], pairs: Sequence[Pair], memory: FileHashCache, *, skip_broken: bool = False
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
