"""Conversion of the challenge's download (NIfTI) into TransUNet's layout, with its checks; can be interrupted.

Intensities are clipped to -125..275 HU and scaled to 0..1; nothing is resampled. Volumes are brought to the axes L,
A, S first; then row 0 is anterior, column 0 the patient's right, and slice 000 the lowest. The lists are written
last: a folder that was interrupted is not taken for a data set.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.atomic_io import explain_os_error, write_atomically
from tuner.data.cache import FileHashCache
from tuner.data.catalog import ORGANS
from tuner.data.checks import Findings
from tuner.data.datasets.synapse import (
    LISTS,
    OFFICIAL_TEST,
    RAW_LABELS,
    RAW_TO_SYNAPSE,
    SLICES,
    VOLUMES,
    WINDOW,
    volume_path,
)
from tuner.data.datasets.volume_set import Recording, VolumeSet, check_volumes
from tuner.data.label_map import ClassCodes
from tuner.data.source import Image, Label
from tuner.errors import DataError, closest

RECORD = "conversion.json"

_ROOTS = ("", "Training", "RawData/Training", "Abdomen/RawData/Training")
_LISTS = tuple(f"{LISTS}/{name}" for name in ("train.txt", "test_vol.txt", "all.lst"))
_VERSION = 1


@dataclass(frozen=True, slots=True)
class RawCase:
    """Image and label of one patient in the download."""

    name: str
    image: Path
    label: Path

    def state(self, role: str) -> dict[str, Any]:
        """What decides the converted files; a case whose state was recorded is not converted again."""
        files = [[path.stat().st_size, path.stat().st_mtime_ns] for path in (self.image, self.label)]
        return {"version": _VERSION, "role": role, "files": files}


def prepare_raw(
    raw: Path, out: Path, test: Sequence[str] = (), on_progress: Callable[[str, int, int], None] | None = None
) -> dict[str, str]:
    """Convert every case of a download.

    Args:
        raw: Folder with `img/imgNNNN.nii.gz` and `label/labelNNNN.nii.gz` (or both below `Training`,
            or below `RawData/Training`).
        out: Folder of the data set, `<data root>/synapse`.
        test: Further test cases; without it the official test cases are test cases and all others train.
        on_progress: Called with the case, how many are done, and how many there are.

    Returns:
        Case -> `train` or `test`.

    Raises:
        DataError: Files are missing, broken or contradict each other, or `out` holds a data set from elsewhere.
        DiskFullError: No space left; what was converted stays, and the next call goes on there.
    """
    cases = find_cases(raw)
    roles = _roles(cases, test)
    _check_headers(cases)
    with explain_os_error(out, purpose="the converted data set", hint="name another folder with --data-root DIR."):
        done = _begin(out)
        for number, case in enumerate(cases, 1):
            state = case.state(roles[case.name])
            if done.get(case.name, {}).get("state") != state or not _is_whole(out, done[case.name]["files"]):
                _remove(out, _LISTS)
                files = _convert(case, out, roles[case.name])
                _remove(out, set(done.get(case.name, {}).get("files", [])) - set(files))
                done[case.name] = {"state": state, "files": files}
                write_atomically(out / RECORD, json.dumps(done, indent=1).encode())
            if on_progress:
                on_progress(case.name, number, len(cases))
        _write_lists(out, done)
    return {name: str(entry["state"]["role"]) for name, entry in sorted(done.items())}


def find_cases(raw: Path) -> list[RawCase]:
    """Find images and their labels, in order of their numbers; every one that lacks its partner is named."""
    cases, problems, folder = look_for_cases(raw)
    if problems:
        raise DataError("; ".join(problems) + ".", where=str(folder))
    return cases


def look_for_cases(raw: Path) -> tuple[list[RawCase], list[str], Path]:
    """Return the cases that are whole, what is amiss with the others, and the folder that holds `img` and `label`."""
    folders = [raw / root for root in _ROOTS if (raw / root / "img").is_dir()]
    if not folders:
        there = ", ".join(sorted(path.name for path in raw.iterdir())[:8]) if raw.is_dir() else "not a folder"
        raise DataError(
            f"no folder `img` in the raw data ({there or 'empty'}).",
            hint="Expected img/img0001.nii.gz, … and label/label0001.nii.gz, … as the challenge's download has them.",
            where=str(raw),
        )
    images, labels = (_number(folders[0] / kind, kind) for kind in ("img", "label"))
    problems = [f"{images[number]} has no label{number}" for number in images if number not in labels]
    problems += [f"{labels[number]} has no img{number}" for number in labels if number not in images]
    if not images:
        problems.append(f"{folders[0] / 'img'} holds no imgNNNN.nii.gz")
    cases = [RawCase(f"case{number}", images[number], labels[number]) for number in sorted(images.keys() & labels)]
    return cases, problems, folders[0]


def convert_volume(image: NDArray[Any], label: NDArray[Any]) -> tuple[Image, Label]:
    """Convert [x, y, z] (axes L, A, S) in Hounsfield units and raw ids to [slice, row, column] in 0..1 and 0..8."""
    low, high = WINDOW
    clipped = np.clip(image[:, ::-1].transpose(2, 1, 0).astype(np.float32), low, high)
    table = np.zeros(RAW_LABELS, np.uint8)
    table[list(RAW_TO_SYNAPSE)] = list(RAW_TO_SYNAPSE.values())
    return (clipped - low) / np.float32(high - low), table[label[:, ::-1].transpose(2, 1, 0)]


def _number(folder: Path, kind: str) -> dict[str, Path]:
    paths = sorted([*folder.glob(f"{kind}*.nii.gz"), *folder.glob(f"{kind}*.nii")])
    numbers = {path.name.partition(".")[0].removeprefix(kind): path for path in paths}
    return {number: path for number, path in numbers.items() if number.isdecimal()}


def _roles(cases: Sequence[RawCase], test: Sequence[str]) -> dict[str, str]:
    names = [case.name for case in cases]
    unknown = sorted(set(test) - set(names))
    if unknown:
        near = closest(unknown[0], names)
        guess = f" Did you mean {near!r}?" if near else ""
        raise DataError(
            f"not a case of the raw data: {', '.join(unknown)}.{guess}",
            hint=f"Cases: {', '.join(names)}.",
            where="--test",
        )
    roles = {name: "test" if name in test or name in OFFICIAL_TEST else "train" for name in names}
    if "train" not in roles.values():
        raise DataError(f"all {len(names)} cases would be test cases; none is left to train on.", where="--test")
    return roles


def _check_headers(cases: Sequence[RawCase]) -> None:
    problems = []
    for case in cases:
        try:
            image, label = _open(case.image), _open(case.label)
        except DataError as error:
            problems.append(f"{error.where}: {error.message.rstrip('.')}")
            continue
        if image.shape != label.shape or len(image.shape) != 3:
            problems.append(f"{case.name}: image {image.shape} and label {label.shape} are not one volume [x, y, z]")
    if problems:
        raise DataError("; ".join(problems) + ".", hint="Nothing was converted.")


def _convert(case: RawCase, out: Path, role: str) -> list[str]:
    """Write the files of one case and return their names below `out`."""
    values, ids = _pixels(case.image), _pixels(case.label)
    problems = [] if np.isfinite(values).all() else [f"{case.image} holds values that are not finite"]
    if not np.isin(np.unique(ids), np.arange(RAW_LABELS)).all():
        found = ", ".join(f"{value:g}" for value in np.setdiff1d(ids, np.arange(RAW_LABELS))[:8])
        problems.append(f"{case.label} holds labels {found}; expected 0 to {RAW_LABELS - 1}")
    if problems:
        raise DataError("; ".join(problems) + ".", hint="Cases before this one are converted; call again to go on.")
    image, label = convert_volume(values, ids.astype(np.uint8))
    if role == "test":
        path = volume_path(out, case.name)
        write_atomically(path, _h5(image, label))
        return [path.relative_to(out).as_posix()]
    names = []
    for number, (plane, mask) in enumerate(zip(image, label, strict=True)):
        names.append(f"{SLICES}/{case.name}_slice{number:03d}.npz")
        content = BytesIO()
        np.savez_compressed(content, image=plane, label=mask.astype(np.float32))
        write_atomically(out / names[-1], content.getvalue())
    return names


def _h5(image: Image, label: Label) -> bytes:
    import h5py

    content = BytesIO()
    with h5py.File(content, "w") as file:
        chunk = (1, *image.shape[1:])
        file.create_dataset("image", data=image, compression="gzip", chunks=chunk)
        file.create_dataset("label", data=label.astype(np.float32), compression="gzip", chunks=chunk)
    return content.getvalue()


def _open(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.as_closest_canonical(nibabel.load(path))
    except Exception as error:  # nibabel raises its own, zlib's, gzip's and the system's errors
        raise DataError(f"cannot be read as NIfTI: {error}.", where=str(path)) from error


def _pixels(path: Path) -> NDArray[Any]:
    """Values with axes L, A, S: canonical order has R, A, S, so the first axis is turned."""
    try:
        return np.asarray(_open(path).dataobj)[::-1]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot be read as NIfTI (truncated?): {error}.", where=str(path)) from error


def _begin(out: Path) -> dict[str, Any]:
    """Create the folders and return which cases an earlier call converted."""
    record = out / RECORD
    if not record.exists() and (out / LISTS / "train.txt").exists():
        raise DataError(
            "the folder holds a data set that this command did not make; it will not be changed.",
            hint="Name another data root with --data-root DIR, or move that data set away.",
            where=str(out),
        )
    for folder in (SLICES, VOLUMES, LISTS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    try:
        done = json.loads(record.read_bytes()) if record.exists() else {}
    except ValueError:
        return {}
    return done if isinstance(done, dict) else {}


def _is_whole(out: Path, files: Sequence[str]) -> bool:
    return all((out / name).is_file() for name in files)


def _remove(out: Path, files: Iterable[str]) -> None:
    for name in files:
        (out / name).unlink(missing_ok=True)


def _write_lists(out: Path, done: Mapping[str, Mapping[str, Any]]) -> None:
    train = [Path(name).stem for case in sorted(done) for name in done[case]["files"] if name.startswith(SLICES)]
    test = [case for case in sorted(done) if done[case]["state"]["role"] == "test"]
    everything = [f"{case}.npy.h5" for case in sorted(done)]
    for file, names in zip(_LISTS, (train, test, everything), strict=True):
        write_atomically(out / file, "".join(f"{name}\n" for name in names).encode())


def check_raw(raw: Path) -> Findings:
    """Open every image and label of a download and return the defects, a line each.

    Labels are the challenge's ids, 0 to 13; of the classes, background and the eight organs of the benchmark must occur
    in the official training cases and in the official test cases, as far as there are any.

    Raises:
        DataError: There is no folder `img`.
    """
    cases, defects, folder = look_for_cases(raw)
    recordings: dict[bool, dict[str, Recording]] = {False: {}, True: {}}
    for case in cases:
        recordings[case.name in OFFICIAL_TEST][case.name] = Recording(case.name, (case.image,), case.label)
    codes = ClassCodes(ORGANS, {raw_id: RAW_TO_SYNAPSE.get(raw_id, 0) for raw_id in range(RAW_LABELS)})
    found = VolumeSet(folder, recordings[False], recordings[True], ("CT",), codes)
    more = check_volumes(found, FileHashCache(None), channels=1)
    return Findings([*defects, *more], notes=more.notes)
