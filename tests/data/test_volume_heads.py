"""Heads of NIfTI files that say things twice, in other units, or oddly: what is taken, and what is said."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.data.test_orientation import volume
from tests.data.volumes import make_nnunet, scan, section
from tuner.data.checks import check
from tuner.data.inference_inputs import find_cases, read_case
from tuner.data.mask_writer import write_mask
from tuner.data.preparation import open_source, prepare
from tuner.data.volumes import read_channels, read_grid, read_truth
from tuner.errors import DataError


def edited(path: Path, offset: int, layout: str, *values: float) -> None:
    """Write numbers into the head of a stored file."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))


def checked(root: Path, **options: Any) -> list[str]:
    """The defects of the set; without any its notes."""
    found = check(section(**options), data_root=root)
    return list(found) or found.notes


def spacing_of(root: Path, case: str = "ben_1") -> Any:
    return open_source(section(resize=False), root)[2].spacing(case)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 0.001), ("mm", 1.0), ("unknown", 1.0)])
@pytest.mark.parametrize("labels_too", [True, False])
def test_lengths_are_mm_whatever_the_unit(unit: str, factor: float, labels_too: bool, tmp_path: Path) -> None:
    """A label map that names no unit has that of its image; the mask keeps the file's own numbers and unit."""
    folder = make_nnunet(tmp_path)
    wanted = spacing_of(tmp_path)
    for path in folder.rglob("*.nii.gz"):
        stored = nibabel.load(path)
        affine = np.diag([factor, factor, factor, 1]) @ stored.affine
        image = nibabel.Nifti1Image(np.asarray(stored.dataobj), affine)
        if labels_too or path.parent.name == "imagesTr":
            image.header.set_xyzt_units(unit)
        nibabel.save(image, path)

    assert spacing_of(tmp_path) == pytest.approx(wanted)
    notes = checked(tmp_path)
    assert len(notes) == (unit in ("micron", "meter"))
    assert all(unit in note and "mm" in note for note in notes)
    reading = {"form": "volumes", "channels": 1, "labels": [0, 7], "low": 0.0, "high": 1.0, "axes": "SAR"}
    source = folder / "imagesTr" / "ben_1_0000.nii.gz"
    (case,) = find_cases([str(source)], reading).cases
    image, mask = read_case(case, reading), tmp_path / "masks" / "ben_1.nii.gz"
    write_mask(tmp_path / "masks", case, (image[0] > 0).astype(np.uint8), reading)
    assert nibabel.load(mask).header.get_xyzt_units()[0] == unit
    assert np.array_equal(nibabel.load(mask).affine, nibabel.load(source).affine)


def test_units_that_differ_are_named(tmp_path: Path) -> None:
    """One file of a set in another unit."""
    for path in make_nnunet(tmp_path).rglob("anna_1*.nii.gz"):
        stored = nibabel.load(path)
        image = nibabel.Nifti1Image(np.asarray(stored.dataobj), np.diag([1000, 1000, 1000, 1]) @ stored.affine)
        image.header.set_xyzt_units("micron")
        nibabel.save(image, path)

    (note,) = checked(tmp_path)

    assert "1 of 4 images have another unit than mm: anna_1_0000.nii.gz micron" in note


@pytest.mark.parametrize("sizes", [(2.0, 4.0, 8.0), (-1.5, 2.0, 4.0), (0.0, 0.0, 0.0)])
def test_the_affine_is_taken_not_pixdim(sizes: tuple[float, ...], tmp_path: Path) -> None:
    """Other, negative or absent sizes in `pixdim` beside a sform: the sform's, and that is said."""
    folder = make_nnunet(tmp_path)
    wanted = spacing_of(tmp_path)
    for path in folder.rglob("ben_1*.nii.gz"):
        edited(path, 80, "<3f", *sizes)

    assert spacing_of(tmp_path) == wanted
    (note,) = checked(tmp_path)
    assert note.startswith("1 of 4 images: pixdim (")
    assert "differs from the affine (0.8 x 1.2 x 2), which is taken (ben_1_0000.nii.gz)" in note


def test_negative_sizes_without_a_sform_are_refused(tmp_path: Path) -> None:
    """Nibabel and SimpleITK read such a file differently: it is refused with what would do."""
    image = volume("LAS")
    image.header.set_sform(None, 0)
    image.header.set_qform(image.affine, 1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert read_grid(tmp_path / "a.nii.gz").spacing == (4, 2, 1.5)
    edited(tmp_path / "a.nii.gz", 80, "<f", -1.5)

    with pytest.raises(DataError, match=r"a\.nii\.gz: its sizes .* are negative.*Write positive sizes"):
        read_grid(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(("sform", "qform"), [(True, True), (True, False), (False, True), (False, False)])
def test_sform_before_qform_before_nothing(sform: bool, qform: bool, tmp_path: Path) -> None:
    """What nibabel takes is taken; forms that differ, and files without any, are named."""
    folder = make_nnunet(tmp_path)
    turned = np.array([[0, 0, 2.0, 0], [4, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    for path in folder.rglob("*.nii.gz"):
        image = nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), None)
        image.header.set_qform(np.diag([1.0, 2, 4, 1]), int(qform))
        image.header.set_sform(turned, 2 * sform)
        nibabel.save(image, path)
    first = folder / "imagesTr" / "anna_1_0000.nii.gz"

    canonical = nibabel.as_closest_canonical(nibabel.load(first))
    assert np.array_equal(read_channels(first)[0], np.asarray(canonical.dataobj).T)
    assert read_grid(first).spacing == pytest.approx(canonical.header.get_zooms()[::-1] if not sform else (1, 4, 2))
    said = "\n".join(checked(tmp_path))
    assert ("qform and sform differ: the sform is taken" in said) == (sform and qform)
    assert ("neither sform nor qform states a place" in said) == (not sform and not qform)


@pytest.mark.parametrize("path", ["imagesTr/ben_1_0000.nii.gz", "labelsTr/ben_1.nii.gz"])
def test_axes_of_one_voxel_at_the_end_count_for_nothing(path: str, tmp_path: Path) -> None:
    """[x, y, z, 1] and [x, y, z, 1, 1], images and label maps alike."""
    folder = make_nnunet(tmp_path)
    plain = prepare(section(), data_root=tmp_path, cache=tmp_path / "a", seed=0)
    for more in ((1,), (1, 1)):
        stored = nibabel.load(folder / path)
        values = np.asarray(stored.dataobj).reshape(*stored.shape[:3], *more)
        nibabel.save(nibabel.Nifti1Image(values, stored.affine), folder / path)

        data = prepare(section(), data_root=tmp_path, cache=tmp_path / "a", seed=0)

        assert np.array_equal(plain.validation.images, data.validation.images)
        assert np.array_equal(plain.validation.labels, data.validation.labels)
        assert checked(tmp_path) == []


def test_a_time_axis_is_no_channel(tmp_path: Path) -> None:
    """Two values along the fourth axis, and one channel in the description: named, and refused."""
    folder = make_nnunet(tmp_path)
    for path in (folder / "imagesTr").glob("*.nii.gz"):
        stored = nibabel.load(path)
        values = np.stack([np.asarray(stored.dataobj)] * 2, -1)
        nibabel.save(nibabel.Nifti1Image(values, stored.affine), path)

    found = checked(tmp_path)

    assert len(found) == 4
    assert all("2 channels (a time axis?), and the description names 1: CT" in line for line in found)
    with pytest.raises(DataError, match="a time axis"):
        prepare(section(), data_root=tmp_path, cache=tmp_path / "a", seed=0)


def test_label_maps_of_every_kind(tmp_path: Path) -> None:
    """Floats with the noise of a resampling, a slope of 1/255, 64 bits, big endian: the labels; fractions: refused."""
    labels, affine = scan("ben_1")[1:]
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels, affine)).dataobj
    for number, stored in enumerate((labels + 1e-7, labels.astype(np.float32) - 1e-4, labels.astype(np.int64), labels)):
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(stored, affine, dtype=stored.dtype), path)
        assert np.array_equal(read_truth(path), np.asarray(wanted).T)
    scaled = tmp_path / "scaled.nii"
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint16) * 255, affine), scaled)
    edited(scaled, 112, "<2f", 1 / 255, 0)
    assert np.array_equal(read_truth(scaled), np.asarray(wanted).T)
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(labels.astype(">i2") - 1, affine, header), tmp_path / "big.nii")
    assert np.array_equal(read_truth(tmp_path / "big.nii"), np.asarray(wanted).T.astype(int) - 1)
    nibabel.save(nibabel.Nifti1Image(labels + 0.4, affine), tmp_path / "soft.nii.gz")
    with pytest.raises(DataError, match=r"not whole numbers.*nearest neighbour"):
        read_truth(tmp_path / "soft.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.where(labels > 0, np.nan, 0.0), affine), tmp_path / "nan.nii.gz")
    with pytest.raises(DataError, match="not whole numbers"):
        read_truth(tmp_path / "nan.nii.gz")


def test_labels_below_zero_are_foreign_or_ignored(tmp_path: Path) -> None:
    """-1 is named, unless the description says that it is ignored."""
    folder = make_nnunet(tmp_path)
    path = folder / "labelsTr" / "anna_1.nii.gz"
    stored = nibabel.load(path)
    values = np.asarray(stored.dataobj).astype(np.int16)
    values[values == 7] = -1
    nibabel.save(nibabel.Nifti1Image(values, stored.affine), path)

    (line,) = checked(tmp_path)
    assert "anna_1.nii.gz: holds -1, which no class has" in line

    described = json.loads((folder / "dataset.json").read_text())
    described["labels"]["ignore"] = -1
    (folder / "dataset.json").write_text(json.dumps(described))
    assert checked(tmp_path) == []
    data = prepare(section(), data_root=tmp_path, cache=tmp_path / "a", seed=0)
    assert data.class_names == ("background", "low", "high")
    assert (np.asarray(data.train.labels) == 255).any()


def test_slopes_are_applied(tmp_path: Path) -> None:
    """CT that is stored with a slope and an intercept is in HU."""
    values = np.arange(210, dtype=np.int16).reshape(7, 6, 5)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2, 4, 1])), tmp_path / "a.nii")
    edited(tmp_path / "a.nii", 112, "<2f", 2, -1024)

    assert np.array_equal(read_channels(tmp_path / "a.nii")[0], 2.0 * values.T - 1024)


@pytest.mark.parametrize("was", [".nii", ".nii.gz"])
def test_a_name_that_says_something_else(was: str, tmp_path: Path) -> None:
    """Plain NIfTI called .nii.gz, and the other way round: refused with the name that would do."""
    other = ".nii.gz" if was == ".nii" else ".nii"
    nibabel.save(volume(), tmp_path / f"a{was}")
    (tmp_path / f"a{was}").rename(tmp_path / f"b{other}")

    with pytest.raises(DataError, match=f"a name that ends in {was} would do"):
        read_channels(tmp_path / f"b{other}")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files_are_named(ending: str, share: float, tmp_path: Path) -> None:
    """Wherever they end."""
    path = tmp_path / f"a{ending}"
    nibabel.save(volume(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(DataError, match=r"cannot be read as NIfTI \(\d+ bytes; truncated"):
        read_channels(path)


def test_shear_and_spacings_far_apart_are_said(tmp_path: Path) -> None:
    """A tilted gantry with its angle, and slices five times as thick as another case's."""
    folder = make_nnunet(tmp_path)
    for name, affine in (
        ("anna_1", np.array([[-1.5, 0, 0, 0], [0, 1, 1.5, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]])),
        ("cleo_1", np.diag([-2.0, 2, 10, 1])),
        ("ben_1", np.diag([-6.0, 1, 1, 1])),
    ):
        for path in folder.rglob(f"{name}*.nii.gz"):
            nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), affine), path)

    notes = checked(tmp_path)

    said = "\n".join(notes)
    assert "sheared (a tilted gantry?): distances are those of right angles: anna_1_0000.nii.gz 20.6°" in said
    assert "the spacing of slices differs 10.0 times: 1 mm (ben_1_0000.nii.gz) to 10 mm (cleo_1_0000.nii.gz)" in said
    assert "slices are axial, and the largest spacing of 1 of 4 images lies in that plane: ben_1_0000.nii.gz" in said


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_heads_that_promise_too_much_cost_no_memory(ending: str, tmp_path: Path) -> None:
    """Eight terabytes in a head of a small file."""
    path = tmp_path / f"a{ending}"
    nibabel.save(volume(), path)
    edited(path, 42, "<3h", 32767, 32767, 4096)

    with pytest.raises(DataError, match="its head promises"):
        read_channels(path)
