"""Training on patches: where they are drawn, volumes of any size, and that an interruption changes nothing."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.samples import make_config, make_data
from tests.training.test_trainer import end_state, numbers, run
from tuner.config.trial import load_config
from tuner.data.arrays import Ragged, Split
from tuner.data.preparation import PreparedData
from tuner.errors import SpecError
from tuner.training.batches import Patches
from tuner.training.evaluate import Validator

SHAPES = ((5, 20, 24), (9, 26, 18), (12, 16, 16))


def ragged_split(name: str) -> Split:
    """Volumes of three sizes, each with one bright ball of class 1 and a voxel of class 2."""
    images, labels = [], []
    for number, shape in enumerate(SHAPES):
        rng = np.random.default_rng([number, len(name)])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
        centre = np.array([rng.integers(3, extent - 3 if extent > 6 else 4) for extent in shape])
        label = (np.square(grid - centre[:, None, None, None]).sum(0) < 9).astype(np.uint8)
        label[0, 0, 0] = 2
        labels.append(label)
        images.append((label + rng.normal(0, 0.2, shape)).astype(np.float32)[None])
    names = tuple(f"{name}{number}" for number in range(len(SHAPES)))
    spacings = ((5.0, 1.0, 2.0), None, (2.0, 2.0, 2.0))
    return Split(Ragged.of(images), Ragged.of(labels), np.arange(3, dtype=np.int32), names, spacings)


@pytest.fixture
def uneven(tmp_path: Path) -> PreparedData:
    """Volumes that keep their sizes."""
    data = make_data(tmp_path / "prepared", size=16, volumes=True)
    return replace(data, train=ragged_split("train"), validation=ragged_split("held"), fingerprint="uneven")


def drawn(
    data: PreparedData, epoch: int = 1, seed: int = 0, **train: object
) -> tuple[Patches, torch.Tensor, torch.Tensor]:
    options = make_config(patches=40, **train).train
    patches = Patches(data, (4, 8, 8), options, seed, "cpu")
    patches.begin(epoch)
    return patches, *patches.batch(torch.arange(len(patches)))


def test_patches_of_foreground_hold_a_class(uneven: PreparedData) -> None:
    """With `foreground: 1` every patch has something to learn, rare classes as often as large ones."""
    _, _, labels = drawn(uneven, foreground=1.0)
    _, _, anywhere = drawn(uneven, foreground=0.0)

    held = [(found == label).flatten(1).any(1).float().mean() for found in (labels, anywhere) for label in (1, 2)]
    assert ((labels == 1) | (labels == 2)).flatten(1).any(1).all()
    assert held[1] > 0.4
    assert held[3] < 0.2


def test_the_drawn_share_is_what_was_asked(uneven: PreparedData) -> None:
    """A class of one voxel, which chance hardly finds, is in half of the patches that are drawn around a class."""
    _, _, labels = drawn(uneven, foreground=0.5)

    share = (labels == 2).flatten(1).any(1).float().mean()
    assert 0.12 < share < 0.45


def test_patches_are_pieces_of_the_samples(uneven: PreparedData) -> None:
    """Image and label are cut at the same place, and every place is possible."""
    patches, images, labels = drawn(uneven, foreground=0.3)

    for number, start in enumerate(patches._starts):
        sample = number // 40
        z, y, x = start
        image, label = uneven.train.images[sample], uneven.train.labels[sample]
        assert np.array_equal(images[number], image[:, z : z + 4, y : y + 8, x : x + 8])
        assert np.array_equal(labels[number], label[z : z + 4, y : y + 8, x : x + 8])
    reached = patches._starts[:40]
    assert (reached.min(0) == 0).all()
    assert (reached.max(0)[1:] >= np.array(SHAPES[0][1:]) - 8 - 2).all()


def test_draws_depend_on_seed_and_epoch_only(uneven: PreparedData) -> None:
    """What a continued training draws is what it would have drawn."""
    first, again = drawn(uneven, epoch=3)[0]._starts, drawn(uneven, epoch=3)[0]._starts

    assert np.array_equal(first, again)
    assert not np.array_equal(first, drawn(uneven, epoch=4)[0]._starts)
    assert not np.array_equal(first, drawn(uneven, epoch=3, seed=1)[0]._starts)


def test_a_patch_larger_than_its_sample_is_filled_with_what_counts_for_nothing(uneven: PreparedData) -> None:
    """Thin volumes train too: around them are zeros, and ignored labels."""
    patches = Patches(uneven, (8, 16, 16), make_config(patches=1).train, 0, "cpu")
    patches.begin(1)
    images, labels = patches.batch(torch.tensor([0]))

    assert (labels[0] == 255).any(2).any(1).tolist() == [True, False, False, False, False, False, True, True]
    assert not images[0, 0, [0, 6, 7]].any()


@pytest.mark.parametrize("at", [pytest.param(3, id="first epoch"), pytest.param(13, id="while validating")])
def test_an_interruption_changes_no_number(at: int, uneven: PreparedData, tmp_path: Path) -> None:
    """Patches continue bit for bit, volumes of different sizes and sliding windows included."""
    config = make_config(epochs=2, patch=8, patches=2, model={"depth": 1}, augment="light")
    whole = run(config, uneven, tmp_path / "whole")
    asked = count()

    before = run(config, uneven, tmp_path / "parts", stop=lambda: next(asked) >= at)
    after = run(config, uneven, tmp_path / "parts")

    assert len(before) < len(whole)
    assert numbers(after) == numbers(whole)
    assert end_state(tmp_path / "parts") == end_state(tmp_path / "whole")


def test_pictures_are_trained_in_crops(data: PreparedData, tmp_path: Path) -> None:
    """In 2-D as well: stacks of slices, validated by windows, scored as volumes."""
    reports = run(make_config(epochs=1, patch=16, patches=2, foreground=0.5), data, tmp_path / "run")

    assert [case.case for case in reports[0].cases] == list(data.validation.cases)
    assert reports[0].metrics["dice"] is not None
    with np.load(tmp_path / "run" / "predictions.npz") as file:
        assert file[data.validation.cases[0]].shape == (4, 32, 32)


def test_windows_see_what_whole_samples_see(data: PreparedData) -> None:
    """A window as large as the sample gives the prediction of the whole sample."""
    from tuner.training.components import build_components

    trial = build_components(make_config(precision="float32"), data, "cpu")
    whole = Validator(data, "cpu", train=make_config().train).predict(trial, lambda: False)
    windows = Validator(data, "cpu", train=make_config(patch=32).train).predict(trial, lambda: False)

    assert whole is not None
    assert windows is not None
    assert (whole.labels != windows.labels).mean() < 1e-3
    assert abs(whole.confusion - windows.confusion).sum() <= 1e-3 * whole.confusion.sum()


def test_uneven_samples_without_patches_are_refused(uneven: PreparedData, tmp_path: Path) -> None:
    """Whoever made the data some other way than by a study file is told as well."""
    with pytest.raises(SpecError, match="trained on in patches"):
        run(make_config(), uneven, tmp_path)


@pytest.mark.parametrize(
    ("dataset", "patch", "message"),
    [
        pytest.param({"name": "phantom", "dimensions": 3}, [16, 16], "has 2 sizes.*D, H, W", id="axes"),
        pytest.param({"name": "phantom"}, [8, 16, 16], "has 3 sizes.*H, W", id="2d"),
        pytest.param({"name": "phantom"}, [0, 16], "each from 1 to 4096", id="zero"),
        pytest.param({"name": "phantom"}, "16x16", "each from 1 to 4096", id="text"),
        pytest.param({"name": "folder", "resize": False}, None, "train.patch: missing", id="uneven"),
    ],
)
def test_refused_before_anything_is_read(dataset: dict[str, object], patch: object, message: str) -> None:
    """A patch that no sample has is found in the study file."""
    with pytest.raises(SpecError, match=message):
        load_config({"dataset": dataset, "train": {"patch": patch}})
