"""TransUNet's files, and a way to spoil a case of them for every defect that `data check` knows."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.data.corruption import COUNT, Spoil, add_line, halve, seeded
from tests.data.folders import write_lists, write_slice, write_volume


def make_synapse(root: Path) -> Path:
    """Cases of one slice, and two test volumes."""
    folder = root / "synapse"
    names = [f"case{number:04d}_slice000" for number in range(1, COUNT)]
    for number, name in enumerate(names):
        write_slice(folder, name, seeded(number).random((8, 9)), np.resize(np.arange(9), (8, 9)))
    for number in (100, 101):
        write_volume(folder, f"case0{number}", seeded(number).random((3, 8, 9)), np.resize(np.arange(9), (3, 8, 9)))
    write_lists(folder, names, ["case0100", "case0101"])
    return folder


def _slice(folder: Path, number: int) -> Path:
    return folder / "train_npz" / f"case{number:04d}_slice000.npz"


def _arrays(folder: Path, number: int, image: Any, label: Any) -> None:
    np.savez(_slice(folder, number), image=np.asarray(image), label=np.asarray(label))


def _synapse_twin(folder: Path) -> None:
    with np.load(_slice(folder, 9)) as file:
        volume = np.stack([file["image"], *seeded(60).random((2, 8, 9))])
    write_volume(folder, "case0100", volume, np.resize(np.delete(np.arange(9), 3), (3, 8, 9)))


def _another_size(folder: Path) -> None:
    write_slice(folder, "case0013_slice001", seeded(50).random((8, 8)), np.zeros((8, 8)))
    add_line(folder / "lists_Synapse" / "train.txt", "case0013_slice001\n")


def _both_lists(folder: Path) -> None:
    write_volume(folder, "case0012", seeded(51).random((1, 8, 9)), np.zeros((1, 8, 9)))
    add_line(folder / "lists_Synapse" / "test_vol.txt", "case0012\n")


def _untested_organ(folder: Path) -> None:
    for case in ("case0100", "case0101"):
        path = folder / "test_vol_h5" / f"{case}.npy.h5"
        labels = np.resize(np.delete(np.arange(9), 3), (3, 8, 9))
        with h5py.File(path, "r+") as file:
            file["label"][...] = labels


def _odd_slice(folder: Path) -> None:
    write_slice(folder, "odd", seeded(61).random((8, 9)), np.zeros((8, 9)))
    add_line(folder / TRAIN, "odd\n")


def _lost_volume(folder: Path) -> None:
    add_line(folder / "lists_Synapse" / "test_vol.txt", "case0102\n")


def _half_a_volume(folder: Path) -> None:
    write_volume(folder, "case0103", np.zeros((2, 8, 9)), np.zeros((3, 8, 9)))
    add_line(folder / "lists_Synapse" / "test_vol.txt", "case0103\n")


TRAIN = Path("lists_Synapse") / "train.txt"
ONES = np.ones((8, 9))
SYNAPSE_DEFECTS: dict[str, tuple[Spoil, str]] = {
    "slice missing": (lambda f: _slice(f, 1).unlink(), "case0001_slice000.npz: named by a list, and not there"),
    "slice truncated": (lambda f: halve(_slice(f, 2)), "case0002_slice000.npz: cannot be read as npz"),
    "slice empty": (lambda f: _slice(f, 3).write_bytes(b""), "cannot be read as npz (0 bytes"),
    "array missing": (lambda f: np.savez(_slice(f, 4), image=ONES), "no array 'label'"),
    "shapes": (lambda f: _arrays(f, 5, ONES, np.zeros((8, 8))), "image (8, 9) and label (8, 8) differ in shape"),
    "label out of range": (lambda f: _arrays(f, 6, ONES, ONES * 9), "label holds 9; expected 0 to 8"),
    "fractions": (lambda f: _arrays(f, 7, ONES, ONES / 2), "label holds values that are not whole numbers"),
    "not finite": (lambda f: _arrays(f, 8, ONES * np.inf, ONES), "72 pixels that are not finite"),
    "shared with a test volume": (_synapse_twin, "case0100.npy.h5: 1 image is also in case0009"),
    "listed twice": (lambda f: add_line(f / TRAIN, "case0010_slice000\n"), "case0010_slice000 is listed twice"),
    "no name": (lambda f: add_line(f / TRAIN, "../../etc/passwd\n"), "'../../etc/passwd' is not a name"),
    "no case": (_odd_slice, "odd is not of the form CASE_sliceNNN"),
    "in both lists": (_both_lists, "case0012 is a training case and a test case"),
    "sizes within a case": (_another_size, "slices of case0013 differ in size: 8 x 9"),
    "volume missing": (_lost_volume, "case0102.npy.h5: named by a list, and not there"),
    "volume's shapes": (_half_a_volume, "image (2, 8, 9) and label (3, 8, 9) differ in shape"),
    "organ not tested": (_untested_organ, "class 'left kidney' occurs in no test volume"),
}
