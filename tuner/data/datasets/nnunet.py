"""NnU-Net raw and MSD.

Raw data sets of nnU-Net v2: `dataset.json`, a file a channel, label maps beside.

Tasks of the Medical Segmentation Decathlon: `dataset.json` lists pairs of files; channels are the fourth axis.

The published test images have no labels: there are no test cases.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.data.cache import FileHashCache
from tuner.data.catalog import DATASETS
from tuner.data.datasets.image_folder import raise_defects
from tuner.data.datasets.volume_set import Recording, Volumes, VolumeSet, check_volumes
from tuner.data.label_map import ClassCodes
from tuner.data.source import IGNORE_INDEX, find_below, inside
from tuner.data.splits import group_of
from tuner.data.volumes import ENDINGS, NIFTI, read_json
from tuner.errors import DataError
from tuner.registry import Scalar

DESCRIPTION = "dataset.json"


def open_nnunet(options: Mapping[str, Scalar], data_root: Path | None) -> Volumes:
    """Read `<data root>/<path>/dataset.json` and find the cases.

    Raises:
        DataError: The folder or a file is missing, the description is not one, or it uses label regions.
    """
    defects: list[str] = []
    found = read_nnunet(find_below(data_root, str(options["path"]), DATASETS["nnunet"]), defects)
    defects += crossing_groups(found, str(options["group"] or ""))
    raise_defects(found.folder, defects, "nnunet")
    return Volumes(found, options)


def check_nnunet(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> list[str]:
    """Open every file and return the defects, a line each; raises DataError when there is no description."""
    defects: list[str] = []
    found = read_nnunet(find_below(data_root, str(options["path"]), DATASETS["nnunet"]), defects)
    defects += crossing_groups(found, str(options["group"] or "")) + [found.lost] * bool(found.lost)
    return defects + check_volumes(found, memory)


def read_nnunet(folder: Path, defects: list[str]) -> VolumeSet:
    """Find the cases of a raw data set; what is missing is appended to `defects`."""
    where = folder / DESCRIPTION
    described = read_json(where)
    ending, names = described.get("file_ending"), described.get("channel_names", described.get("modality"))
    if ending not in ENDINGS:
        raise DataError(f"file_ending is {ending!r}; {', '.join(ENDINGS)} are read.", where=str(where))
    if not isinstance(names, dict) or not names:
        raise DataError("channel_names is missing, as in {'0': 'CT'}.", where=str(where))
    kinds = tuple(str(names[key]) for key in sorted(names, key=_number))
    codes = label_codes(described.get("labels"), where)
    if isinstance(described.get("dataset"), dict):
        training, lost = _listed(folder, described["dataset"], defects), ""
    else:
        training = _numbered(folder, "Tr", str(ending), len(kinds), defects)
        lost = _lost(described.get("numTraining"), folder, str(ending))
    tests = _numbered(folder, "Ts", str(ending), len(kinds), defects) if (folder / "labelsTs").is_dir() else {}
    if not training:
        defects.append(f"{folder}: there is no case to train on")
    defects += [f"{folder}: {name} is a training case and a test case" for name in training if name in tests]
    return VolumeSet(folder, training, tests, kinds, codes, lost)


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
    names = {path.name.removesuffix(ending) for path in (folder / "labelsTr").glob(f"*{ending}")}
    names |= {path.name.removesuffix(f"_0000{ending}") for path in (folder / "imagesTr").glob(f"*_0000{ending}")}
    if not isinstance(announced, int) or announced <= len(names):
        return ""
    return f"{folder / DESCRIPTION}: numTraining is {announced}, and there are {len(names)} training cases"


def label_codes(labels: Any, where: Path) -> ClassCodes:
    """Read `labels`: `{"background": 0, "liver": 1, "ignore": 2}`.

    Raises:
        DataError: It is none of that, lacks the background, or names regions (lists of labels), which overlap.
    """
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels):
        raise DataError("labels is missing, as in {'background': 0, 'liver': 1}.", where=str(where))
    if any(isinstance(value, list) for value in labels.values()):
        raise DataError("labels are regions (lists); one number a class would do.", where=str(where))
    numbers: dict[str, int] = {}
    for name, value in labels.items():
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


def _numbered(folder: Path, half: str, ending: str, channels: int, defects: list[str]) -> dict[str, Recording]:
    images, labels = folder / f"images{half}", folder / f"labels{half}"
    for place in (images, labels):
        if not place.is_dir():
            defects.append(f"{place}: the folder is not there")
    first = {path.name.removesuffix(f"_0000{ending}") for path in images.glob(f"*_0000{ending}")}
    truths = {path.name.removesuffix(ending) for path in labels.glob(f"*{ending}") if not path.name.startswith(".")}
    defects += [
        f"{labels / (name + ending)}: there is no {name}_0000{ending} in {images.name}" for name in truths - first
    ]
    found = {}
    for name in sorted(first):
        paths = tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(channels))
        # A picture in colour holds all channels in one file.
        paths = paths[:1] if ending not in (".nii", ".nii.gz") and channels == 3 and not paths[1].exists() else paths
        recording = Recording(name, paths, labels / f"{name}{ending}")
        missing = [path for path in recording.paths if not path.is_file()]
        defects += [f"{path}: the file is not there" for path in missing]
        if not missing:
            found[name] = recording
    return found


def _listed(folder: Path, cases: Mapping[str, Any], defects: list[str]) -> dict[str, Recording]:
    where, found = f"{folder / DESCRIPTION}: dataset", {}
    for name, files in sorted(cases.items()):
        if not (isinstance(files, dict) and isinstance(files.get("images"), list) and files["images"]):
            defects.append(f"{where}: {name} names no images")
            continue
        try:
            images = tuple(inside(folder, str(path), where=where) for path in files["images"])
            recording = Recording(name, images, inside(folder, str(files.get("label")), where=where))
        except DataError as error:
            defects.append(str(error).rstrip("."))
            continue
        missing = [path for path in recording.paths if not path.is_file()]
        defects += [f"{path}: the file is not there" for path in missing]
        if not missing:
            found[name] = recording
    return found


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


def check_msd(options: Mapping[str, Scalar], data_root: Path | None, memory: FileHashCache) -> list[str]:
    """Open every file and return the defects, a line each; raises DataError when there is no description."""
    defects: list[str] = []
    found = read_msd(find_below(data_root, str(options["path"]), DATASETS["msd"]), defects)
    defects += crossing_groups(found, str(options["group"] or ""))
    return defects + check_volumes(found, memory)


def read_msd(folder: Path, defects: list[str]) -> VolumeSet:
    """Find the cases of a task; what is missing is appended to `defects`."""
    where = folder / DESCRIPTION
    described = read_json(where)
    modality, labels, pairs = described.get("modality"), described.get("labels"), described.get("training")
    if not isinstance(modality, dict) or not modality:
        raise DataError("modality is missing, as in {'0': 'CT'}.", where=str(where))
    if not isinstance(labels, dict) or len(set(map(str, labels.values()))) < len(labels):
        raise DataError("labels is missing, or two have one name; as in {'0': 'background'}.", where=str(where))
    if not isinstance(pairs, list):
        raise DataError("training is missing, a list of {'image', 'label'}.", where=str(where))
    cases: dict[str, Recording] = {}
    for number, pair in enumerate(pairs):
        try:
            recording = _recording(folder, pair, f"{where}: training[{number}]")
        except DataError as error:
            defects.append(str(error).rstrip("."))
            continue
        missing = [path for path in recording.paths if not path.is_file()]
        defects += [f"{path}: the file is not there" for path in missing]
        if recording.name in cases:
            defects.append(f"{where}: {recording.name} is listed twice")
        if not missing:
            cases[recording.name] = recording
    if not cases:
        defects.append(f"{where}: there is no case to train on")
    kinds = tuple(str(modality[key]) for key in sorted(modality, key=lambda key: key.zfill(4)))
    codes = label_codes({str(name): value for value, name in labels.items()}, where)
    return VolumeSet(folder, {name: cases[name] for name in sorted(cases)}, {}, kinds, codes)


def _recording(folder: Path, pair: Any, where: str) -> Recording:
    if not isinstance(pair, dict) or not all(isinstance(pair.get(key), str) for key in ("image", "label")):
        raise DataError("is not {'image': FILE, 'label': FILE}.", where=where)
    image, label = (inside(folder, pair[key], where=where) for key in ("image", "label"))
    name = image.name
    for ending in NIFTI:
        name = name.removesuffix(ending)
    return Recording(name, (image,), label)
