"""`tuner predict`: masks for new images in their own format, from nothing but the folder of a run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from tests.cli.shell import Shell
from tests.data.volumes import make_nnunet, section
from tests.training.runs import make_run, tiny
from tuner.config.trial import TrialConfig
from tuner.data.images import read_codes, resize_labels
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.training.components import build_network
from tuner.training.evaluate import Validator, score_units
from tuner.training.final import predict_case
from tuner.training.predict import open_run
from tuner.training.sliding_window import Geometry
from tuner.training.trainer import train

Made = tuple[Path, TrialConfig, PreparedData]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    """Write the run of a data set below `tmp_path`, whose data is then gone."""

    def make(dataset: dict[str, Any], root: Path | None = tmp_path, **options: Any) -> Made:
        config = tiny(dataset, **options)
        data = prepare(config.dataset, data_root=root, cache=tmp_path / "cache", seed=0)
        return make_run(tmp_path / "run", config, data), config, data

    return make


def validated(run: Path, data: PreparedData, config: TrialConfig) -> dict[str, np.ndarray]:
    """What the run's own validation predicts, by case, in the size of the prepared data."""
    found = Validator(data, "cpu", train=config.train).predict(open_run(run, "cpu").net, lambda: False)
    assert found is not None
    return {unit.name: unit.of(found.labels) for unit in score_units(data.validation, stacked=data.stacked)}


def ids(labels: np.ndarray, codes: list[int]) -> np.ndarray:
    return np.array(codes)[labels]


@pytest.mark.parametrize(
    ("options", "train_options"),
    [
        pytest.param({"dimensions": 2}, {}, id="slices"),
        pytest.param({"dimensions": 3, "depth": 3}, {}, id="slabs"),
        pytest.param({"dimensions": 3, "resize": False}, {"patch": [4, 16, 16]}, id="patches"),
        pytest.param({"dimensions": 2, "resize": False}, {"patch": 16}, id="crops"),
    ],
)
def test_nifti_keeps_its_grid(
    options: dict[str, Any], train_options: dict[str, Any], made: Callable[..., Made], tuner: Shell, tmp_path: Path
) -> None:
    """Affine, size, unit and the ids of dataset.json; and what the run's own validation predicted on that scan."""
    folder = make_nnunet(tmp_path)
    run, config, data = made(section(**options), **train_options)
    wanted = validated(run, data, config)
    image = tmp_path / "ben_1_0000.nii.gz"
    shutil.copy(folder / "imagesTr" / "ben_1_0000.nii.gz", image)
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache")

    result = tuner("predict", str(run), str(image), "-o", "masks", "--device", "cpu", "--json")

    document = result.json()
    assert (result.code, document["labels"], document["failed"]) == (0, {"background": 0, "low": 3, "high": 7}, [])
    mask, source = nibabel.load(document["written"][0]["mask"]), nibabel.load(image)
    assert document["written"][0]["mask"] == "masks/ben_1.nii.gz"
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    assert mask.get_data_dtype() == np.uint8
    assert mask.header.get_xyzt_units()[0] == "mm"
    assert mask.header.get_zooms() == source.header.get_zooms()
    values = np.asarray(nibabel.as_closest_canonical(mask).dataobj).T
    if options.get("depth"):
        whole = np.concatenate([wanted[f"ben_1#{number}"] for number in range(3)])[:7]
    else:
        whole = wanted["ben_1"]
    assert len(np.unique(whole)) > 1
    assert np.array_equal(values, ids(resize_labels(whole, values.shape[-2:]), [0, 3, 7]))
    assert document["written"][0]["pixels"]["high"] == int((values == 7).sum())


def test_a_training_and_its_masks(tuner: Shell, here: Path, tmp_path: Path) -> None:
    """The masks are `predictions.npz` of the best epoch; the folder of a trial will do as a run."""
    make_nnunet(tmp_path)
    config = tiny(section(size=32, dimensions=2), epochs=2, lr=0.01, augment="none")
    data = prepare(config.dataset, data_root=tmp_path, cache=tmp_path / "cache", seed=0)
    folder = here / "artifacts" / "study" / "0"
    for _ in train(config, data=data, device="cpu", folder=folder, stop=lambda: False):
        pass

    assert tuner("predict", str(folder), str(tmp_path / "Dataset007_Boxes/imagesTr"), "-o", "masks").code == 0

    with np.load(folder / "predictions.npz") as predictions:
        wanted = resize_labels(predictions["ben_1"], (22, 19))
    masks = sorted(path.name for path in (here / "masks").iterdir())
    assert masks == ["anna_1.nii.gz", "anna_2.nii.gz", "ben_1.nii.gz", "cleo_1.nii.gz"]
    found = np.asarray(nibabel.as_closest_canonical(nibabel.load(here / "masks" / "ben_1.nii.gz")).dataobj).T
    assert np.array_equal(found, ids(wanted, [0, 3, 7]))


def test_channels_belong_together(made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path) -> None:
    """nnU-Net's file a channel: one mask a case; a case that lacks a channel is named, and the others go on."""
    images = make_nnunet(tmp_path, channels=2) / "imagesTr"
    run, config, data = made(section())
    wanted = validated(run, data, config)["ben_1"]
    (images / "anna_1_0001.nii.gz").unlink()

    result = tuner("predict", str(run), f"{images}/ben_1_*", f"{images}/anna_*", "-o", "masks", "--json")

    document = result.json()
    assert result.code == 1
    assert "missing: anna_1_0001.nii.gz" in result.err
    assert [len(row["input"]) for row in document["written"]] == [2, 2]
    assert [row["input"] for row in document["failed"]] == [[str(images / "anna_1_0000.nii.gz")]]
    found = np.asarray(nibabel.as_closest_canonical(nibabel.load(here / "masks" / "ben_1.nii.gz")).dataobj).T
    assert np.array_equal(found, ids(resize_labels(wanted, (22, 19)), [0, 3, 7]))


def _pictures(root: Path, values: dict[int, Any], *, mode: str = "L") -> Path:
    """A folder data set of four pictures whose masks hold the given values."""
    folder = root / "folder"
    rng = np.random.default_rng(5)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        labels = rng.integers(0, len(values), (24, 20))
        Image.fromarray((labels * 60 + 20).astype(np.uint8)).save(folder / "images" / f"p{number}.png")
        colours = np.array(list(values.values()), np.uint16 if mode == "I;16" else np.uint8)
        Image.fromarray(colours[labels]).save(folder / "masks" / f"p{number}.png")
    return folder


@pytest.mark.parametrize(
    ("values", "mode", "kind"),
    [
        pytest.param({0: 0, 1: 128, 2: 255}, "L", "P", id="grey"),
        pytest.param({0: (0, 0, 0), 1: (255, 0, 0), 2: (9, 200, 255)}, "RGB", "RGB", id="colours"),
        pytest.param({0: 0, 1: 300, 2: 40000}, "I;16", "I;16", id="16-bit"),
    ],
)
def test_pictures_become_masks_like_those_of_the_data(
    values: dict[int, Any], mode: str, kind: str, made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path
) -> None:
    """PNG with a palette, whose values are the masks' own; masks in colour have their colours again."""
    folder = _pictures(tmp_path, values, mode=mode)
    run, config, data = made({"name": "folder", "size": 24, "width": 20, "validation": ["p1"]})
    wanted = validated(run, data, config)["p1"]
    legal = {int(code) for code in np.unique(read_codes(folder / "masks" / "p1.png"))}
    Image.open(folder / "images" / "p1.png").save(tmp_path / "new.bmp")

    assert tuner("predict", str(run), str(tmp_path / "new.bmp"), "-o", "masks").code == 0

    with Image.open(here / "masks" / "new.png") as mask:
        assert mask.mode == kind
        if kind == "P":
            palette = np.array(mask.getpalette()).reshape(-1, 3)
            assert len({tuple(palette[value]) for value in values.values()}) == 3
    found = read_codes(here / "masks" / "new.png")
    assert set(np.unique(found)) <= legal
    assert np.array_equal(found, ids(wanted, data.reading["labels"]))


@pytest.mark.parametrize(("exif", "shape"), [("apply", (20, 24)), ("ignore", (24, 20))])
def test_a_picture_that_is_stored_turned(
    exif: str, shape: tuple[int, int], made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path
) -> None:
    """The mask lies as the pictures of the training did, and the command says which way that is."""
    folder = _pictures(tmp_path, {0: 0, 1: 255})
    run, *_ = made({"name": "folder", "size": 24, "width": 20, "validation": ["p1"], "exif": exif})
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(folder / "images" / "p1.png").save(tmp_path / "new.png", exif=tag)

    result = tuner("predict", str(run), str(tmp_path / "new.png"), "-o", "masks", "--json")

    (row,) = result.json()["written"]
    assert row["shape"] == [1, *shape]
    assert read_codes(here / "masks" / "new.png").shape == shape
    assert ("was applied: the mask is upright" if exif == "apply" else "was ignored, as in training") in row["note"]
    assert "EXIF orientation 6" in result.err


def test_colour_pictures_in_nnunets_layout(made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path) -> None:
    """All three channels in one file, named as the first of them; the mask is a PNG of the ids of dataset.json."""
    folder = tmp_path / "Dataset007_Boxes"
    rng = np.random.default_rng(1)
    for number in range(3):
        labels = rng.integers(0, 2, (20, 24)).astype(np.uint8)
        for kind, name, values in (
            ("imagesTr", f"p{number}_0000.png", np.stack([labels * 90, labels * 30, 255 - labels], -1)),
            ("labelsTr", f"p{number}.png", labels * 4),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(folder / kind / name)
    described = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "cell": 4}}
    (folder / "dataset.json").write_text(json.dumps({**described, "file_ending": ".png"}))
    run, config, data = made(section(validation=["p1"]))
    wanted = validated(run, data, config)["p1"]

    assert tuner("predict", str(run), str(folder / "imagesTr/p1_0000.png"), "-o", "masks").code == 0

    found = read_codes(here / "masks" / "p1.png")
    assert np.array_equal(found, ids(resize_labels(wanted, (20, 24))[0], [0, 4]))


def test_cityscapes_gets_label_ids(made: Callable[..., Made], tuner: Shell, test_data: Path, tmp_path: Path) -> None:
    """Masks hold what Cityscapes' own masks hold, not train ids."""
    run, *_ = made({"name": "cityscapes", "size": 24, "width": 32}, root=test_data)
    image = next(test_data.glob("cityscapes/leftImg8bit/val/*/*.png"))

    document = tuner("predict", str(run), str(image), "-o", "masks", "--json").json()

    assert (document["labels"]["road"], document["labels"]["bicycle"]) == (7, 33)
    found = read_codes(Path(document["written"][0]["mask"]))
    assert found.shape == (192, 256)
    assert set(np.unique(found)) <= set(document["labels"].values())


def test_synapse_in_all_its_forms(made: Callable[..., Made], tuner: Shell, here: Path, test_data: Path) -> None:
    """Volume, slice and raw scan of one patient get one and the same mask, each in its format and orientation."""
    run, config, data = made({"name": "synapse", "size": 32}, root=test_data)
    case = next(c for c in read_test_cases(config.dataset, data_root=test_data, cache=here, seed=0) if len(c.label) > 1)
    net = open_run(run, "cpu").net
    wanted = predict_case(net, case, data, Geometry.of(config.train, data.sample_shape))
    np.savez(here / "slice.npz", image=case.image[7])
    inputs = [test_data / f"synapse/test_vol_h5/{case.name}.npy.h5", test_data / "synapse_raw/img/img0103.nii.gz"]

    assert tuner("predict", str(run), *map(str, inputs), "slice.npz", "-o", "masks").code == 0

    with h5py.File(here / "masks" / f"{case.name}.npy.h5") as file:
        assert np.array_equal(file["label"], wanted)
    with np.load(here / "masks" / "slice.npz") as file:
        assert np.array_equal(file["label"], wanted[7])
    raw, mask = nibabel.load(inputs[1]), nibabel.load(here / "masks" / "img0103.nii.gz")
    assert np.array_equal(mask.affine, raw.affine)
    assert np.array_equal(np.asarray(mask.dataobj)[:, ::-1].transpose(2, 1, 0), wanted)


def test_a_scan_may_lie_any_way(made: Callable[..., Made], tuner: Shell, here: Path, test_data: Path) -> None:
    """A scan whose axes run another way gets the same mask, with its own axes."""
    run, *_ = made({"name": "synapse", "size": 32}, root=test_data)
    raw = nibabel.load(test_data / "synapse_raw/img/img0103.nii.gz")
    turned = raw.as_reoriented(np.array([[2, 1], [0, -1], [1, -1]]))
    nibabel.save(turned, here / "turned.nii")

    assert tuner("predict", str(run), "turned.nii", str(raw.get_filename()), "-o", "masks").code == 0

    plain, other = nibabel.load(here / "masks/img0103.nii.gz"), nibabel.load(here / "masks/turned.nii")
    assert other.shape == turned.shape
    assert np.array_equal(nibabel.as_closest_canonical(plain).dataobj, nibabel.as_closest_canonical(other).dataobj)


def test_one_bad_image_does_not_stop_the_others(made: Callable[..., Made], tuner: Shell, here: Path) -> None:
    """Every image that fails is named with its reason, nothing is passed over silently, and the exit code says it."""
    run, *_ = made({"name": "phantom", "size": 16, "cases": 2, "slices": 2}, root=None)
    images = here / "images" / "deep"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savez(images / "good.npz", image=rng.random((20, 24), np.float32))
    np.savez(images / "empty.npz", label=np.zeros((4, 4)))
    (images / "broken.nii.gz").write_bytes(b"\x1f\x8b nothing")
    nan = np.full((4, 4), np.nan, np.float32)
    np.savez(images / "nan.npz", image=nan)
    (images / "notes.txt").write_text("no image")

    result = tuner("predict", str(run), "images", "-o", "masks", "--json")

    document = result.json()
    assert result.code == 1
    assert [Path(row["mask"]).as_posix() for row in document["written"]] == ["masks/deep/good.npz"]
    failed = {Path(row["input"][0]).name: row["message"] for row in document["failed"]}
    assert set(failed) == {"empty.npz", "broken.nii.gz", "nan.npz"}
    assert "no array 'image'" in failed["empty.npz"]
    assert "not finite" in failed["nan.npz"]
    assert document["passed_over"] == ["images/deep/notes.txt"]
    assert all(name in result.err for name in (*failed, "notes.txt"))
    assert [path.name for path in (here / "masks" / "deep").iterdir()] == ["good.npz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["nowhere", "a.npz", "-o", "m"], "no such folder", id="no run"),
        pytest.param([".", "a.npz", "-o", "m"], "no config.yaml", id="no training"),
        pytest.param(["run", "nowhere.npz", "-o", "m"], "no such file, folder or pattern", id="no image"),
        pytest.param(["run", "void", "-o", "m"], "holds no image", id="empty folder"),
        pytest.param(["run", "a.npz", "-o", "."], "take the place of an image", id="over the image"),
        pytest.param(["run", "images", "-o", "images/masks"], "taken for images the next time", id="among the images"),
        pytest.param(["run", "a.npz", "images/a.npz", "-o", "m"], "both be written to a.npz", id="twins"),
        pytest.param(["run", "a.npz", "-o", "a.npz"], "it is a file", id="file"),
        pytest.param(["run", "a.npz", "-o", "m", "--device", "tpu"], "tpu", id="device"),
        pytest.param(["run", "a.npz"], "-o", id="no folder"),
        pytest.param(["run", "-o", "m"], "INPUT", id="nothing"),
    ],
)
def test_wrong_requests_write_nothing(
    words: list[str], message: str, made: Callable[..., Made], tuner: Shell, here: Path
) -> None:
    """What is wrong is said in words, with exit code 2, before a mask is written."""
    run, *_ = made({"name": "phantom", "size": 16, "cases": 2, "slices": 1}, root=None)
    shutil.move(run, here / "run")
    (here / "void").mkdir()
    (here / "images").mkdir()
    for name in ("a.npz", "images/a.npz"):
        np.savez(here / name, image=np.zeros((16, 16), np.float32))
    before = sorted(path.as_posix() for path in here.rglob("*"))

    result = tuner("predict", *words)

    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert sorted(path.as_posix() for path in here.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda run: (run / "data.json").unlink(), "has no data.json", id="no facts"),
        pytest.param(lambda run: (run / "data.json").write_text("[]"), "damaged", id="other facts"),
        pytest.param(lambda run: (run / "best.safetensors").unlink(), "no best.safetensors", id="no weights"),
        pytest.param(
            lambda run: (run / "best.safetensors").write_bytes(b"x" * 99), "weights are damaged", id="weights"
        ),
        pytest.param(
            lambda run: (run / "config.yaml").write_text(
                (run / "config.yaml").read_text().replace("width: 4", "width: 8")
            ),
            "not those of this network",
            id="another network",
        ),
        pytest.param(
            lambda run: (run / "data.json").write_text(
                json.dumps(json.loads((run / "data.json").read_text()) | {"reading": {}})
            ),
            "does not say how its images were read",
            id="no reading",
        ),
    ],
)
def test_damaged_runs_are_refused(
    damage: Callable[[Path], object], message: str, made: Callable[..., Made], tuner: Shell, here: Path
) -> None:
    """A run that lacks something is named with what it lacks, never a traceback."""
    run, *_ = made({"name": "phantom", "size": 16, "cases": 2, "slices": 1}, root=None)
    damage(run)
    np.savez(here / "a.npz", image=np.zeros((16, 16), np.float32))

    result = tuner("predict", str(run), "a.npz", "-o", "masks")

    assert result.code == 2
    assert message in result.err
    assert not (here / "masks").exists()


def test_other_channels_are_refused(made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path) -> None:
    """A colour picture of two channels cannot be what the network was trained on."""
    make_nnunet(tmp_path)
    run, *_ = made(section())
    values = np.zeros((8, 8, 4, 3), np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), here / "three.nii")

    result = tuner("predict", str(run), "three.nii", "-o", "masks")

    assert result.code == 1
    assert "3 channels; the network was trained on images with 1" in result.err


def test_a_network_with_what_its_loss_learnt(tmp_path: Path) -> None:
    """A loss with a head of its own leaves the network's weights as the network alone has them."""
    config = tiny({"name": "phantom", "size": 16, "cases": 2, "slices": 1})
    data = prepare(config.dataset, data_root=None, cache=tmp_path, seed=0)
    from tuner.config.trial import load_config
    from tuner.training.components import build_components

    with_head = load_config({**config.as_dict(), "loss": "boundary_aware"})
    weights = build_components(with_head, data, "cpu").model.state_dict()
    build_network(config, data, "cpu").model.load_state_dict(weights)


def test_volumes_in_every_format_and_direction(
    made: Callable[..., Made], tuner: Shell, here: Path, tmp_path: Path
) -> None:
    """One scan stored in three arrangements and formats has one mask, each on its own file; odd heads are said."""
    folder = make_nnunet(tmp_path)
    run, _, _ = made(section(resize=False), patch=16)
    image = nibabel.load(folder / "imagesTr" / "ben_1_0000.nii.gz")
    (here / "new").mkdir()
    nibabel.save(image, here / "new" / "plain_0000.nii.gz")
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nibabel.save(turned, here / "new" / "turned_0000.nii")
    turned = nibabel.load(here / "new" / "turned_0000.nii")
    other = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(here / "new" / "plain_0000.nii.gz")), "SPR")
    SimpleITK.WriteImage(other, str(here / "new" / "other.nrrd"))
    lost = nibabel.Nifti1Image(np.asarray(image.dataobj), None)
    nibabel.save(lost, here / "new" / "lost.nii.gz")
    (here / "new" / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    (here / "new" / "._plain_0000.nii.gz").write_bytes(b"x")

    result = tuner("predict", str(run), "new", "-o", "masks", "--device", "cpu", "--json")

    document = result.json()
    assert result.code == 1
    assert [
        "gone.nii.gz: a link to nowhere.nii.gz, which is not there" in row["message"] for row in document["failed"]
    ] == [True]
    assert document["passed_over"] == ["new/._plain_0000.nii.gz"]
    notes = {Path(row["mask"]).name: row["note"] for row in document["written"]}
    assert {name for name, note in notes.items() if note} == {"lost.nii.gz"}
    assert "neither sform nor qform states a place" in notes["lost.nii.gz"]
    plain, mask = (nibabel.load(here / "masks" / name) for name in ("plain.nii.gz", "turned.nii"))
    assert len(np.unique(np.asarray(plain.dataobj))) > 1
    assert (mask.shape, mask.affine.tolist()) == (turned.shape, turned.affine.tolist())
    wanted = np.asarray(nibabel.as_closest_canonical(plain).dataobj)
    assert np.array_equal(np.asarray(nibabel.as_closest_canonical(mask).dataobj), wanted)
    nrrd = SimpleITK.ReadImage(str(here / "masks" / "other.nrrd"))
    assert (nrrd.GetSize(), nrrd.GetOrigin()) == (other.GetSize(), other.GetOrigin())
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(nrrd, "RAS")), wanted.T)


def test_notes_are_told_and_are_no_defects(tuner: Shell, here: Path, tmp_path: Path) -> None:
    """`data check` of a set with files of macOS: exit 0, the note on stderr and in the JSON."""
    folder = make_nnunet(tmp_path)
    (folder / "labelsTr" / "._ben_1.nii.gz").write_bytes(b"x")
    words = ("data", "check", "nnunet", "--data-root", str(tmp_path), "--set", f"path={folder.name}")

    plain, document = tuner(*words), tuner(*words, "--json").json()

    assert (plain.code, plain.out) == (0, "")
    assert "note: " in plain.err
    assert "labelsTr: 1 of 5 files are not used: ._ben_1.nii.gz" in plain.err
    assert (document["ok"], document["defects"], len(document["notes"])) == (True, [], 1)
