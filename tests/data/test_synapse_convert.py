"""From the challenge's download to the layout that is trained on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

from tuner.atomic_io import write_atomically
from tuner.data.checks import check
from tuner.data.datasets.synapse import OFFICIAL_TEST, OFFICIAL_TRAIN, RAW_TO_SYNAPSE
from tuner.data.datasets.synapse_convert import convert_volume, prepare_raw
from tuner.errors import DataError, DiskFullError


def write_raw(raw: Path, number: int, *, labels: int = 14, shape: tuple[int, int, int] = (8, 6, 3)) -> None:
    rng = np.random.default_rng(number)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    for kind, values in (
        ("img", rng.integers(-1000, 1000, shape, np.int16)),
        ("label", rng.integers(0, labels, shape, np.uint8)),
    ):
        path = raw / kind / f"{kind}{number:04d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, affine), path)


def names(path: Path) -> list[str]:
    return path.read_text().split()


@pytest.mark.realdata
def test_equal_to_the_prepared_sample_bit_for_bit(test_data: Path, tmp_path: Path) -> None:
    """Who converts the challenge's files gets exactly what others train on."""
    out, expected = tmp_path / "synapse", test_data / "synapse"

    roles = prepare_raw(test_data / "synapse_raw", out, ["case0103"])

    assert roles == {"case0100": "train", "case0101": "train", "case0102": "train", "case0103": "test"}
    slices = sorted((expected / "train_npz").glob("*.npz"))
    assert len(slices) == 40
    for path in slices:
        with np.load(path) as theirs, np.load(out / "train_npz" / path.name) as ours:
            for key in ("image", "label"):
                assert ours[key].dtype == theirs[key].dtype
                assert np.array_equal(ours[key], theirs[key])
    with (
        h5py.File(expected / "test_vol_h5" / "case0103.npy.h5") as theirs,
        h5py.File(out / "test_vol_h5" / "case0103.npy.h5") as ours,
    ):
        for key in ("image", "label"):
            assert np.array_equal(ours[key][:], theirs[key][:])
    assert check({"name": "synapse"}, data_root=tmp_path) == []


def test_axes_and_window() -> None:
    """Row 0 anterior, column 0 the patient's right, slice 0 the lowest; -125 HU is 0 and 275 HU is 1."""
    image = np.full((2, 3, 4), -2000, np.int16)
    label = np.zeros((2, 3, 4), np.uint8)
    image[1, 2, 3], label[1, 2, 3] = 75, 6

    values, ids = convert_volume(image, label)

    assert values.shape == ids.shape == (4, 3, 2)
    assert values[3, 0, 1] == np.float32(0.5)
    assert ids[3, 0, 1] == 5
    assert values.sum() == np.float32(0.5)


def test_every_raw_label() -> None:
    """Thirteen ids become eight organs and background."""
    label = np.arange(14, dtype=np.uint8).reshape(14, 1, 1)

    ids = convert_volume(np.zeros((14, 1, 1)), label)[1]

    assert {raw: ids[0, 0, raw] for raw in range(14) if ids[0, 0, raw]} == RAW_TO_SYNAPSE


def test_other_orientations(tmp_path: Path) -> None:
    """A file that stores its axes otherwise shows the same patient."""
    raw = tmp_path / "raw"
    write_raw(raw, 5)
    prepare_raw(raw, tmp_path / "a")
    for kind in ("img", "label"):
        path = raw / kind / f"{kind}0005.nii.gz"
        turned = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asarray(turned.dataobj).transpose(1, 0, 2)
        nibabel.save(nibabel.Nifti1Image(values, turned.affine[:, [1, 0, 2, 3]]), path)
    prepare_raw(raw, tmp_path / "b")

    for path in (tmp_path / "a" / "train_npz").iterdir():
        with np.load(path) as one, np.load(tmp_path / "b" / "train_npz" / path.name) as other:
            assert np.array_equal(one["image"], other["image"])
            assert np.array_equal(one["label"], other["label"])


def test_official_split(tmp_path: Path) -> None:
    """The official test cases test, all others train, unless they are named; nothing is dropped."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    for number in (1, 5, 38, 77, 78):
        write_raw(raw, number)

    roles = prepare_raw(raw, out, ["case0078"])

    assert [case for case, role in roles.items() if role == "test"] == ["case0001", "case0038", "case0078"]
    assert names(out / "lists_Synapse" / "test_vol.txt") == ["case0001", "case0038", "case0078"]
    assert names(out / "lists_Synapse" / "train.txt") == [
        f"{case}_slice{number:03d}" for case in ("case0005", "case0077") for number in range(3)
    ]
    assert check({"name": "synapse"}, data_root=tmp_path) == []


def test_official_lists_are_transunets() -> None:
    """18 and 12 cases, as everyone reports on them."""
    split = json.loads((Path(__file__).parents[1] / "splits.json").read_text())["synapse"]

    assert list(OFFICIAL_TRAIN) == split["train_cases"]
    assert list(OFFICIAL_TEST) == split["test_cases"]
    assert {str(raw): ours for raw, ours in RAW_TO_SYNAPSE.items()} == split["btcv_raw_to_synapse"]


def test_interrupted_and_continued(tmp_path: Path) -> None:
    """Killed in the middle: no lists, so nobody takes it for a data set; the next call does only what is missing."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    for number in (5, 6, 7):
        write_raw(raw, number)
    code = (
        "import os, sys; from pathlib import Path; from tuner.data.datasets.synapse_convert import prepare_raw;"
        "prepare_raw(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *_: os._exit(9))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(raw), str(out)], check=False).returncode == 9
    assert not (out / "lists_Synapse" / "train.txt").exists()
    first = {path: path.stat().st_mtime_ns for path in (out / "train_npz").iterdir()}
    assert len(first) == 3

    prepare_raw(raw, out)

    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(names(out / "lists_Synapse" / "train.txt")) == 9
    assert not list(out.rglob(".*.part"))


def test_interrupted_extension_is_no_data_set(tmp_path: Path) -> None:
    """A second call that dies half-way must not leave the first call's lists over the second call's files."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    write_raw(raw, 5)
    write_raw(raw, 6)
    prepare_raw(raw, out)
    write_raw(raw, 6, labels=30)

    with pytest.raises(DataError, match="holds labels"):
        prepare_raw(raw, out)

    assert not (out / "lists_Synapse" / "train.txt").exists()


def test_called_again_with_another_test_case(tmp_path: Path) -> None:
    """A case that becomes a test case leaves no training slice behind."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    write_raw(raw, 5)
    write_raw(raw, 6)
    prepare_raw(raw, out)

    prepare_raw(raw, out, ["case0006"])

    assert sorted(path.name for path in (out / "train_npz").iterdir()) == names_of("case0005")
    assert names(out / "lists_Synapse" / "test_vol.txt") == ["case0006"]
    assert check({"name": "synapse"}, data_root=tmp_path) == []


def names_of(case: str) -> list[str]:
    return [f"{case}_slice{number:03d}.npz" for number in range(3)]


def test_a_lost_file_is_written_again(tmp_path: Path) -> None:
    """The record of a case is believed only while its files are there."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    write_raw(raw, 5)
    write_raw(raw, 6)
    prepare_raw(raw, out)
    (out / "train_npz" / "case0006_slice001.npz").unlink()

    prepare_raw(raw, out)

    assert (out / "train_npz" / "case0006_slice001.npz").exists()


def test_full_disk_keeps_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space in the middle: said so, nothing half-written, and the next call goes on."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    for number in (5, 6):
        write_raw(raw, number)

    def write(path: Path, content: bytes) -> None:
        if path.name.startswith("case0006_slice001"):
            raise OSError(28, "No space left on device")
        write_atomically(path, content)

    with monkeypatch.context() as limited:
        limited.setattr("tuner.data.datasets.synapse_convert.write_atomically", write)
        with pytest.raises(DiskFullError, match="no space left for the converted data set"):
            prepare_raw(raw, out)

    assert list(json.loads((out / "conversion.json").read_text())) == ["case0005"]
    assert prepare_raw(raw, out) == {"case0005": "train", "case0006": "train"}


def test_foreign_data_set_is_not_touched(tmp_path: Path) -> None:
    """A downloaded TransUNet folder must not be mixed with one's own conversion."""
    raw, out = tmp_path / "raw", tmp_path / "synapse"
    write_raw(raw, 5)
    (out / "lists_Synapse").mkdir(parents=True)
    (out / "lists_Synapse" / "train.txt").write_text("case0005_slice000\n")

    with pytest.raises(DataError, match="did not make"):
        prepare_raw(raw, out)

    assert os.listdir(out) == ["lists_Synapse"]


def test_wrong_raw_folders(tmp_path: Path) -> None:
    """Everything that is missing or contradictory is listed before anything is written."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    with pytest.raises(DataError, match=r"no folder `img`.*not a folder"):
        prepare_raw(raw, out)
    write_raw(raw, 5)
    write_raw(raw, 6)
    with pytest.raises(DataError, match="Did you mean 'case0006'"):
        prepare_raw(raw, out, ["case006"])
    with pytest.raises(DataError, match="none is left to train on"):
        prepare_raw(raw, out, ["case0005", "case0006"])
    (raw / "label" / "label0005.nii.gz").unlink()
    with pytest.raises(DataError, match=r"img0005\.nii\.gz has no label0005"):
        prepare_raw(raw, out)
    write_raw(raw, 5)
    content = (raw / "img" / "img0006.nii.gz").read_bytes()
    (raw / "img" / "img0006.nii.gz").write_bytes(content[:20])
    with pytest.raises(DataError, match=r"img0006\.nii\.gz: cannot be read as NIfTI"):
        prepare_raw(raw, out)
    assert not out.exists()


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    """Ids beyond the challenge's thirteen mean another data set."""
    raw = tmp_path / "raw"
    write_raw(raw, 5, labels=30)

    with pytest.raises(DataError, match=r"label0005\.nii\.gz holds labels 14, 15, .*expected 0 to 13"):
        prepare_raw(raw, tmp_path / "out")


def test_below_training(tmp_path: Path) -> None:
    """The download unpacks to RawData/Training."""
    write_raw(tmp_path / "RawData" / "Training", 5)

    assert prepare_raw(tmp_path, tmp_path / "out") == {"case0005": "train"}
