"""Tasks of the Medical Segmentation Decathlon: `dataset.json` lists pairs of files; channels are the fourth axis.

The published test images have no labels: there are no test cases.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.data.catalogue import DATASETS
from tuner.data.datasets.image_folder import raise_defects
from tuner.data.datasets.nnunet import DESCRIPTION, crossing_groups, label_codes
from tuner.data.datasets.volume_check import check_volumes
from tuner.data.datasets.volume_set import Recording, Volumes, VolumeSet
from tuner.data.memory import FileMemory
from tuner.data.places import find_below, inside
from tuner.data.volumes import NIFTI, read_json
from tuner.errors import DataError
from tuner.registry import Scalar


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


def check_msd(options: Mapping[str, Scalar], data_root: Path | None, memory: FileMemory) -> list[str]:
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
