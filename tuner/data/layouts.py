"""Which layout a folder has: what is looked for, what is there, and what would turn a near miss into a data set.

Only names are looked at, and `dataset.json` is read; whether the files are good is for `tuner.data.checks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.data.datasets import cityscapes, image_folder, nnunet, synapse
from tuner.data.datasets.image_folder import composed
from tuner.data.datasets.image_pairs import images_below
from tuner.data.datasets.synapse_convert import find_cases
from tuner.data.images import SUFFIXES
from tuner.data.splits import group_of
from tuner.data.volumes import VOLUMES, read_json
from tuner.errors import DataError

_MASK_WORDS = ("mask", "label", "annot", "truth", "gt", "seg", "target")
_MIN_GROUPS = 4
"""Fewer beginnings of names are taken for no recordings: a validation needs several."""
_MAX_BELOW = 200
"""Folders that are looked at for data sets below the one that was named."""


@dataclass(frozen=True, slots=True)
class LayoutFinding:
    """What a folder has of one layout."""

    layout: str
    """Name of the data set that reads it"""
    seen: tuple[str, ...]
    missing: tuple[str, ...]
    """What it lacks; empty: it has this layout"""

    @property
    def fits(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def text(self) -> str:
        """Return what was seen, and what was not, in one line."""
        seen = ", ".join(self.seen)
        if self.fits:
            return f"yes: {seen}"
        there = f"{seen}; but " if seen else ""
        return f"no: {there}{', '.join(self.missing)}"


def find_layouts(folder: Path) -> list[LayoutFinding]:
    """Hold a folder against every layout that is read; the order is that of the search, at most one fits."""
    described = _description(folder)
    return [
        _look_for_folder(folder),
        _look_for(
            folder,
            "cityscapes",
            (f"{cityscapes.IMAGES}/train", f"{cityscapes.LABELS}/train"),
            also=(f"{cityscapes.IMAGES}/val",),
        ),
        _look_for(
            folder,
            "synapse",
            (f"{synapse.LISTS}/train.txt", f"{synapse.LISTS}/test_vol.txt", synapse.SLICES),
            also=(synapse.VOLUMES,),
        ),
        _look_for_nnunet(folder, described),
        _look_for_msd(folder, described),
    ]


def is_raw_synapse(folder: Path) -> bool:
    """Say whether a folder is the challenge's download, which `tuner data prepare synapse` converts."""
    try:
        return bool(find_cases(folder))
    except DataError:
        return False


def data_sets_below(folder: Path) -> dict[Path, str]:
    """Return the folders directly below that have a layout, with its name."""
    found = {}
    for place in _folders(folder)[:_MAX_BELOW]:
        fitting = next((finding.layout for finding in find_layouts(place) if finding.fits), None)
        if fitting is None and is_raw_synapse(place):
            fitting = "synapse, as it was downloaded"
        if fitting is not None:
            found[place] = fitting
    return found


def no_layout(folder: Path, findings: list[LayoutFinding]) -> DataError:
    """Return the refusal of a folder that has no layout: what it has, and the nearest way to a data set."""
    entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not entries:
        return DataError(
            "the folder is empty.",
            hint="Put images/ and masks/ of the same names into it; `tuner datasets` lists the other layouts.",
            where=str(folder),
        )
    looked = "\n".join(f"  {finding.layout:10} {finding.text()}" for finding in findings)
    problem, advice = _near_miss(folder)
    shown = ", ".join(entries[:8]) + (f" and {len(entries) - 8} more" if len(entries) > 8 else "")
    return DataError(
        f"{problem or 'no layout that is read was found'} (it holds {shown}).",
        hint=f"{advice}\nLooked for:\n{looked}\n`tuner datasets NAME` shows a layout in full.".lstrip(),
        where=str(folder),
    )


def _near_miss(folder: Path) -> tuple[str, str]:
    """Say what a folder without a layout nearly is, and what would make it that; empty where nothing is alike."""
    images, masks = folder / image_folder.IMAGES, folder / image_folder.MASKS
    held = {place: _stems(place) for place in _folders(folder)}
    held = {place: stems for place, stems in held.items() if stems}
    pairs = list(_pairs_of_folders(held))
    if pairs:
        image, mask, common = pairs[0]
        moves = [f"mv {place} {wanted}" for place, wanted in ((image, images), (mask, masks)) if place != wanted]
        return (
            f"{image.name}/ and {mask.name}/ hold {common} pictures of the same names, and the folders are to be "
            f"called {image_folder.IMAGES}/ and {image_folder.MASKS}/",
            "Rename them: " + " && ".join(moves),
        )
    flat = _flat_suffix(folder)
    if flat is not None:
        return (
            f"images and masks lie in one folder, the masks with {flat!r} behind the name",
            f"Part them: cd {folder} && mkdir images masks && mv *{flat}.* masks/ && mv *.* images/\n"
            f"then: tuner init {folder} --set mask_suffix={flat}",
        )
    if held and not masks.is_dir():
        place = images if images in held else next(iter(held))
        return (
            f"{place.name}/ holds {len(held[place])} pictures, and there are no masks",
            f"Put a mask of the same name for each of them into {masks}.",
        )
    if any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()):
        return "it holds pictures, and none is a mask by its name", "Put images into images/, their masks into masks/."
    if any(path.name.lower().endswith(tuple(VOLUMES)) for path in folder.rglob("*")):
        return (
            "it holds volumes, and no dataset.json says which are images, labels and classes",
            "Describe them as nnU-Net v2 does: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz.",
        )
    return "", ""


def _pairs_of_folders(held: dict[Path, set[str]]) -> Iterator[tuple[Path, Path, int]]:
    """Yield folders of images and masks by other names, those with the most names in common first."""
    places = sorted(held)
    found = []
    for number, one in enumerate(places):
        for other in places[number + 1 :]:
            common = len(held[one] & held[other])
            if common:
                is_mask = any(word in one.name.lower() for word in _MASK_WORDS)
                found.append((other, one, common) if is_mask else (one, other, common))
    yield from sorted(found, key=lambda pair: -pair[2])


def _flat_suffix(folder: Path) -> str | None:
    """Return what stands behind the names of masks that lie beside their images."""
    stems = {composed(path.stem) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    for mark in ("_mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "_annotation", "-mask", "_L"):
        if any(f"{stem}{mark}" in stems for stem in stems):
            return mark
    return None


def _stems(folder: Path) -> set[str]:
    return {composed(path.relative_to(folder).with_suffix("").as_posix()) for path in images_below(folder)}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _look_for(folder: Path, layout: str, needed: tuple[str, ...], *, also: tuple[str, ...] = ()) -> LayoutFinding:
    seen = tuple(name for name in (*needed, *also) if (folder / name).exists())
    return LayoutFinding(layout, seen, tuple(f"no {name}" for name in needed if name not in seen))


def _look_for_folder(folder: Path) -> LayoutFinding:
    seen, missing, names = [], [], {}
    for name in (image_folder.IMAGES, image_folder.MASKS):
        if not (folder / name).is_dir():
            missing.append(f"no {name}/")
            continue
        names[name] = _stems(folder / name)
        seen.append(f"{name}/ with {len(names[name])} pictures")
        if not names[name]:
            missing.append(f"nothing in {name}/")
    lists = (image_folder.TRAIN, image_folder.VALIDATION, image_folder.TEST)
    seen += [name for name in lists if (folder / name).is_file()] if seen else []
    return LayoutFinding("folder", tuple(seen), tuple(missing))


def _description(folder: Path) -> dict[str, Any] | str | None:
    """Return dataset.json, what is wrong with it, or None where there is none."""
    where = folder / nnunet.DESCRIPTION
    if not where.is_file():
        return None
    try:
        return dict(read_json(where))
    except DataError as error:
        return f"{nnunet.DESCRIPTION} cannot be read ({error.message.rstrip('.')})"


def _look_for_nnunet(folder: Path, described: dict[str, Any] | str | None) -> LayoutFinding:
    seen, missing = _of_description(folder, described, ("imagesTr", "labelsTr"))
    if isinstance(described, dict):
        for key in ("file_ending", "labels"):
            (seen if key in described else missing).append(f"{'' if key in described else 'no '}{key}")
        if isinstance(described.get("labels"), dict) and all(str(name).isdecimal() for name in described["labels"]):
            missing.append("labels are numbers with names (v2: names with numbers)")
    return LayoutFinding("nnunet", tuple(seen), tuple(missing))


def _look_for_msd(folder: Path, described: dict[str, Any] | str | None) -> LayoutFinding:
    seen, missing = _of_description(folder, described, ())
    if isinstance(described, dict):
        for key in ("modality", "training"):
            (seen if key in described else missing).append(f"{'' if key in described else 'no '}{key}")
    return LayoutFinding("msd", tuple(seen), tuple(missing))


def _of_description(
    folder: Path, described: dict[str, Any] | str | None, folders: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    seen = [f"{name}/" for name in folders if (folder / name).is_dir()]
    missing = [f"no {name}/" for name in folders if not (folder / name).is_dir()]
    if described is None:
        missing.insert(0, f"no {nnunet.DESCRIPTION}")
    elif isinstance(described, str):
        missing.insert(0, described)
    else:
        seen.insert(0, nnunet.DESCRIPTION)
    return seen, missing


def guess_group(names: Sequence[str]) -> str | None:
    """Return the pattern of `dataset.group` that the names of cases suggest; None where none divides them.

    Names such as `scan07_slice012` seem to be parts of as many recordings as there are beginnings.
    """
    for separator in "_-":
        if len(names) < 2 * _MIN_GROUPS or not all(separator in name for name in names):
            continue
        heads, tails = zip(*(name.rsplit(separator, 1) for name in names), strict=True)
        groups = len(set(heads))
        if groups < _MIN_GROUPS or 2 * groups > len(names) or not all(heads):
            continue
        letters = {tail.rstrip("0123456789") for tail in tails}
        if len(letters) == 1 and all(tail[-1:].isdigit() for tail in tails) and letters != {""}:
            pattern = f"{{group}}{separator}{letters.pop()}*"
        elif len({len(tail) for tail in tails}) == 1:
            pattern = f"{{group}}{separator}{'?' * len(tails[0])}"
        else:
            continue
        find = group_of(pattern)
        if all(find(name) == head for name, head in zip(names, heads, strict=True)):
            return pattern
    return None
