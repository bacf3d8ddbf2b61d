"""Sets of volumes in every layout, and a way to spoil a case of each for every defect that `data check` knows."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.data.corruption import COUNT, Spoil, halve, seeded
from tuner.data.datasets.synapse import OFFICIAL_TRAIN

IDS = {"challenge": (1, 2, 3, 4, 6, 7, 8, 11), "boxes": (3, 7)}


def _scan(path: Path, number: int, *, affine: np.ndarray | None = None, shape: tuple[int, ...] = (7, 6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = seeded(number).normal(0, 100, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 1, 2, 1]) if affine is None else affine), path)


def _truth(
    path: Path, values: tuple[int, ...], *, affine: np.ndarray | None = None, shape: tuple[int, ...] = (7, 6, 5)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.resize(np.array((0, *values), np.uint8), shape)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, 1, 2, 1]) if affine is None else affine), path)


def _edit(path: Path, change: Callable[[np.ndarray], None]) -> None:
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    change(values)
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)


def _set(where: Any, value: float) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[where] = value

    return change


def _head(path: Path) -> None:
    """A spacing that is no number, written into the head of the file."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[80:84] = struct.pack("<f", float("nan"))
    path.write_bytes(gzip.compress(bytes(content)))


def _colours(path: Path) -> None:
    values = np.zeros((7, 6, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 1, 2, 1])), path)


def _share(source: Path, target: Path) -> None:
    """Two slices of one scan in another."""
    slices = np.asarray(nibabel.load(source).dataobj)[:, :, 1:3]

    def change(values: np.ndarray) -> None:
        values[:, :, 3:5] = slices

    _edit(target, change)


def volume_defects(image: Callable[[Path, int], Path], label: Callable[[Path, int], Path], ids: tuple[int, ...]) -> Any:
    """What can be wrong with the files of any set of volumes; cases 0 to 13."""
    moved = np.diag([-1.0, 1, 2, 1])
    moved[:3, 3] = 5
    return {
        "image truncated": (lambda f: halve(image(f, 0)), "cannot be read as NIfTI"),
        "label empty": (lambda f: label(f, 1).write_bytes(b""), "cannot be read as NIfTI (0 bytes"),
        "shapes": (lambda f: _truth(label(f, 2), ids, shape=(7, 6, 4)), "shape [4, 6, 7], and"),
        "spacing": (lambda f: _truth(label(f, 3), ids, affine=np.diag([-3.0, 1, 2, 1])), "its spacing is not that of"),
        "affine": (lambda f: _truth(label(f, 4), ids, affine=moved), "its affine is not that of"),
        "head without a spacing": (lambda f: _head(image(f, 5)), "is no size of a voxel"),
        "foreign label": (lambda f: _edit(label(f, 6), _set((0, 0, 0), 77)), "holds 77, which no class has"),
        "not finite": (lambda f: _edit(image(f, 7), _set((0, 0, 0), np.nan)), "1 voxels are not finite"),
        "empty volume": (lambda f: _edit(image(f, 8), _set(slice(None), -1024)), "every voxel is -1024"),
        "shared slices": (lambda f: _share(image(f, 9), image(f, 10)), "2 of its 5 slices are also in"),
        "channels": (lambda f: _scan(image(f, 11), 3, shape=(7, 6, 5, 2)), "2 channels"),
        "no numbers": (lambda f: _colours(image(f, 12)), "whole or real numbers would do"),
        "fractions": (
            lambda f: nibabel.save(
                nibabel.Nifti1Image(np.full((7, 6, 5), 0.5, np.float32), np.diag([-1.0, 1, 2, 1])), label(f, 13)
            ),
            "holds values that are not whole numbers",
        ),
    }


def _raw_path(kind: str) -> Callable[[Path, int], Path]:
    return lambda folder, number: folder / kind / f"{kind}{_raw_number(number)}.nii.gz"


def _raw_number(number: int) -> str:
    return ("0001", "0002")[number - 18] if number >= 18 else OFFICIAL_TRAIN[number].removeprefix("case")


def make_raw(root: Path) -> Path:
    """Eighteen official training cases and two test cases."""
    for number in range(COUNT):
        _scan(_raw_path("img")(root, number), number)
        _truth(_raw_path("label")(root, number), IDS["challenge"])
    return root


def make_nnunet(root: Path) -> Path:
    """Eighteen training cases and two test cases."""
    folder = root / "Dataset008_Broken"
    for number in range(COUNT):
        _scan(nnunet_image(folder, number), number)
        _truth(nnunet_label(folder, number), IDS["boxes"])
    labels = {"background": 0, "low": 3, "high": 7}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 18, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def nnunet_image(folder: Path, number: int) -> Path:
    """The image of a case."""
    return folder / ("imagesTs" if number >= 18 else "imagesTr") / f"v{number:02d}_a_0000.nii.gz"


def nnunet_label(folder: Path, number: int) -> Path:
    """Its labels."""
    return folder / ("labelsTs" if number >= 18 else "labelsTr") / f"v{number:02d}_a.nii.gz"


def _tested_twice(folder: Path) -> None:
    _scan(folder / "imagesTs" / "v16_a_0000.nii.gz", 70)
    _truth(folder / "labelsTs" / "v16_a.nii.gz", IDS["boxes"][:1])


def _tested_patient(folder: Path) -> None:
    _scan(folder / "imagesTs" / "v17_b_0000.nii.gz", 71)
    _truth(folder / "labelsTs" / "v17_b.nii.gz", IDS["boxes"][:1])


NNUNET_DEFECTS = volume_defects(nnunet_image, nnunet_label, IDS["boxes"]) | {
    "label missing": (lambda f: nnunet_label(f, 14).unlink(), "labelsTr/v14_a.nii.gz: the file is not there"),
    "image missing": (lambda f: nnunet_image(f, 15).unlink(), "v15_a.nii.gz: there is no v15_a_0000.nii.gz"),
    "in both halves": (_tested_twice, "v16_a is a training case and a test case"),
    "patient in both halves": (_tested_patient, "v17_b is a test case and its group 'v17' trains (v17_a)"),
    "class not tested": (
        lambda f: [_truth(nnunet_label(f, number), (3,)) for number in (18, 19)],
        "class 'high' occurs in no test case",
    ),
    "lost cases": (lambda f: _described(lambda d: d.update(numTraining=40))(f), "numTraining is 40, and there are"),
    "odd name": (
        lambda f: (_scan(f / "imagesTr/odd_0000.nii.gz", 72), _truth(f / "labelsTr/odd.nii.gz", (3, 7))),
        "the case 'odd' does not fit the pattern",
    ),
}


def make_msd(root: Path) -> Path:
    """Twenty pairs."""
    folder = root / "Task98_Broken"
    pairs = []
    for number in range(COUNT):
        _scan(msd_image(folder, number), number)
        _truth(msd_label(folder, number), IDS["boxes"])
        pairs.append({key: f"./{key}sTr/v{number:02d}_a.nii.gz" for key in ("image", "label")})
    labels = {"0": "background", "3": "low", "7": "high"}
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": labels, "training": pairs}))
    return folder


def msd_image(folder: Path, number: int) -> Path:
    """The image of a case."""
    return folder / "imagesTr" / f"v{number:02d}_a.nii.gz"


def msd_label(folder: Path, number: int) -> Path:
    """Its labels."""
    return folder / "labelsTr" / f"v{number:02d}_a.nii.gz"


def _described(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        described = json.loads((folder / "dataset.json").read_text())
        change(described)
        (folder / "dataset.json").write_text(json.dumps(described))

    return spoil


MSD_DEFECTS = volume_defects(msd_image, msd_label, IDS["boxes"]) | {
    "label missing": (lambda f: msd_label(f, 14).unlink(), "labelsTr/v14_a.nii.gz: the file is not there"),
    "image missing": (lambda f: msd_image(f, 15).unlink(), "imagesTr/v15_a.nii.gz: the file is not there"),
    "listed twice": (_described(lambda d: d["training"].append(d["training"][16])), "v16_a is listed twice"),
    "no pair": (_described(lambda d: d["training"].append({"image": "a"})), "is not {'image': FILE, 'label': FILE}"),
    "way out": (
        _described(lambda d: d["training"].append({"image": "/etc/hostname", "label": "/etc/hostname"})),
        "'/etc/hostname' is not a path below",
    ),
    "class that never occurs": (
        _described(lambda d: d["labels"].update({"9": "never"})),
        "class 'never' occurs in no training case",
    ),
}

RAW_DEFECTS = volume_defects(_raw_path("img"), _raw_path("label"), IDS["challenge"]) | {
    "label missing": (lambda f: _raw_path("label")(f, 14).unlink(), "img0034.nii.gz has no label0034"),
    "image missing": (lambda f: _raw_path("img")(f, 15).unlink(), "label0037.nii.gz has no img0037"),
    "organ not tested": (
        lambda f: [_truth(_raw_path("label")(f, number), IDS["challenge"][1:]) for number in (18, 19)],
        "class 'spleen' occurs in no test case",
    ),
}
