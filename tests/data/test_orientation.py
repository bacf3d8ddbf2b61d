"""Volumes whichever way their axes run: networks are fed what another library reads, and masks lie on the images."""

import json
import shutil
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.data.volumes import make_nnunet, scan, section
from tuner.data.checks import check
from tuner.data.inference_inputs import find_cases, read_case
from tuner.data.mask_writer import write_mask
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.volumes import PLANES, are_axes, read_channels, read_grid, read_truth, turn_to
from tuner.errors import DataError

CODES = [
    "".join(signs[axis][letter] for axis, letter in enumerate(order))
    for order in permutations(range(3))
    for signs in product(*[("RAS", "LPI")] * 3)
]
"""Every way in which three axes can run."""

TILT = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def volume(code: str = "RAS", *, tilt: bool = False) -> nibabel.Nifti1Image:
    """The same content at the same place, stored with its axes in the given directions."""
    values = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5) - 100
    affine = np.diag([1.5, 2, 4, 1.0])
    affine[:3, 3] = (10, -20, 30)
    image = nibabel.Nifti1Image(values, TILT @ affine if tilt else affine)
    return image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code)))


def by_simpleitk(path: Path) -> np.ndarray:
    """[z, y, x] of the file turned to RAS by another library."""
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RAS"))


def store(path: Path, image: nibabel.Nifti1Image, form: str) -> None:
    """Save with a place in the sform, the qform, or both."""
    header = image.header
    header.set_sform(image.affine, 1 if form in ("sform", "both") else 0)
    header.set_qform(image.affine, 1 if form in ("qform", "both") else 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@pytest.mark.parametrize("form", ["sform", "qform", "both"])
def test_every_direction_is_read_as_another_library_reads_it(form: str, tmp_path: Path) -> None:
    """48 arrangements of the axes, straight and oblique: the voxels of SimpleITK, and the same spacing."""
    wanted = np.asarray(volume().dataobj).transpose(2, 1, 0)
    for number, code in enumerate(CODES):
        path = tmp_path / f"{code}.nii"
        store(path, volume(code, tilt=number % 2 == 1), form)

        found = read_channels(path)[0]

        assert np.array_equal(found, wanted), code
        assert np.array_equal(found, by_simpleitk(path)), code
        assert np.array_equal(read_truth(path), wanted), code
        assert read_grid(path).spacing == pytest.approx((4, 2, 1.5), rel=1e-5)
    assert len(CODES) == len(set(CODES)) == 48


@pytest.mark.parametrize("axes", [*PLANES.values(), "SPL", None])
def test_turning_back(axes: str | None) -> None:
    """What was turned lies, turned back, as it lay; the turned affine puts every voxel where it was."""
    for code in CODES:
        image = volume(code)
        values = np.asarray(image.dataobj)
        turn = turn_to(axes, image.affine)
        turned = turn.apply(values)
        affine = turn.of_affine(image.affine, values.shape)

        assert np.array_equal(turn.undo(turned), values)
        assert np.array_equal(turn.apply(np.stack([values, -values], -1)), [turned, -turned])
        place = np.argwhere(turned == 17)[0]
        assert affine @ [*place, 1] == pytest.approx(image.affine @ [*np.argwhere(values == 17)[0], 1])
        if axes:
            assert "".join(nibabel.aff2axcodes(affine)) == axes


@pytest.mark.parametrize(("axes", "legal"), [("SAR", True), ("LPI", True), ("SAL", True), ("SSR", False), (3, False)])
def test_axes_of_a_run(axes: Any, legal: bool) -> None:
    """What a damaged run says of its axes is not believed."""
    assert are_axes(axes) is legal


def turn_files(folder: Path, codes: dict[str, tuple[str, str]]) -> None:
    """Store the images and the label maps of cases with other axes."""
    for name, (image, label) in codes.items():
        for path, code in ((f"imagesTr/{name}_0000.nii.gz", image), (f"labelsTr/{name}.nii.gz", label)):
            stored = nibabel.load(folder / path)
            turned = stored.as_reoriented(ornt_transform(io_orientation(stored.affine), axcodes2ornt(code)))
            nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), folder / path)


def prepared(root: Path, cache: str, **options: Any) -> PreparedData:
    return prepare(section(**options), data_root=root, cache=root / cache, seed=0)


def checked(root: Path, **options: Any) -> list[str]:
    """The defects of the set; without any its notes."""
    found = check(section(**options), data_root=root)
    return list(found) or found.notes


@pytest.mark.parametrize("options", [{"dimensions": 2}, {"dimensions": 3, "resize": False}])
def test_mixed_sets_are_fed_as_if_all_ran_alike(options: dict[str, Any], tmp_path: Path) -> None:
    """Images and label maps in four arrangements give the samples of the set in which all have one; it is said."""
    folder = make_nnunet(tmp_path)
    plain = prepared(tmp_path, "a", **options)
    assert checked(tmp_path, **options) == []

    turn_files(folder, {"anna_1": ("RAS", "RAS"), "anna_2": ("PSR", "PSR"), "cleo_1": ("LPS", "IAR")})
    turned = prepared(tmp_path, "b", **options)
    notes = checked(tmp_path, **options)

    for one, other in zip(plain.train.images, turned.train.images, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(plain.train.labels, turned.train.labels, strict=True):
        assert np.array_equal(one, other)
    assert plain.train.spacings == pytest.approx(turned.train.spacings)
    assert plain.fingerprint != turned.fingerprint
    assert len(notes) == 2
    assert "cleo_1_0000.nii.gz LPS" in notes[0]
    assert "anna_2_0000.nii.gz PSR" in notes[0]
    assert "cleo_1_0000.nii.gz LPS, labels IAR" in notes[1]


def test_rounding_decides_nothing(tmp_path: Path) -> None:
    """At 45 degrees the closest axes are a matter of rounding: a label map goes as its image does."""
    folder = make_nnunet(tmp_path)
    for sign, path in ((1, "imagesTr/ben_1_0000.nii.gz"), (-1, "labelsTr/ben_1.nii.gz")):
        stored = nibabel.load(folder / path)
        angle = np.pi / 4 + sign * 1e-3
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([1.0, 1.0, 2.0])
        nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj), affine), folder / path)
    image, label = (nibabel.load(folder / path) for path in ("imagesTr/ben_1_0000.nii.gz", "labelsTr/ben_1.nii.gz"))
    assert nibabel.aff2axcodes(image.affine) != nibabel.aff2axcodes(label.affine)

    data = prepared(tmp_path, "a", dimensions=3, resize=False)

    together = np.stack([np.asarray(image.dataobj), np.asarray(label.dataobj)], -1)
    wanted = turn_to("SAR", image.affine).apply(together)
    assert np.allclose(data.validation.images[0][0], np.clip((wanted[0] + 300) / 800, 0, 1), atol=1e-6)
    assert np.array_equal(data.validation.labels[0] > 0, wanted[1] > 0)
    notes = checked(tmp_path)
    assert any("44.9°" in note for note in notes)
    assert any("by parts of a voxel" in note for note in notes)


def test_labels_elsewhere_are_refused(tmp_path: Path) -> None:
    """A label map that does not lie on its image is refused when it is read, and named by the check."""
    folder = make_nnunet(tmp_path)
    path = folder / "labelsTr" / "anna_1.nii.gz"
    stored = nibabel.load(path)
    affine = stored.affine.copy()
    affine[0, 3] += 3
    nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj), affine), path)

    (line,) = checked(tmp_path)
    assert "anna_1.nii.gz: its affine is not that of anna_1_0000.nii.gz: they lie up to 3 voxels apart" in line
    with pytest.raises(DataError, match=r"anna_1\.nii\.gz: lies elsewhere than anna_1_0000"):
        prepared(tmp_path, "a")


def axes_of(root: Path, **options: Any) -> str:
    source = open_source(section(**options), root)[2]
    return str(source.recipe()["axes"])


@pytest.mark.parametrize(
    ("spacing", "options", "axes"),
    [
        pytest.param((1, 1, 4), {}, "SAR", id="axial"),
        pytest.param((1, 4, 1), {}, "ASR", id="coronal"),
        pytest.param((4, 1, 1), {}, "RSA", id="sagittal"),
        pytest.param((1, 1, 1), {}, "SAR", id="isotropic"),
        pytest.param((1, 1.02, 1), {}, "SAR", id="nearly isotropic"),
        pytest.param((4, 1, 1), {"slices": "axial"}, "SAR", id="asked for"),
        pytest.param((1, 1, 4), {"slices": "coronal"}, "ASR", id="asked for otherwise"),
        pytest.param((4, 1, 1), {"dimensions": 3}, "RSA", id="slabs"),
        pytest.param((4, 1, 1), {"dimensions": 3, "resize": False}, "SAR", id="whole"),
        pytest.param((4, 1, 1), {"dimensions": 3, "resize": False, "slices": "sagittal"}, "RSA", id="whole, asked for"),
    ],
)
def test_slices_lie_across_the_largest_spacing(
    spacing: tuple[float, ...], options: dict[str, Any], axes: str, tmp_path: Path
) -> None:
    """In every arrangement of the file; the number of slices and the spacing go along."""
    folder = make_nnunet(tmp_path)
    for path in folder.rglob("*.nii.gz"):
        stored = nibabel.load(path)
        affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
        nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj), affine), path)
    turn_files(folder, {"anna_1": ("PSR", "LPS")})

    assert axes_of(tmp_path, **options) == axes
    if options.get("dimensions") == 3:
        return
    data = prepared(tmp_path, "a", resize=False, **options)
    values, labels, _ = scan("ben_1")
    sizes = dict(zip("RAS", values.shape, strict=True))
    shape = tuple(sizes[letter] for letter in axes)
    assert len(data.validation.images) == shape[0]
    assert np.asarray(data.validation.images[0]).shape == (1, *shape[1:])
    by_letter = dict(zip("RAS", spacing, strict=True))
    assert data.validation.spacings == (pytest.approx(tuple(by_letter[letter] for letter in axes)),)
    assert sum(int((np.asarray(one) > 0).sum()) for one in data.validation.labels) == int((labels > 0).sum())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_single_slices_wherever_the_axis_of_one_voxel_is(axis: int, tmp_path: Path) -> None:
    """[1, H, W], [H, 1, W] and [H, W, 1] are pictures of H x W, not slices one pixel wide."""
    folder = make_nnunet(tmp_path)
    for path in folder.rglob("*.nii.gz"):
        stored = nibabel.load(path)
        taken = np.asarray(stored.dataobj).take([2], axis)
        nibabel.save(nibabel.Nifti1Image(taken, np.diag([1.0, 2, 4, 1])), path)

    data = prepared(tmp_path, "a", dimensions=2, resize=False)

    values = scan("ben_1")[0].take(2, axis)
    assert len(data.validation.images) == 1
    assert np.allclose(data.validation.images[0][0], np.clip((values.T + 300) / 800, 0, 1), atol=1e-6)
    assert not [line for line in checked(tmp_path) if "one pixel wide" in line]
    narrow = checked(tmp_path, slices="axial" if axis != 2 else "coronal")
    assert len([line for line in narrow if "one pixel wide" in line]) == 4


def masks(folder: Path, *paths: Path, axes: str | None) -> dict[str, np.ndarray]:
    """Write a mask for each image by a network that finds the largest values, and return what it was fed."""
    reading: dict[str, Any] = {"form": "volumes", "channels": 1, "files": 1, "kinds": ["noNorm"], "labels": [0, 7]}
    reading |= {"low": 0.0, "high": 1.0} | ({"axes": axes} if axes else {})
    fed = {}
    for case in find_cases([str(path) for path in paths], reading).cases:
        image = read_case(case, reading)
        fed[case.name] = image[0]
        write_mask(folder, case, (image[0] > 0).astype(np.uint8), reading)
    return fed


@pytest.mark.parametrize("kind", [np.dtype(">i2"), np.dtype("<f8")])
def test_masks_lie_on_their_images(kind: np.dtype, tmp_path: Path) -> None:
    """Whatever the arrangement and the byte order: shape and affine of the file, and each voxel of the mask its own."""
    paths = []
    for code in CODES:
        image = volume(code)
        header = nibabel.Nifti1Header(endianness=kind.str[0] if kind.str[0] in "<>" else "<")
        stored = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(kind), image.affine, header, dtype=kind)
        paths.append(tmp_path / f"{code}.nii")
        nibabel.save(stored, paths[-1])

    fed = masks(tmp_path / "masks", *paths, axes="ASR")

    wanted = np.asarray(volume().dataobj).transpose(1, 2, 0)
    for path in paths:
        image, mask = nibabel.load(path), nibabel.load(tmp_path / "masks" / path.name)
        assert np.array_equal(fed[path.stem], wanted)
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        assert np.array_equal(np.asarray(mask.dataobj), 7 * (np.asarray(image.dataobj) > 0))


def test_runs_that_say_nothing_of_axes_are_fed_as_they_were(tmp_path: Path) -> None:
    """A network that was trained on the files' own axes gets them so."""
    image = volume("PIL")
    nibabel.save(image, tmp_path / "a.nii")

    fed = masks(tmp_path / "masks", tmp_path / "a.nii", axes=None)

    assert np.array_equal(fed["a"], np.asarray(image.dataobj).T)
    mask = nibabel.load(tmp_path / "masks" / "a.nii")
    assert np.array_equal(np.asarray(mask.dataobj), 7 * (np.asarray(image.dataobj) > 0))


def test_a_trained_run_keeps_its_axes(tmp_path: Path) -> None:
    """What `reading` says of a set is how its samples were made: an image read by it is a sample."""
    folder = make_nnunet(tmp_path)
    turn_files(folder, {"ben_1": ("PSR", "PSR")})
    data = prepared(tmp_path, "a", dimensions=3, resize=False, slices="sagittal")
    shutil.copy(folder / "imagesTr" / "ben_1_0000.nii.gz", tmp_path / "ben_1_0000.nii.gz")

    (case,) = find_cases([str(tmp_path / "ben_1_0000.nii.gz")], data.reading).cases

    assert data.reading["axes"] == "RSA"
    assert np.array_equal(read_case(case, data.reading), data.validation.images[0])
    json.dumps(data.reading)
