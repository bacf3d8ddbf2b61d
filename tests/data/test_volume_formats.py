"""NRRD, MetaImage and TIFF of several pages: read as SimpleITK and tifffile read them, masks in the same format."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from tests.data.test_orientation import CODES, masks, volume
from tests.data.volumes import make_nnunet, section
from tuner.data.checks import check
from tuner.data.inference_inputs import find_cases, read_case
from tuner.data.mask_writer import write_mask
from tuner.data.preparation import PreparedData, open_source, prepare
from tuner.data.volumes import companions, read_channels, read_grid
from tuner.errors import DataError


def as_itk(image: nibabel.Nifti1Image) -> SimpleITK.Image:
    """The same voxels at the same place, in ITK's directions."""
    made = SimpleITK.GetImageFromArray(np.asarray(image.dataobj).T)
    affine = np.diag([-1.0, -1, 1, 1]) @ image.affine
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(0))
    made.SetSpacing(sizes.tolist())
    made.SetOrigin(affine[:3, 3].tolist())
    made.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
    return made


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_itk_files_in_many_directions(ending: str, tmp_path: Path) -> None:
    """The voxels that NIfTI gives; masks have spacing, origin and directions of their image."""
    wanted = np.asarray(volume().dataobj).transpose(2, 1, 0)
    paths = []
    for number, code in enumerate(CODES[::3]):
        paths.append(tmp_path / f"{code}{ending}")
        SimpleITK.WriteImage(as_itk(volume(code, tilt=number % 2 == 1)), str(paths[-1]), number % 3 == 0)

    fed = masks(tmp_path / "masks", *paths, axes="SAR")

    for path in paths:
        assert np.array_equal(fed[path.stem], wanted), path
        assert read_grid(path).spacing == pytest.approx((4, 2, 1.5))
        image, mask = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(tmp_path / "masks" / path.name))
        assert mask.GetPixelID() == SimpleITK.sitkUInt8
        assert (mask.GetSize(), mask.GetDirection()) == (image.GetSize(), pytest.approx(image.GetDirection()))
        assert (mask.GetSpacing(), mask.GetOrigin()) == (image.GetSpacing(), pytest.approx(image.GetOrigin()))
        assert np.array_equal(SimpleITK.GetArrayFromImage(mask), 7 * (SimpleITK.GetArrayFromImage(image) > 0))


def rewritten(folder: Path, ending: str) -> None:
    """Store a data set of NIfTI in another format."""
    for path in sorted(folder.rglob("*.nii.gz")):
        image, target = nibabel.load(path), path.with_name(path.name.removesuffix(".nii.gz") + ending)
        if ending == ".tif":
            planes = np.asarray(nibabel.as_closest_canonical(image).dataobj).T
            tifffile.imwrite(target, planes, photometric="minisblack")
            case = target.stem.removesuffix("_0000")
            spacing = {"spacing": [float(size) for size in image.header.get_zooms()[::-1]]}
            target.with_name(f"{case}.json").write_text(json.dumps(spacing))
        else:
            SimpleITK.WriteImage(as_itk(image), str(target), True)
        path.unlink()
    described = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(described | {"file_ending": ending}))


def prepared(root: Path, cache: str, **options: Any) -> PreparedData:
    return prepare(section(**options), data_root=root, cache=root / cache, seed=0)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd", ".tif"])
def test_data_sets_of_other_formats(ending: str, tmp_path: Path) -> None:
    """The same samples, labels and spacings as NIfTI gives; a clean check; every file counts in the fingerprint."""
    folder = make_nnunet(tmp_path)
    options = {"dimensions": 3, "resize": False}
    plain = prepared(tmp_path, "a", **options)
    rewritten(folder, ending)

    data = prepared(tmp_path, "b", **options)

    assert check(section(**options), data_root=tmp_path) == []
    for half, other in ((plain.train, data.train), (plain.validation, data.validation)):
        assert half.cases == other.cases
        assert all(np.array_equal(one, two) for one, two in zip(half.images, other.images, strict=True))
        assert all(np.array_equal(one, two) for one, two in zip(half.labels, other.labels, strict=True))
        assert half.spacings == tuple(pytest.approx(spacing, rel=1e-5) for spacing in other.spacings)
    named = [path for _, path in open_source(section(**options), tmp_path)[2].files(data.train.cases)]
    assert {path.suffix for path in named} == {ending} | {".mhd": {".zraw"}, ".tif": {".json"}}.get(ending, set())


def test_pages_are_slices_and_masks_have_as_many(tmp_path: Path) -> None:
    """`predict` writes a TIFF of several pages for one, with the spacing beside."""
    planes = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    tifffile.imwrite(tmp_path / "a_0000.tif", planes, photometric="minisblack")
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 2, 1]}))

    fed = masks(tmp_path / "masks", tmp_path, axes="SAR")

    assert np.array_equal(fed["a"], planes)
    assert read_grid(tmp_path / "a_0000.tif").spacing == (3, 2, 1)
    assert np.array_equal(tifffile.imread(tmp_path / "masks" / "a.tif"), 7 * (planes > 0))
    assert json.loads((tmp_path / "masks" / "a.json").read_text()) == {"spacing": [3, 2, 1]}


@pytest.mark.parametrize("axes", ["ZYX", "CYX", "TYX", "ZCYX"])
def test_stacks_of_imagej(axes: str, tmp_path: Path) -> None:
    """Slices, whatever ImageJ calls them; channels are channels where there are slices beside."""
    sizes = {"Z": 4, "T": 4, "C": 4, "Y": 6, "X": 5}
    shape = [3 if axes == "ZCYX" and axis == "C" else sizes[axis] for axis in axes]
    planes = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": axes})

    found = read_channels(tmp_path / "a.tif")

    wanted = planes.transpose(1, 0, 2, 3) if axes == "ZCYX" else planes[None]
    assert np.array_equal(found, wanted)
    assert read_grid(tmp_path / "a.tif").channels == len(wanted)


def test_vectors_are_channels(tmp_path: Path) -> None:
    """Several values a voxel."""
    values = np.random.default_rng(0).normal(size=(5, 6, 7, 3)).astype(np.float32)
    for name in ("a.mha", "a.nrrd", "a.nii.gz"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(tmp_path / name))

        assert np.array_equal(read_channels(tmp_path / name, None), np.moveaxis(values, -1, 0)), name
        assert read_grid(tmp_path / name).channels == 3


@pytest.mark.parametrize("name", ["/etc/hostname", "../other.raw", "LIST", "slice%03d.raw 1 4 1"])
def test_values_of_a_head_stay_beside_it(name: str, tmp_path: Path) -> None:
    """A head cannot make the service read a file elsewhere."""
    SimpleITK.WriteImage(as_itk(volume()), str(tmp_path / "a.mhd"))
    head = (tmp_path / "a.mhd").read_text()
    (tmp_path / "a.mhd").write_text(head.replace("a.raw", name))

    with pytest.raises(DataError, match=r"a\.mhd: its values are in .*one file of its folder"):
        companions(tmp_path / "a.mhd")
    with pytest.raises(DataError, match="its values are in"):
        read_channels(tmp_path / "a.mhd")


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    """Truncated, lost and foreign: the file, and no traceback."""
    SimpleITK.WriteImage(as_itk(volume()), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    SimpleITK.WriteImage(as_itk(volume()), str(tmp_path / "b.nrrd"))
    (tmp_path / "b.nrrd").write_bytes((tmp_path / "b.nrrd").read_bytes()[:420])
    (tmp_path / "c.mha").write_bytes(b"nothing of the kind" + b"\n" * (1 << 16) + b"ElementDataFile = /etc/hostname\n")
    (tmp_path / "g.nrrd").write_bytes(b"NRRD0004\n" + b"# x\n" * (1 << 15) + b"data file: /etc/hostname\n\n")
    (tmp_path / "h.mha").write_bytes(b"x\nElementDataFile = LOCAL\n\n")
    tifffile.imwrite(tmp_path / "d.tif", np.zeros((4, 20, 20), np.uint16), photometric="minisblack")
    (tmp_path / "d.tif").write_bytes((tmp_path / "d.tif").read_bytes()[:-900])
    with tifffile.TiffWriter(tmp_path / "e.tif") as file:
        for side in (20, 24):
            file.write(np.zeros((side, side), np.uint16), photometric="minisblack")

    pages = [Image.fromarray(np.full((30, 30), number, np.uint8)) for number in range(6)]
    pages[0].save(tmp_path / "f.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert read_channels(tmp_path / "f.tif")[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "f.tif").write_bytes((tmp_path / "f.tif").read_bytes()[:-500])

    for name, words in (
        ("a.mhd", r"a\.mhd: its values are in a\.raw, which is not there"),
        ("b.nrrd", r"b\.nrrd: cannot be read as NRRD \(420 bytes; truncated"),
        ("c.mha", r"c\.mha: its head does not say where its values are"),
        ("g.nrrd", r"g\.nrrd: its head has no end"),
        ("h.mha", r"h\.mha: cannot be read as MHA \(27 bytes"),
        ("d.tif", r"d\.tif: cannot be read as TIFF"),
        ("f.tif", r"f\.tif: cannot be read as TIFF \(\d+ bytes; truncated\?\): page \d is not there"),
        ("e.tif", r"e\.tif: its 2 pages differ in size"),
    ):
        with pytest.raises(DataError, match=words):
            read_channels(tmp_path / name)


def test_scans_of_the_ct_form_come_in_every_format(tmp_path: Path) -> None:
    """A run on the prepared Synapse data reads NRRD as it reads NIfTI, and [x, y, z, 1] too."""
    image = volume("PSR")
    nibabel.save(image, tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine), tmp_path / "b.nii.gz")
    SimpleITK.WriteImage(as_itk(image), str(tmp_path / "c.nrrd"))
    reading = {"form": "ct", "channels": 1, "labels": [0, 5], "low": -100.0, "high": 300.0}
    cases = find_cases([str(tmp_path)], reading).cases

    fed = [read_case(case, reading) for case in cases]
    written = [write_mask(tmp_path / "masks", case, (fed[0][0] > 0.5).astype(np.uint8), reading) for case in cases]

    wanted = np.asarray(volume("LPS").dataobj).transpose(2, 1, 0)
    assert [path.name for path in written] == ["a.nii", "b.nii.gz", "c.nrrd"]
    for one in fed:
        assert np.allclose(one[0], np.clip((wanted + 100.0) / 400, 0, 1), atol=1e-6)
    truth = 5 * (np.asarray(image.dataobj) > 100)
    assert np.array_equal(np.asarray(nibabel.load(written[0]).dataobj), truth)
    assert np.array_equal(np.asarray(nibabel.load(written[1]).dataobj), truth)
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(written[2]))), truth.T)


def test_units_of_nrrd(tmp_path: Path) -> None:
    """`space units` become mm."""
    SimpleITK.WriteImage(as_itk(volume()), str(tmp_path / "a.nrrd"))
    plain = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(plain.replace(b"\nkinds:", b'\nspace units: "um" "um" "um"\nkinds:', 1))

    assert read_grid(tmp_path / "a.nrrd").spacing == pytest.approx((0.004, 0.002, 0.0015))
    assert np.array_equal(read_channels(tmp_path / "a.nrrd")[0], np.asarray(volume().dataobj).T)
