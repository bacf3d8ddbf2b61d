"""Regions: classes that overlap, from the declaration to the scores, the masks and the exported file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.metrics as theirs
import nibabel
import numpy as np
import pytest
import torch

from tuner.analysis.predictions import Truth
from tuner.config.study import load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import YamlDocument
from tuner.data.inference_inputs import find_cases
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as cases_to_test
from tuner.data.regions import Regions, resolve_regions
from tuner.errors import DataError, SpecError
from tuner.export.torch_file import torch_export
from tuner.launch.study_setup import unfit_losses, with_declared_regions
from tuner.losses.build import build_loss
from tuner.settings import Settings
from tuner.training.evaluate import score_regions
from tuner.training.final import train_final
from tuner.training.predict import open_run, predict_cases, read_run
from tuner.training.trainer import train

NESTED = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3}
SPACING = (3.0, 1.0, 1.5)


def make_nested(root: Path, cases: int = 4, **changes: Any) -> Path:
    """Write an nnU-Net data set of boxes in boxes; the last case is a test case."""
    folder = root / "Dataset020_Nested"
    rng = np.random.default_rng(0)
    for number in range(cases):
        half = "Tr" if number < cases - 1 else "Ts"
        labels = np.zeros((16, 16, 4), np.uint8)
        x, y = rng.integers(0, 4, 2)
        labels[x : x + 11, y : y + 11] = 1
        labels[x + 2 : x + 9, y + 2 : y + 9, 1:] = 2
        labels[x + 4 : x + 7, y + 4 : y + 7, 1:3] = 3
        values = (rng.normal(0, 10, labels.shape) + 60 * labels).astype(np.float32)
        for kind, array in ((f"images{half}", values), (f"labels{half}", labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            name = f"c{number}_0000" if kind.startswith("images") else f"c{number}"
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.0, 3.0, 1.0])), folder / kind / f"{name}.nii.gz")
    described = {"channel_names": {"0": "MRI"}, "labels": NESTED, "regions_class_order": [1, 2, 3]}
    (folder / "dataset.json").write_text(json.dumps(described | {"file_ending": ".nii.gz"} | changes))
    return folder


def config_of(**changes: Any) -> TrialConfig:
    """A training of a second on the nested boxes."""
    whole: dict[str, Any] = {
        "dataset": {"name": "nnunet", "path": "Dataset020_Nested", "size": 16, "validation": ["c0"]},
        "model": {"name": "unet", "width": 8, "depth": 2},
        "loss": "dice_cross_entropy",
        "train": {"epochs": 12, "batch_size": 4, "lr": 0.02, "threads": 1, "seed": 1, "precision": "float32"},
    }
    whole["train"] |= {"augment": "none"}
    return load_config(whole | changes)


def prepared(config: TrialConfig, root: Path) -> PreparedData:
    return prepare(config.dataset, data_root=root, cache=root / "cache", seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialConfig, dict[str, Any]]:
    """A data set with regions, trained and tested once."""
    root = tmp_path_factory.mktemp("regions")
    make_nested(root)
    config = config_of()
    data = prepared(config, root)
    tests = cases_to_test(config.dataset, data_root=root, cache=root / "cache", seed=0)
    document = train_final(config, data=data, tests=tests, device="cpu", folder=root / "run")
    assert document is not None
    return root, config, document


def test_a_region_data_set_is_trained_and_scored_by_region(trained: tuple[Path, TrialConfig, dict[str, Any]]) -> None:
    """nnU-Net's regions are learnt as they overlap, and every metric has their names."""
    root, config, document = trained

    assert list(document["per_class"]["dice"]) == ["whole tumour", "core", "enhancing"]
    assert document["per_class"]["dice"]["whole tumour"] > 0.8
    assert document["test"]["per_class"]["dice"]["core"] > 0.5
    assert {"predictions.png", "predictions.npz", "confusion.npy"} <= {path.name for path in (root / "run").iterdir()}
    assert prepared(config, root).output_frequencies[0] == pytest.approx(
        sum(prepared(config, root).class_frequencies[1:])
    )


def test_masks_are_written_back_and_score_as_they_were_scored(
    trained: tuple[Path, TrialConfig, dict[str, Any]],
) -> None:
    """`predict` writes a label map by regions_class_order and a mask a region, of the case's own size and place.

    Their scores, by MONAI and by hand, are those that the test cases were given.
    """
    root, _, document = trained
    _, facts = read_run(root / "run")
    images = root / "Dataset020_Nested" / "imagesTs"
    run = open_run(root / "run", "cpu")
    (found,) = predict_cases(run, find_cases([str(images)], facts.reading).cases, root / "out", each_region=True)
    truth = np.asarray(nibabel.load(root / "Dataset020_Nested" / "labelsTs" / "c3.nii.gz").dataobj)
    masks = {name: np.asarray(nibabel.load(path).dataobj) for name, path in found.regions.items()}

    written = np.zeros_like(truth)
    for (name, mask), label in zip(masks.items(), (1, 2, 3), strict=True):
        written[mask == 1] = label
        true = np.isin(truth, NESTED[name])
        dice = 2 * (mask * true).sum() / (mask.sum() + true.sum())
        assert document["test"]["per_class"]["dice"][name] == pytest.approx(dice, abs=1e-12)
    assert found.mask is not None
    assert np.array_equal(np.asarray(nibabel.load(found.mask).dataobj), written)
    assert {path.parent.name for path in found.regions.values()} == {"whole_tumour", "core", "enhancing"}


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
def test_region_scores_are_those_of_an_independent_reference(tmp_path: Path) -> None:
    """Dice, IoU, 95 % Hausdorff and average surface distance of overlapping masks, against MONAI's; ignored pixels."""
    make_nested(tmp_path)
    data = prepared(config_of(), tmp_path)
    regions = data.regions
    assert regions is not None
    labels = np.concatenate([np.array(data.validation.labels)])
    rng = np.random.default_rng(3)
    codes = np.where(rng.random(labels.shape) < 0.1, rng.integers(0, 8, labels.shape), regions.codes(labels))
    codes = np.roll(codes, 1, 2).astype(np.uint8)

    found = score_regions(codes, labels, data, SPACING)

    for number in range(3):
        mine, true = ((array >> number & 1)[None, None] for array in (codes, regions.codes(labels)))
        pair = (torch.from_numpy(mine.astype(np.uint8)), torch.from_numpy(true.astype(np.uint8)))
        wanted = {
            "dice": theirs.compute_dice(*pair),
            "iou": theirs.compute_iou(*pair),
            "hd95": theirs.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=SPACING),
            "assd": theirs.compute_average_surface_distance(
                *pair, include_background=True, symmetric=True, spacing=SPACING
            ),
        }
        for name, value in wanted.items():
            assert found[name][number] == pytest.approx(float(value), rel=1e-5), name
    ignored = labels.copy()
    ignored[:, :8] = data.ignore_index
    half = score_regions(codes, ignored, data, SPACING)["dice"]
    mask = regions.mask(codes, 0)[:, 8:], regions.mask(regions.codes(labels), 0)[:, 8:]
    assert half[0] == pytest.approx(2 * (mask[0] & mask[1]).sum() / (mask[0].sum() + mask[1].sum()))


def test_a_training_of_regions_continues_bit_for_bit(tmp_path: Path) -> None:
    """A training that was stopped after an epoch has the numbers and weights of one that was not."""
    make_nested(tmp_path)
    settings = config_of().train.model_copy(update={"epochs": 2, "augment": "default"})
    config = config_of().model_copy(update={"train": settings})
    data = prepared(config, tmp_path)

    def run(folder: str, epochs: int) -> list[dict[str, Any]]:
        reports = train(config, data=data, device="cpu", folder=tmp_path / folder, stop=lambda: False)
        found = []
        for report in reports:
            measured = {"seconds", "peak_memory"}
            found.append({key: value for key, value in report.as_dict().items() if key not in measured})
            if len(found) == epochs:
                reports.close()
        return found

    whole = run("whole", 2)
    run("part", 1)

    assert run("part", 2) == whole
    states = [torch.load(tmp_path / folder / "last.ckpt", weights_only=True)["model"] for folder in ("whole", "part")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_phantom_with_regions_trains_on_patches_with_more_than_eight_regions(tmp_path: Path) -> None:
    """Regions are declared for any data set, by numbers or names; windows slide, codes may need more than a byte."""
    names = {f"r{number}": [1 + number % 8] for number in range(8)}
    dataset = {"name": "phantom", "size": 32, "cases": 3, "slices": 2}
    regions = {**names, "kidneys": ["left kidney", "right kidney"], "abdomen": list(range(1, 9))}
    config = config_of(
        dataset=dataset | {"regions": regions},
        train={"epochs": 1, "patch": 16, "patches": 1, "threads": 1, "precision": "float32"},
    )
    data = prepared(config, tmp_path)

    (report,) = train(config, data=data, device="cpu", folder=tmp_path / "run", stop=lambda: False)

    assert list(report.per_class["iou"]) == list(regions)
    plain = prepare(dataset, data_root=None, cache=tmp_path / "cache", seed=0)
    assert plain.fingerprint != data.fingerprint
    assert data.outputs == 10


@pytest.mark.slow
def test_the_exported_loss_takes_the_label_map(trained: tuple[Path, TrialConfig, dict[str, Any]]) -> None:
    """`export --format torch` carries the regions: its self-test passes without this package."""
    root, config, _ = trained
    facts = json.loads((root / "run" / "data.json").read_bytes())
    found = torch_export(config, facts, None, beside="home.pt")
    (root / "home.py").write_text(found.text)
    (root / "home.pt").write_bytes(found.tensors)

    done = subprocess.run([sys.executable, root / "home.py"], capture_output=True, text=True, check=True, cwd=root)

    assert "self-test passed" in done.stdout


def test_the_order_of_regions_decides_the_label_map() -> None:
    """As in nnU-Net the last region wins where an order is stated; a derived one gives every class back."""
    names = ["background", "edema", "necrosis", "enhancing"]
    stated = resolve_regions({"a": [1, 2, 3], "b": [2, 3], "c": [3]}, [1, 2, 3], names, background=True)
    turned = resolve_regions({"c": 3, "b": ["necrosis", 3], "a": [1, 2, 3]} | {"c": [3]}, None, names, background=True)
    crossed = resolve_regions({"a": [1, 3], "b": [2, 3]}, None, names, background=True)

    assert stated.label_map(np.arange(8)).tolist() == [0, 1, 2, 2, 3, 3, 3, 3]
    assert turned.order == (3, 2, 1)
    for regions in (stated, turned, crossed):
        assert regions.label_map(regions.codes(np.arange(4))).tolist() == [0, 1, 2, 3]
        assert Regions.from_dict(json.loads(json.dumps(regions.as_dict())), classes=4) == regions


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        pytest.param({"regions": [1, 2]}, r"dataset.regions: \[1, 2\] is no mapping of 1 to 31 regions", id="list"),
        pytest.param({"regions": {"a": [1.5]}}, r"dataset.regions.a: \[1.5\] is none of: a class", id="number"),
        pytest.param({"regions": {"a": []}}, r"dataset.regions.a: \[\] is none of", id="empty"),
        pytest.param({"regions": {"a": 1}, "regions_class_order": [1, 2]}, r"no list of 1 classes", id="order"),
        pytest.param({"regions_class_order": [1]}, r"there are no `dataset.regions`", id="order alone"),
    ],
)
def test_wrong_declarations_are_refused(declared: dict[str, Any], message: str) -> None:
    """What is no region is refused with the key and what would do."""
    with pytest.raises(SpecError, match=message):
        load_config({"dataset": {"name": "phantom", **declared}, "loss": "dice"})


def test_classes_that_there_are_not_are_refused(tmp_path: Path) -> None:
    """Which classes there are is known when the data is read; every mistake is told at once."""
    section = {"name": "phantom", "regions": {"a": [1, 77], "b": ["nope"], "c": [0]}}

    with pytest.raises(SpecError) as caught:
        prepare(section, data_root=None, cache=tmp_path, seed=0)

    text = str(caught.value)
    assert "dataset.regions.a: 77 is no class of this data set: 0 'background', 1 'aorta'" in text
    assert "dataset.regions.b: 'nope' is no class" in text
    assert "dataset.regions.c: class 0 (background) is the background" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"labels": {"background": 0, "a": [1, 2], "b": ["x"]}}, r"region 'b' are \['x'\]", id="word"),
        pytest.param({"labels": {"a": [1, 2], "b": [2]}}, r"lack the background", id="background"),
        pytest.param({"labels": {"background": 0, "a": [0, 1]}}, r"0 and the one to ignore are in no region", id="0"),
        pytest.param({"regions_class_order": [1, 2]}, r"for each of the 3 regions", id="order"),
    ],
)
def test_wrong_region_descriptions_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A dataset.json whose regions cannot be read says which."""
    make_nested(tmp_path, **changes)

    with pytest.raises(DataError, match=message):
        prepared(config_of(), tmp_path)


def study(**search: Any) -> YamlDocument:
    content = {
        "name": "nested",
        "dataset": {"name": "nnunet", "path": "Dataset020_Nested", "size": 16},
        "search": {"loss": ["boundary", "dice"]} | search,
    }
    return YamlDocument(content, {}, None)


def test_pictures_show_the_truth_as_regions_can_be_written(tmp_path: Path) -> None:
    """Classes that no region tells apart are one there, as in what is predicted."""
    labels = {"background": 0, "whole": [1, 2, 3], "enhancing": 3}
    make_nested(tmp_path, labels=labels, regions_class_order=[1, 3])
    dataset = {"name": "nnunet", "path": "Dataset020_Nested", "size": 16, "validation": ["c0"]}
    data = prepared(config_of(dataset=dataset), tmp_path)
    spec = {"dataset": dataset | {"regions": {"whole": [1, 2, 3], "enhancing": [3]}, "regions_class_order": [1, 3]}}

    raw, seen = (
        Truth.find(tmp_path / "cache", each, {"fingerprint": data.fingerprint}) for each in ({"dataset": dataset}, spec)
    )

    assert raw is not None
    assert seen is not None
    before, after = raw.of("c0"), seen.of("c0")
    assert before is not None
    assert after is not None
    assert set(np.unique(before[1])) == {0, 1, 2, 3}
    assert np.array_equal(after[1], np.where(before[1] == 2, 1, before[1]))


def test_losses_without_a_sigmoid_form_do_not_compete(tmp_path: Path) -> None:
    """A family leaves them out and says so by name; named themselves they are refused, in sums and alone too."""
    make_nested(tmp_path)
    settings = Settings.resolve({}, storage=f"sqlite:///{tmp_path}/s.db", data_root=tmp_path)

    found = with_declared_regions(load_spec(study()), settings)

    assert found.base.dataset["regions"] == {"whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert "hausdorff" in [loss.name for loss in found.candidates]
    assert found.space.find("loss.dice.include_background") is None
    (said,) = unfit_losses(found)
    assert "left out of the search: boundary_aware, active_boundary" in said
    with pytest.raises(SpecError, match=r"search.loss: nacl, active_boundary: each is defined for classes that excl"):
        with_declared_regions(load_spec(study(loss=["nacl", {"both": ["dice", "active_boundary"]}])), settings)
    with pytest.raises(SpecError, match=r"loss.dice.include_background: has no meaning"):
        with_declared_regions(load_spec(study(**{"loss.dice.include_background": [True, False]})), settings)
    with pytest.raises(SpecError, match=r"loss.name: nacl is defined for classes that exclude each other"):
        load_config({"dataset": {"name": "phantom", "regions": {"a": 1}}, "loss": "nacl"})


def test_a_loss_of_regions_is_the_sigmoid_form_of_its_targets() -> None:
    """What the trainer computes of a label map is what the library computes of the regions' own masks."""
    from tuner import losses

    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8))
    labels[:, 0] = 255
    members = [[1, 2, 3], [2, 3], [3]]
    targets = torch.stack([torch.isin(labels, torch.tensor(found)) for found in members], 1)

    for name in ("dice_cross_entropy", "hausdorff", "lovasz_softmax", "skeleton_recall", "focal"):
        ours = build_loss(
            {"name": name}, classes=4, ignore_index=255, class_frequencies=(0.5, 0.3, 0.1), regions=members
        )
        wanted = losses.create(name, activation="sigmoid")(logits, targets, mask=labels != 255)
        assert float(ours(logits, labels)) == pytest.approx(float(wanted), rel=1e-6), name
        assert not ours.needs
