"""A small nnU-Net data set written by the tests: scans of different sizes and spacings, with boxes to find."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

LABELS = {"background": 0, "low": 3, "high": 7}
CASES = {
    "anna_1": ((20, 18, 5), (1.5, 1.0, 4.0)),
    "anna_2": ((24, 17, 6), (1.0, 1.0, 3.0)),
    "ben_1": ((19, 22, 7), (0.8, 1.2, 2.0)),
    "cleo_1": ((21, 20, 8), (2.0, 2.0, 5.0)),
}


def scan(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [x, y, z], labels [x, y, z] and the affine of a case; another content for every name."""
    shape, spacing = CASES[name]
    rng = np.random.default_rng(sorted(CASES).index(name))
    values = rng.normal(0, 100, shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    for label, side in ((3, 5), (7, 3)):
        at = [int(rng.integers(0, extent - side + 1)) for extent in shape]
        labels[tuple(slice(start, start + side) for start in at)] = label
    values += 40.0 * labels
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (10, -20, 30)
    return values, labels, affine


def make_nnunet(root: Path, *, names: Mapping[str, Any] = CASES, channels: int = 1) -> Path:
    """Write a raw data set `<root>/Dataset007_Boxes`."""
    folder = root / "Dataset007_Boxes"
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for name in names:
        values, labels, affine = scan(name)
        for channel in range(channels):
            image = nibabel.Nifti1Image(values * (1 + channel), affine)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "labelsTr" / f"{name}.nii.gz")
    kinds = {str(channel): "CT" if channels == 1 else "MRI" for channel in range(channels)}
    described = {"channel_names": kinds, "labels": LABELS, "numTraining": len(names), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def section(**options: Any) -> dict[str, Any]:
    """The `dataset` section that reads it."""
    window = {"low": -300.0, "high": 500.0}
    return {"name": "nnunet", "path": "Dataset007_Boxes", "size": 16, "validation": ["ben_1"], **window} | options
