"""nnU-Net v2 raw data sets and tasks of the Medical Segmentation Decathlon, as sets of labelled volumes.

The published test images have no labels. Where a description lists pairs under `test`, they are the test cases, and
pairs under `validation` train with the others; pairs under `validation` alone are the test cases.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.checks import Findings
from tuner.data.datasets.image_folder import raise_defects
from tuner.data.datasets.volume_set import Recording, Volumes, VolumeSet, check_volumes
from tuner.data.images import SUFFIXES
from tuner.data.label_map import ClassCodes
from tuner.data.regions import KEY as REGIONS
from tuner.data.regions import ORDER
from tuner.data.source import IGNORE_INDEX, find_below, inside
from tuner.data.splits import group_of
from tuner.data.volumes import ENDINGS, VOLUMES, companions, not_there, read_json
from tuner.errors import DataError
from tuner.registry import Scalar

DESCRIPTION = "dataset.json"

_HALVES = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
_MAX_UNUSED = 8
"""Files that are named of those that are not used."""


def open_nnunet(options: Mapping[str, Scalar], data_root: Path | None) -> Volumes:
    """Read `<data root>/<path>/dataset.json` and find the cases.

    Raises:
        DataError: The folder or a file is missing, or the description is not one.
    """
    defects: list[str] = []
    found = read_nnunet(find_below(data_root, str(options["path"]), DATASETS["nnunet"]), defects)
    defects += crossing_groups(found, str(options["group"] or ""))
    raise_defects(found.folder, defects, "nnunet")
    return Volumes(found, options)


def check_nnunet(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> Findings:
    """Open every file and return the defects, a line each; raises DataError when there is no description."""
    defects: list[str] = []
    found = read_nnunet(find_below(data_root, str(options["path"]), DATASETS["nnunet"]), defects)
    defects += crossing_groups(found, str(options["group"] or "")) + [found.lost] * bool(found.lost)
    volumes = Volumes(found, options)
    more = check_volumes(found, memory, axes=volumes.axes)
    classes = volumes.found_classes([*volumes.training, *volumes.test], memory)
    return Findings([*defects, *more], notes=[*more.notes, *found.notes], classes=classes)


def read_nnunet(folder: Path, defects: list[str]) -> VolumeSet:
    """Find the cases of a raw data set; what is missing is appended to `defects`."""
    where = folder / DESCRIPTION
    described = read_json(where)
    _refuse_first_version(described, where)
    ending, names = described.get("file_ending"), described.get("channel_names", described.get("modality"))
    if ending not in ENDINGS:
        raise DataError(f"file_ending is {ending!r}; {', '.join(ENDINGS)} are read.", where=str(where))
    if not isinstance(names, dict) or not names:
        raise DataError("channel_names is missing, as in {'0': 'CT'}.", where=str(where))
    kinds = tuple(str(names[key]) for key in sorted(names, key=_number))
    regions = None
    if has_regions(described.get("labels")):
        codes, regions = region_codes(described["labels"], described.get(ORDER), where)
    else:
        codes = label_codes(described.get("labels"), where)
    used: set[Path] = set()
    if isinstance(described.get("dataset"), dict):
        training, lost = _list(folder, described["dataset"], defects, used), ""
    else:
        training = _numbered(folder, "Tr", str(ending), len(kinds), defects, used)
        lost = _lost(described.get("numTraining"), folder, str(ending))
    is_tested = (folder / "labelsTs").is_dir()
    tests = _numbered(folder, "Ts", str(ending), len(kinds), defects, used) if is_tested else {}
    if not training:
        defects.append(f"{folder}: there is no case to train on")
    defects += [f"{folder}: {name} is a training case and a test case" for name in training if name in tests]
    notes = (*([_region_note(regions)] if regions else []), *unused_files(folder, used))
    return VolumeSet(folder, training, tests, kinds, codes, lost, notes, regions)


def unused_files(folder: Path, used: Iterable[Path]) -> list[str]:
    """Return a line for each folder of images or labels that holds files which no case has; broken links count.

    Args:
        folder: That of the data set.
        used: Files of the cases, also of those that are amiss.
    """
    named = set(used)
    for path in list(named):
        try:
            named.update(companions(path))
        except DataError:
            continue  # said when the file is read
    lines = []
    for place in (folder / name for name in _HALVES):
        files = sorted(file for file in place.glob("*") if not file.is_dir()) if place.is_dir() else []
        unused = [file for file in files if file not in named]
        if unused:
            shown = ", ".join(file.name for file in unused[:_MAX_UNUSED])
            more = f" and {len(unused) - _MAX_UNUSED} more" if len(unused) > _MAX_UNUSED else ""
            hidden = sum(file.name.startswith(".") for file in unused)
            why = f"; {hidden} hidden, as macOS leaves beside others" if hidden else ""
            why += "; there are no labels for them" if place.name == "imagesTs" and len(unused) == len(files) else ""
            lines.append(f"{place}: {len(unused)} of {len(files)} files are not used: {shown}{more}{why}")
    return lines


def _refuse_first_version(described: Mapping[str, Any], where: Path) -> None:
    labels = described.get("labels")
    numbered = isinstance(labels, dict) and bool(labels) and all(str(name).isdecimal() for name in labels)
    listed = "file_ending" not in described and isinstance(described.get("training"), list)
    if not numbered and not listed:
        return
    turned = {str(name): int(number) for number, name in labels.items()} if numbered and labels else None
    as_in = json.dumps(turned if turned else {"background": 0, "organ": 1})
    raise DataError(
        "this is a description of nnU-Net v1 or of the Decathlon; v2's would do, with channel_names, file_ending and "
        f"labels as in {as_in}.",
        hint="nnUNetv2_convert_old_nnUNet_dataset converts the data set; a task of the Decathlon as it was downloaded "
        "is read by `dataset: {name: msd}`.",
        where=str(where),
    )


def crossing_groups(found: VolumeSet, pattern: str) -> list[str]:
    """Return what `dataset.group` finds amiss: names that do not fit it, and patients who train and are tested."""
    find_group = group_of(pattern)
    groups = {name: find_group(name) for name in (*found.cases, *found.tests)}
    defects = [
        f"{found.folder}: the case {name!r} does not fit the pattern {pattern!r} of dataset.group"
        for name, group in groups.items()
        if group is None
    ]
    trains = {groups[name]: name for name in reversed(list(found.cases)) if groups[name] is not None}
    defects += [
        f"{found.folder}: {name} is a test case and its group {groups[name]!r} trains ({trains[groups[name]]})"
        for name in found.tests
        if name not in found.cases and groups[name] in trains
    ]
    return defects


def _lost(announced: Any, folder: Path, ending: str) -> str:
    """A case of which image and label are both gone leaves no other trace than the number that was announced."""
    names = _names(folder / "labelsTr", ending) | _names(folder / "imagesTr", f"_0000{ending}")
    if not isinstance(announced, int) or announced <= len(names):
        return ""
    return f"{folder / DESCRIPTION}: numTraining is {announced}, and there are {len(names)} training cases"


def _names(folder: Path, ending: str) -> set[str]:
    """Return the names of the files with an ending, without it; hidden ones are none."""
    return {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}") if not path.name.startswith(".")}


def label_codes(labels: Any, where: Path) -> ClassCodes:
    """Read `labels`: `{"background": 0, "liver": 1, "ignore": 2}`.

    Raises:
        DataError: It is none of that, or lacks the background.
    """
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels):
        raise DataError("labels is missing, as in {'background': 0, 'liver': 1}.", where=str(where))
    numbers: dict[str, int] = {}
    for name, value in labels.items():
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not str(value).lstrip("-").isdecimal():
            raise DataError(f"the label of {name!r} is {value!r}, not a number.", where=str(where))
        numbers[name] = int(value)
    ignored = numbers.pop("ignore", None)
    names = sorted(numbers, key=lambda name: numbers[name])
    if not 2 <= len(names) < IGNORE_INDEX or numbers[names[0]] != 0 or len(set(numbers.values())) < len(names):
        raise DataError(
            f"labels are {numbers}; background 0 and 1 to {IGNORE_INDEX - 2} different classes would do.",
            where=str(where),
        )
    codes = {numbers[name]: index for index, name in enumerate(names)}
    if ignored is not None:
        codes[ignored] = IGNORE_INDEX
    return ClassCodes(tuple(names), codes)


def has_regions(labels: Any) -> bool:
    """Say whether `labels` are regions: as for nnU-Net, where one of them is a list of several labels."""
    return isinstance(labels, dict) and any(isinstance(value, list) and len(value) > 1 for value in labels.values())


def region_codes(labels: Mapping[str, Any], order: Any, where: Path) -> tuple[ClassCodes, dict[str, Any]]:
    """Read `labels` that are regions: `{"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}`.

    Args:
        labels: A label or a list of labels for each region; `background` and `ignore` are none.
        order: `regions_class_order`, the label that each region writes, or None.
        where: The description.

    Returns:
        The classes of the label map, named by their labels, and `regions` and `regions_class_order` of a `dataset`
        section in numbers of these classes.

    Raises:
        DataError: A label is no number, or the order does not fit the regions.
    """
    named = {name: value if isinstance(value, list) else [value] for name, value in labels.items()}
    for name, value in named.items():
        if not value or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value):
            raise DataError(f"the labels of the region {name!r} are {value!r}, not numbers.", where=str(where))
    if named.pop("background", None) != [0]:
        raise DataError("labels lack the background, as in {'background': 0, 'whole': [1, 2]}.", where=str(where))
    ignored = named.pop("ignore", [])
    used = sorted({label for value in named.values() for label in value})
    if len(ignored) > 1 or {0, *ignored} & set(used) or len(used) > IGNORE_INDEX - 2:
        raise DataError(
            f"labels are {labels}; of at most {IGNORE_INDEX - 2} labels, 0 and the one to ignore are in no region.",
            where=str(where),
        )
    codes = {label: number for number, label in enumerate([0, *used])}
    regions: dict[str, Any] = {REGIONS: {name: [codes[label] for label in value] for name, value in named.items()}}
    if order is not None:
        fits = isinstance(order, list) and len(order) == len(named) and all(label in codes for label in order)
        if not fits:
            raise DataError(
                f"{ORDER} is {order!r}; it names for each of the {len(named)} regions ({', '.join(named)}) the label "
                "that it writes where it is predicted, the last one winning.",
                where=str(where),
            )
        regions[ORDER] = [codes[label] for label in order]
    names = ("background", *(f"label {label}" for label in used))
    return ClassCodes(names, codes | dict.fromkeys(ignored, IGNORE_INDEX)), regions


def _region_note(regions: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name} = {' + '.join(map(str, classes))}" for name, classes in regions[REGIONS].items())
    return f"the classes overlap: regions of the label map's classes, {listed}"


def _numbered(
    folder: Path, half: str, ending: str, channels: int, defects: list[str], used: set[Path]
) -> dict[str, Recording]:
    images, labels = folder / f"images{half}", folder / f"labels{half}"
    for place in (images, labels):
        if not place.is_dir():
            defects.append(f"{place}: the folder is not there")
    first, truths = _names(images, f"_0000{ending}"), _names(labels, ending)
    lonely = sorted(truths - first)
    defects += [f"{labels / (name + ending)}: there is no {name}_0000{ending} in {images.name}" for name in lonely]
    used.update(labels / f"{name}{ending}" for name in lonely)
    found = {}
    for name in sorted(first):
        paths = tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(channels))
        # A picture in colour holds all channels in one file.
        paths = paths[:1] if ending in SUFFIXES and channels == 3 and not paths[1].exists() else paths
        recording = Recording(name, paths, labels / f"{name}{ending}")
        if _is_whole(recording, defects, used):
            found[name] = recording
    return found


def _is_whole(recording: Recording, defects: list[str], used: set[Path]) -> bool:
    """Return whether all files of a case are there; those that are not are appended to `defects`."""
    missing = [path for path in recording.paths if not path.is_file()]
    defects += [f"{path}: {not_there(path)}" for path in missing]
    used.update(recording.paths)
    return not missing


def _list(folder: Path, cases: Mapping[str, Any], defects: list[str], used: set[Path]) -> dict[str, Recording]:
    where, found = f"{folder / DESCRIPTION}: dataset", {}
    for name, files in sorted(cases.items()):
        if not (isinstance(files, dict) and isinstance(files.get("images"), list) and files["images"]):
            defects.append(f"{where}: {name} names no images")
            continue
        try:
            images = tuple(_inside(folder, str(path), where) for path in files["images"])
            recording = Recording(name, images, _inside(folder, str(files.get("label")), where))
        except DataError as error:
            defects.append(str(error).rstrip("."))
            continue
        if _is_whole(recording, defects, used):
            found[name] = recording
    return found


def _inside(folder: Path, path: str, where: str) -> Path:
    """Return a listed path; an absolute one, which nnU-Net allows, has to lie below the folder too."""
    for root in (folder.absolute(), folder.resolve()):
        if Path(path).is_relative_to(root):
            return inside(folder, Path(path).relative_to(root).as_posix(), where=where)
    return inside(folder, path, where=where)


def _number(key: str) -> int:
    return int(key) if key.isdecimal() else 0


def open_msd(options: Mapping[str, Scalar], data_root: Path | None) -> Volumes:
    """Read `<data root>/<path>/dataset.json` and find the training pairs.

    Raises:
        DataError: The folder or a file is missing, or the description is not one.
    """
    defects: list[str] = []
    found = read_msd(find_below(data_root, str(options["path"]), DATASETS["msd"]), defects)
    defects += crossing_groups(found, str(options["group"] or ""))
    raise_defects(found.folder, defects, "msd")
    return Volumes(found, options)


def check_msd(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> Findings:
    """Open every file and return the defects, a line each; raises DataError when there is no description."""
    defects: list[str] = []
    found = read_msd(find_below(data_root, str(options["path"]), DATASETS["msd"]), defects)
    defects += crossing_groups(found, str(options["group"] or ""))
    volumes = Volumes(found, options)
    more = check_volumes(found, memory, axes=volumes.axes)
    classes = volumes.found_classes([*volumes.training, *volumes.test], memory)
    return Findings([*defects, *more], notes=[*more.notes, *found.notes], classes=classes)


def read_msd(folder: Path, defects: list[str]) -> VolumeSet:
    """Find the cases of a task; what is missing is appended to `defects`."""
    where = folder / DESCRIPTION
    described = read_json(where)
    modality, labels, pairs = described.get("modality"), described.get("labels"), described.get("training")
    if not isinstance(modality, dict) or not modality:
        raise DataError("modality is missing, as in {'0': 'CT'}.", where=str(where))
    if isinstance(labels, dict) and labels and not any(str(number).isdecimal() for number in labels):
        raise DataError(
            "labels are names with numbers, as nnU-Net v2 has them; {'0': 'background'} would do.",
            hint="A data set of nnU-Net v2 is read by `dataset: {name: nnunet}`.",
            where=str(where),
        )
    if not isinstance(labels, dict) or len(set(map(str, labels.values()))) < len(labels):
        raise DataError("labels is missing, or two have one name; as in {'0': 'background'}.", where=str(where))
    if not isinstance(pairs, list):
        raise DataError("training is missing, a list of {'image', 'label'}.", where=str(where))
    used: set[Path] = set()
    cases = _pairs(folder, "training", pairs, defects, used)
    held_out, lists = _further(described)
    tests: dict[str, Recording] = {}
    notes = []
    for name, listed in lists.items():
        more = _pairs(folder, name, listed, defects, used)
        defects += [f"{where}: {case} is listed in training and in {name}" for case in more if case in cases]
        (tests if name == held_out else cases).update(more)
        what = "the test cases, which no trial sees" if name == held_out else "training cases as those of `training`"
        notes.append(f"{where}: {len(more)} pairs of {name} are {what}")
    if not cases:
        defects.append(f"{where}: there is no case to train on")
    kinds = tuple(str(modality[key]) for key in sorted(modality, key=lambda key: key.zfill(4)))
    codes = label_codes({str(name): value for value, name in labels.items()}, where)
    notes += unused_files(folder, used)
    ordered, tested = ({name: half[name] for name in sorted(half)} for half in (cases, tests))
    return VolumeSet(folder, ordered, tested, kinds, codes, notes=tuple(notes))


def _further(described: Mapping[str, Any]) -> tuple[str, dict[str, list[Any]]]:
    """Return which list is held out, and the lists of labelled pairs beside `training`."""
    lists = {}
    for name in ("validation", "test"):
        listed = described.get(name)
        if isinstance(listed, list) and any(isinstance(pair, dict) for pair in listed):
            lists[name] = listed
    return "test" if "test" in lists else "validation", lists


def _pairs(folder: Path, name: str, pairs: list[Any], defects: list[str], used: set[Path]) -> dict[str, Recording]:
    where = folder / DESCRIPTION
    cases: dict[str, Recording] = {}
    for number, pair in enumerate(pairs):
        try:
            recording = _recording(folder, pair, f"{where}: {name}[{number}]")
        except DataError as error:
            defects.append(str(error).rstrip("."))
            continue
        missing = [path for path in recording.paths if not path.is_file()]
        defects += [f"{path}: {not_there(path)}" for path in missing]
        used.update(recording.paths)
        if recording.name in cases:
            defects.append(f"{where}: {recording.name} is listed twice")
        if not missing:
            cases[recording.name] = recording
    return cases


def _recording(folder: Path, pair: Any, where: str) -> Recording:
    if not isinstance(pair, dict) or not all(isinstance(pair.get(key), str) for key in ("image", "label")):
        raise DataError("is not {'image': FILE, 'label': FILE}.", where=where)
    image, label = (inside(folder, pair[key], where=where) for key in ("image", "label"))
    name = image.name
    for ending in VOLUMES:
        name = name.removesuffix(ending)
    return Recording(name, (image,), label)
