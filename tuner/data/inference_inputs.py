"""Inputs of inference: which files belong to a case, and how they are read and normalised.

`reading` is what a data set said of itself when the network was trained (`Readable.reading`), plain data of one form:
`volumes` (NIfTI, NRRD, MetaImage, TIFF or pictures, a file a channel or all in one, normalised by the kind of each
channel), `pictures`, or `ct` (volumes in HU, which are windowed; `.npz` and `.h5` in the layout of TransUNet's Synapse
data, and pictures, which are so already). `axes` is how the volumes were turned (`tuner.data.volumes`).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from tuner.data.datasets.synapse import read_image_only
from tuner.data.datasets.volume_set import normalise
from tuner.data.images import AS_STORED, COLOUR, SUFFIXES, ReadOptions, read_image
from tuner.data.raster import ORIENTATIONS, read_head
from tuner.data.source import Image
from tuner.data.tiff_stacks import is_stack
from tuner.data.volumes import (
    CT_AXES,
    VOLUMES,
    are_axes,
    companions,
    is_volume,
    not_there,
    read_channels,
    read_volume_head,
)
from tuner.errors import ConfigError, DataError, RequestError

ARRAYS = (".npz", ".npy.h5", ".h5")
ENDINGS = {"volumes": (*VOLUMES, *SUFFIXES), "pictures": SUFFIXES, "ct": (*VOLUMES, *ARRAYS, *SUFFIXES)}
"""File endings that are read, by form; a longer ending stands before the one that it ends with."""

_ALONE = -1
"""In the place of a channel's number: the file holds all of them."""
_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True, slots=True)
class NewCase:
    """An image to be predicted: one file, or one a channel."""

    name: str
    """Of its mask, without ending; with the folders below a folder that was given."""
    paths: tuple[Path, ...]
    ending: str
    problem: str | None = None
    """Why it cannot be read, where that shows in the names already."""


@dataclass(frozen=True, slots=True)
class NewCases:
    """What was found."""

    cases: tuple[NewCase, ...]
    passed_over: tuple[Path, ...]
    """Files in given folders that are no images"""


def find_cases(words: Sequence[str], reading: Mapping[str, Any]) -> NewCases:
    """Find the images that files, folders and patterns name, in order.

    Raises:
        RequestError: Something is not there, a folder holds no image, or two images would have one mask.
    """
    endings = ENDINGS[form_of(reading)]
    files, passed_over = _files(words, endings)
    cases = _group(files, endings, int(reading.get("files", 1)), is_named_by_channel=form_of(reading) == "volumes")
    _refuse_twins(cases)
    return NewCases(tuple(cases), tuple(passed_over))


def read_case(case: NewCase, reading: Mapping[str, Any]) -> Image:
    """Read an image as [C, D, H, W], normalised as the images were that the network was trained on.

    Raises:
        DataError: It cannot be read, or has not the channels of the training images.
    """
    if case.problem:
        raise DataError(case.problem, where=str(case.paths[0]))
    for path in case.paths:
        if not path.is_file():
            raise DataError(f"{not_there(path)}.", where=str(path))
    image = _READERS[form_of(reading)](case, reading)
    wanted = int(reading["channels"])
    if len(image) != wanted:
        found = f"{len(image)} channel{'s' * (len(image) != 1)}"
        raise DataError(f"{found}; the network was trained on images with {wanted}.", where=str(case.paths[0]))
    return image


def form_of(reading: Mapping[str, Any]) -> str:
    """Return the form of a description, once everything that its form needs is there; ConfigError when it is not."""
    form, labels = reading.get("form"), reading.get("labels")
    kinds, files = reading.get("kinds", ["noNorm"]), reading.get("files", 1)
    window = [0.0, 1.0] if form == "pictures" else [reading.get("low"), reading.get("high")]
    sound = (
        form in ENDINGS
        and isinstance(labels, list)
        and labels
        and all(_is_whole(code, 2 * COLOUR) for code in labels)
        and _is_whole(reading.get("channels"), 1 << 16)
        and _is_whole(files, 1 << 16)
        and isinstance(kinds, list)
        and kinds
        and all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in window)
        and ("axes" not in reading or are_axes(reading["axes"]))
    )
    if not sound:
        raise ConfigError(
            "the run does not say how its images were read.",
            hint="Its data set gives no description of that, so further images cannot be read as they were.",
        )
    return str(form)


def axes_of(reading: Mapping[str, Any]) -> str | None:
    """Return how the axes of volumes run for the network; None: as in the files, for runs that say nothing of it."""
    return CT_AXES if reading.get("form") == "ct" else reading.get("axes")


def _is_whole(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _files(words: Sequence[str], endings: Sequence[str]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return files with the folder that their names begin in, and what lies beside them."""
    files: list[tuple[Path, Path]] = []
    passed_over: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            # A broken link is taken along, to be named among the images that cannot be read.
            below = [
                file for file in sorted(path.rglob("*")) if file.is_file() or (file.is_symlink() and not file.exists())
            ]
            images = [file for file in below if ending_of(file, endings) and not _is_hidden(file, path)]
            if not images:
                raise RequestError(
                    f"the folder holds no image that this run reads ({', '.join(endings)}).", where=str(path)
                )
            files += [(file, path) for file in images]
            used = {*images, *(beside for file in images for beside in _beside(file))}
            passed_over += [file for file in below if file not in used]
            continue
        matches = [path] if path.exists() else sorted(Path(match) for match in glob(word, recursive=True))
        matches = [match for match in matches if not match.is_dir()]
        matches += [path] if not matches and path.is_symlink() and not path.exists() else []
        if not matches:
            raise RequestError("there is no such file, folder or pattern.", where=word)
        files += [(match, match.parent) for match in matches]
    return list(dict.fromkeys(files)), passed_over


def _beside(file: Path) -> list[Path]:
    try:
        return companions(file)
    except DataError:
        return []  # said when the image is read


def ending_of(path: Path, endings: Iterable[str]) -> str | None:
    """Return the ending of a file among those that are known; None when it has none of them."""
    name = path.name.lower()
    found = [ending for ending in endings if name.endswith(ending) and len(name) > len(ending)]
    return max(found, key=len) if found else None


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _group(
    files: Sequence[tuple[Path, Path]], endings: Sequence[str], channels: int, *, is_named_by_channel: bool
) -> list[NewCase]:
    """Put the files of a case together: `CASE_0000.nii.gz`, `CASE_0001.nii.gz`, … in nnU-Net's way, or one file."""
    groups: dict[tuple[Path, str, str], dict[int, Path]] = {}
    strangers = []
    for path, folder in files:
        ending = ending_of(path, endings)
        if ending is None:
            problem = f"it is no image that this run reads ({', '.join(endings)})."
            strangers.append(NewCase(path.name, (path,), "", problem))
            continue
        stem = path.relative_to(folder).as_posix()[: -len(ending)]
        match = _CHANNEL.fullmatch(stem) if is_named_by_channel else None
        if match and (channels > 1 or int(match[2]) == 0):
            groups.setdefault((path.parent, match[1], path.name[-len(ending) :]), {})[int(match[2])] = path
        else:
            groups.setdefault((path.parent, stem, path.name[-len(ending) :]), {})[_ALONE] = path
    return [*(_case(name, ending, found, channels) for (_, name, ending), found in groups.items()), *strangers]


def _case(name: str, ending: str, found: Mapping[int, Path], channels: int) -> NewCase:
    paths = tuple(found[number] for number in sorted(found))
    wanted = [_ALONE] if _ALONE in found else list(range(channels))
    missing = [f"{name}_{number:04d}{ending}" for number in wanted if number not in found]
    extra = [path.name for number, path in sorted(found.items()) if number not in wanted]
    problem = None
    if missing:
        problem = f"the run takes a file a channel, {channels} in all; missing: {', '.join(missing)}."
    elif extra:
        problem = f"more files than the {len(wanted)} that belong together: {', '.join(extra)}."
    return NewCase(name, paths, ending, problem)


def _refuse_twins(cases: Sequence[NewCase]) -> None:
    seen: dict[str, NewCase] = {}
    for case in cases:
        mask = f"{case.name}{mask_ending(case)}"
        if mask in seen:
            raise RequestError(
                f"{seen[mask].paths[0]} and {case.paths[0]} would both be written to {mask}.",
                hint="Predict them into different folders.",
            )
        seen[mask] = case


def mask_ending(case: NewCase) -> str:
    """Return the ending of a mask: that of its image, and PNG for all pictures; a TIFF of several pages is none."""
    if is_stack(case.paths[0]):
        return case.ending
    return ".png" if case.ending.lower() in SUFFIXES else case.ending


def _read_volume(case: NewCase, reading: Mapping[str, Any]) -> Image:
    planes = [read_channels(path, axes_of(reading), like=case.paths[0]) for path in case.paths]
    shapes = {plane.shape[1:] for plane in planes}
    if len(shapes) > 1:
        raise DataError(
            f"its channels differ in shape: {', '.join(map(str, sorted(shapes)))}.", where=str(case.paths[0])
        )
    image = np.concatenate(planes)
    if len(image) == int(reading["channels"]):
        kinds = tuple(map(str, reading.get("kinds", ["noNorm"])))
        normalise(image, kinds, low=float(reading["low"]), high=float(reading["high"]))
    return image


def place_note(case: NewCase, reading: Mapping[str, Any]) -> str | None:
    """Say what was made of a head that states no place, or states it twice; None where all is plain."""
    if form_of(reading) == "pictures" or not is_volume(case.paths[0]):
        return None
    return "; ".join(read_volume_head(case.paths[0]).remarks) or None


def _read_picture(case: NewCase, reading: Mapping[str, Any]) -> Image:
    return read_image(case.paths[0], int(reading["channels"]), read_options_of(reading))[:, None]


def read_options_of(reading: Mapping[str, Any]) -> ReadOptions:
    """Return how the pictures of a run were read; runs of earlier versions read them as stored."""
    low, high = (_number(reading.get(name)) if form_of(reading) == "pictures" else None for name in ("low", "high"))
    limit = reading.get("max_pixels")
    return ReadOptions(
        is_upright=reading.get("exif") == "apply",
        max_pixels=limit if isinstance(limit, int) and limit > 0 else AS_STORED.max_pixels,
        low=low,
        high=high,
    )


def orientation_note(case: NewCase, reading: Mapping[str, Any]) -> str | None:
    """Say what the EXIF orientation of a picture means for its mask; None where it has none."""
    if case.ending.lower() not in SUFFIXES or is_volume(case.paths[0]):
        return None
    orientation = read_head(case.paths[0], max_pixels=read_options_of(reading).max_pixels).orientation
    if orientation == 1:
        return None
    said = f"EXIF orientation {orientation} ({ORIENTATIONS[orientation]})"
    if reading.get("exif") == "apply" or form_of(reading) == "volumes":
        return f"{said} was applied: the mask is upright, as a viewer shows the picture"
    return f"{said} was ignored, as in training: the mask lies as the picture is stored, not as a viewer shows it"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _read_ct(case: NewCase, reading: Mapping[str, Any]) -> Image:
    path = case.paths[0]
    if case.ending.lower() in SUFFIXES and not is_stack(path):
        return _read_picture(case, reading)
    if case.ending.lower() in ARRAYS:
        return read_image_only(path)[None]
    low, high = float(reading["low"]), float(reading["high"])
    clipped = np.clip(read_channels(path, axes_of(reading)), low, high)
    scaled: Image = (clipped - np.float32(low)) / np.float32(high - low)
    return scaled


_READERS: dict[str, Callable[[NewCase, Mapping[str, Any]], Image]] = {
    "volumes": _read_volume,
    "pictures": _read_picture,
    "ct": _read_ct,
}
