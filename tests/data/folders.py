"""Small Synapse folders, whole or with one defect."""

from pathlib import Path

import h5py
import numpy as np


def write_slice(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> Path:
    """One training slice."""
    path = folder / "train_npz" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=image.astype(np.float32), label=label.astype(np.float32))
    return path


def write_volume(folder: Path, case: str, image: np.ndarray, label: np.ndarray) -> Path:
    """One test volume."""
    path = folder / "test_vol_h5" / f"{case}.npy.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image.astype(np.float32), label.astype(np.float32)
    return path


def make_synapse(root: Path, *, cases: int = 3, slices: int = 4, size: int = 32, tests: int = 1) -> Path:
    """A whole data set below a data root; returns `<root>/synapse`."""
    folder, rng = root / "synapse", np.random.default_rng(0)
    names = []
    for case in range(1, cases + 1):
        for number in range(slices):
            names.append(f"case{case:04d}_slice{number:03d}")
            write_slice(folder, names[-1], rng.random((size, size)), rng.integers(0, 9, (size, size)))
    volumes = [f"case{100 + case:04d}" for case in range(tests)]
    for case in volumes:
        shape = (slices, size + 8, size)
        write_volume(folder, case, rng.random(shape), rng.integers(0, 9, shape))
    write_lists(folder, names, volumes)
    return folder


def write_lists(folder: Path, train: list[str], test: list[str]) -> None:
    """Both lists."""
    (folder / "lists_Synapse").mkdir(parents=True, exist_ok=True)
    (folder / "lists_Synapse" / "train.txt").write_text("".join(f"{name}\n" for name in train))
    (folder / "lists_Synapse" / "test_vol.txt").write_text("".join(f"{name}\n" for name in test))
