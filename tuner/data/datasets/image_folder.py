"""Folder of images and masks: pairing by name, lists of training and test images, and the source of samples."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.checks import Findings
from tuner.data.datasets.image_pairs import (
    Pair,
    Pairs,
    check_pairs,
    deciding,
    images_below,
    read_options_of,
    unused_note,
)
from tuner.data.images import SUFFIXES, ReadOptions, channels_of
from tuner.data.mask_classes import decide_classes, instances_note
from tuner.data.mask_coding import Facts, mask_facts
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
    notes: list[str] = field(default_factory=list)
    """What is no defect and yet worth knowing: files that are not used."""

    def groups(self) -> dict[str, tuple[Pair, ...]]:
        """Training pairs by group."""
        found: dict[str, list[Pair]] = {}
        for pair in self.training:
            found.setdefault(pair.group, []).append(pair)
        return {group: tuple(found[group]) for group in sorted(found)}


def read_layout(folder: Path, pattern: str, suffixes: tuple[str, str] = ("", "")) -> Layout:
    """Pair images with masks and divide them by the split files; defects are collected, not raised.

    Names are compared in Unicode's composed form (NFC): some systems write the decomposed one.

    Args:
        folder: What holds `images/` and `masks/`.
        pattern: Of `dataset.group`.
        suffixes: What the names of images and of masks end with beside the name that they share.

    Raises:
        DataError: The pattern is none.
    """
    layout = Layout()
    find_group = group_of(pattern)
    pairs, amiss = _pairs(folder, find_group, pattern, suffixes, layout)
    layout.notes += unused_note(folder, _beside(folder))
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
    folder: Path, find_group: Callable[[str], str | None], pattern: str, suffixes: tuple[str, str], layout: Layout
) -> tuple[dict[str, Pair], set[str]]:
    """Return the pairs by name, and the names of which there is something and no pair."""
    images, masks = (
        _by_stem(folder / name, suffix, f"dataset.{kind}_suffix", layout)
        for name, kind, suffix in ((IMAGES, "image", suffixes[0]), (MASKS, "mask", suffixes[1]))
    )
    layout.defects += _unpaired(folder, images, masks)
    pairs = {}
    for name in images.keys() & masks.keys():
        group = find_group(name)
        if group is None:
            layout.defects.append(f"{images[name]}: the name does not fit the pattern {pattern!r} of dataset.group")
        else:
            pairs[name] = Pair(name, group, images[name], masks[name])
    amiss = (images.keys() | masks.keys()) - pairs.keys()
    return {name: pairs[name] for name in sorted(pairs)}, amiss


def _unpaired(folder: Path, images: dict[str, Path], masks: dict[str, Path]) -> list[str]:
    """Name images without a mask and masks without an image; where one suffix explains them, that."""
    lone_images, lone_masks = images.keys() - masks.keys(), masks.keys() - images.keys()
    for kind, short, long in (("mask", lone_images, lone_masks), ("image", lone_masks, lone_images)):
        suffix = _common_suffix(short, long)
        if suffix:
            name = next(name for name in sorted(long) if name.endswith(suffix))
            partner = "image" if kind == "mask" else "mask"
            return [
                f"{folder / kind}s: {len(long)} {kind}s are named as {name}.*, with {suffix!r} behind the name of "
                f"their {partner}: set `dataset.{kind}_suffix: {suffix}`"
            ]
    folded = {name.casefold(): name for name in masks}
    lines = []
    for name in images:
        if name in lone_images:
            near = folded.get(name.casefold())
            guess = f" (there is {near}: capital and small letters differ)" if near else ""
            lines.append(f"{images[name]}: there is no mask {name}.* in {MASKS}/{guess}")
    return lines + [
        f"{path}: there is no image {name}.* in {IMAGES}/" for name, path in masks.items() if name in lone_masks
    ]


def _common_suffix(short: Iterable[str], long: Iterable[str]) -> str | None:
    """Return what stands behind every one of the short names among the long ones, where that is one text."""
    names, others = sorted(short), set(long)
    if not names or not others:
        return None
    for other in sorted(others):
        if other.startswith(names[0]) and len(other) > len(names[0]):
            suffix = other[len(names[0]) :]
            # One letter or digit behind one name is chance.
            if all(name + suffix in others for name in names) and (len(names) > 2 or not suffix[0].isalnum()):
                return suffix
    return None


def _beside(folder: Path) -> list[Path]:
    known = {IMAGES, MASKS, TRAIN, VALIDATION, TEST}
    return [path for path in sorted(folder.iterdir()) if path.name not in known]


def _by_stem(folder: Path, suffix: str, option: str, layout: Layout) -> dict[str, Path]:
    found: dict[str, Path] = {}
    defects = layout.defects
    if not folder.is_dir():
        defects.append(f"{folder}: the folder is not there")
        return found
    unused: list[Path] = []
    for path in images_below(folder, unused):
        if path.is_symlink() and not path.exists():
            defects.append(f"{path}: the link leads nowhere")
        stem = composed(path.relative_to(folder).with_suffix("").as_posix())
        if not stem.endswith(suffix) or stem == suffix:
            unused.append(path)
            continue
        name = stem[: len(stem) - len(suffix)]
        if name in found:
            defects.append(f"{path}: {visible(found[name].name, path.name)} has the same name")
        else:
            found[name] = path
    layout.notes += unused_note(folder, unused)
    if not found:
        wanted = f" whose name ends with {suffix!r} ({option})" if suffix else ""
        defects.append(f"{folder}: holds no picture{wanted}")
    return found


def composed(name: str) -> str:
    """Return a name in Unicode's composed form, NFC."""
    return unicodedata.normalize("NFC", name)


def visible(name: str, other: str) -> str:
    """Return a name, with its combining characters escaped where it would look like another one."""
    return ascii(name)[1:-1] if name != other and composed(name) == composed(other) else name


def _read_names(path: Path, defects: list[str]) -> list[str] | None:
    if not path.exists():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        defects.append(f"{path}: cannot be read as text: {error}")
        return []
    names = [composed(_bare(line.strip())) for line in lines if line.strip()]
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
    read = read_options_of(options)
    return Pairs(
        folder=folder,
        size=(size, int(options["width"] or size)),
        channels=int(options["channels"] or 0) or channels_of(layout.training[0].image, read),
        groups=layout.groups(),
        tests={pair.name: pair for pair in layout.tests},
        options=deciding(options),
        uneven=options["resize"] is False,
        decide=lambda pairs, memory: decide_classes(options, _facts(pairs, memory, read)),
        background=bool(options["background"]),
        read_options=read,
    )


def check_folder(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> Findings:
    """Open every image and mask and return the defects, a line each; raises DataError when there is no such folder."""
    _, layout = _read(options, data_root)
    found = Findings(layout.defects, notes=layout.notes)
    if not layout.training:
        return found
    read, classes = read_options_of(options), None
    try:
        facts = _facts([*layout.training, *layout.tests], memory, read, skip_broken=True)
        if facts:
            classes = decide_classes(options, facts)
            found.notes += classes.notes
    except DataError as error:
        found.append(str(error))
    channels = options["channels"]
    rest = check_pairs(
        layout.training,
        layout.tests,
        classes,
        memory,
        read=read,
        channels=int(channels) if channels else _first_channels(layout, read),
        is_chosen=channels is not None,
    )
    memory.save()
    is_named = bool(options["classes"] or options["labels"])
    notes = [*found.notes, *rest.notes, *(() if is_named else instances_note(rest.classes))]
    return Findings([*found, *rest], notes=notes, classes=rest.classes)


def _facts(
    pairs: Sequence[Pair], memory: FileHashCache, read: ReadOptions, *, skip_broken: bool = False
) -> dict[Path, Facts]:
    found = {}
    for pair in pairs:
        try:
            found[pair.mask] = mask_facts(pair.mask, memory, read)
        except DataError:
            if not skip_broken:
                raise
    return found


def _read(options: Mapping[str, Scalar], data_root: Path | None) -> tuple[Path, Layout]:
    folder = find_below(data_root, str(options["path"]), DATASETS["folder"])
    suffixes = str(options["image_suffix"]), str(options["mask_suffix"])
    return folder, read_layout(folder, str(options["group"]), suffixes)


def _first_channels(layout: Layout, read: ReadOptions) -> int | None:
    try:
        return channels_of(layout.training[0].image, read)
    except DataError:
        return None
