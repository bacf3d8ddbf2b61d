"""Augmentation: exact where it can be, labels with their pixels, alike on every call with the same seed."""

from typing import Any

import pytest
import torch

from tuner.data.augmentation import Augment
from tuner.data.augmentation_options import AUGMENTATIONS, complete_augmentation
from tuner.errors import DataError, SpecError, UnknownNameError

OFF = {option.name: 0.0 for option in AUGMENTATIONS}

SHAPES = [pytest.param((20, 20), id="2d"), pytest.param((6, 20, 20), id="3d")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(*space: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 9, (count, *space), generator=seeded(1))
    labels[:, ..., 3, 4] = 255
    return labels[:, None].float(), labels


@pytest.mark.parametrize("space", SHAPES)
def test_labels_move_with_their_pixels(space: tuple[int, ...]) -> None:
    """A label that is one pixel off its image would be noise in every loss."""
    labels = torch.zeros(16, *space, dtype=torch.int64)
    labels[..., 4:16, 3:12] = 5
    options = OFF | {"affine": 1, "rotation": 45, "scale": 0.3, "translation": 0.1, "flip_width": 0.5}

    images, moved = Augment(options, 255)(labels[:, None].float(), labels, seeded())

    assert not torch.equal(moved, labels)
    certain = (images[:, 0] < 0.5) | (images[:, 0] > 4.5)
    assert ((images[:, 0] > 2.5).long() * 5 == moved)[certain].all()


@pytest.mark.parametrize("space", SHAPES)
@pytest.mark.parametrize(("name", "axis"), [("flip_width", -1), ("flip_height", -2)])
def test_flips_are_exact(space: tuple[int, ...], name: str, axis: int) -> None:
    """A flip through the grid is a flip, ignored pixels included."""
    images, labels = batch(*space)

    flipped, moved = Augment(OFF | {name: 1.0}, 255)(images, labels, seeded())

    torch.testing.assert_close(flipped, images.flip(axis), atol=2e-3, rtol=0)
    assert torch.equal(moved, labels.flip(axis))


def test_flip_of_depth() -> None:
    """The first axis of a volume; a picture has none."""
    images, labels = batch(6, 10, 12)

    assert torch.equal(Augment(OFF | {"flip_depth": 1.0}, 255)(images, labels, seeded())[1], labels.flip(1))
    images, labels = batch(10, 12)
    assert torch.equal(Augment(OFF | {"flip_depth": 1.0}, 255)(images, labels, seeded())[1], labels)


def test_quarter_turns_are_exact() -> None:
    """Every sample of a square batch is turned by 90, 180 or 270 degrees, and each of them occurs."""
    images, labels = batch(20, 20, count=32)

    turned, moved = Augment(OFF | {"quarter_turns": 1.0}, 255)(images, labels, seeded())

    seen = set()
    for sample in range(32):
        matches = [k for k in range(4) if torch.equal(moved[sample], labels[sample].rot90(k))]
        assert len(matches) == 1
        seen |= set(matches)
        torch.testing.assert_close(turned[sample, 0], images[sample, 0].rot90(matches[0]), atol=2e-3, rtol=0)
    assert seen == {1, 2, 3}


def test_rotation_keeps_angles_on_oblong_images() -> None:
    """In normalised coordinates a rotation shears an image that is not square; a round disc must stay round."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(100.0), indexing="ij")
    disc = ((rows - 19.5) ** 2 + (columns - 49.5) ** 2 < 15**2).long().expand(8, -1, -1)

    _, moved = Augment(OFF | {"affine": 1.0, "rotation": 90.0}, 255)(disc[:, None].float(), disc, seeded())

    assert (moved != disc).float().mean() < 0.01


def test_outside_is_background() -> None:
    """What a shift brings in from outside is air with the label of the background, not a copy of the edge."""
    labels = torch.full((16, 20, 20), 3)

    images, moved = Augment(OFF | {"affine": 1.0, "translation": 0.3}, 255)(labels[:, None].float(), labels, seeded())

    assert set(moved.unique().tolist()) == {0, 3}
    assert images[:, 0][moved == 0].max() < 3
    assert images.min() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outside_of_a_patch_counts_for_nothing(dtype: torch.dtype) -> None:
    """Beyond the edge of a patch the image goes on: nobody knows what is there, so nothing is learnt from it."""
    labels = torch.randint(0, 9, (8, 20, 20), generator=seeded(1))
    options = OFF | {"affine": 1, "rotation": 45, "translation": 0.2}

    _, whole = Augment(options, 255)(labels[:, None].to(dtype), labels, seeded())
    _, patch = Augment(options, 255, outside=255)(labels[:, None].to(dtype), labels, seeded())

    beyond = patch == 255
    assert beyond.any()
    assert not whole[beyond].any()
    assert torch.equal(patch[~beyond], whole[~beyond])


def test_same_seed_same_batch_and_inputs_untouched() -> None:
    """A resumed trial draws what it would have drawn; cached samples are never overwritten."""
    images, labels = batch(20, 20)
    copies = images.clone(), labels.clone()
    options = {"flip_width": 0.5, "noise": 1.0}

    first = Augment(options, 255)(images, labels, seeded(7))
    again = Augment(options, 255)(images, labels, seeded(7))
    other = Augment(options, 255)(images, labels, seeded(8))

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


def test_kept_buffers_do_not_leak() -> None:
    """Memory that is kept from call to call must never show in a batch that was handed out before."""
    augment = Augment({"affine": 1.0}, 255)
    images, labels = batch(20, 20)
    first = augment(images, labels, seeded(1))
    kept = first[0].clone(), first[1].clone()

    augment(*batch(30, 14, count=3), seeded(2))
    augment(images.flip(0), labels.flip(0), seeded(3))

    assert torch.equal(first[0], kept[0])
    assert torch.equal(first[1], kept[1])


def test_all_off_changes_nothing() -> None:
    """Probability 0 means off, for every one of them."""
    images, labels = batch(20, 20)

    same = Augment(OFF, 255)(images, labels, seeded())

    assert torch.equal(same[0], images)
    assert torch.equal(same[1], labels)


def test_intensity_leaves_labels_and_stays_finite() -> None:
    """Constant images and images outside 0..1 are real: no division by a range of 0."""
    images = torch.stack([torch.zeros(1, 20, 20), torch.full((1, 20, 20), -3.0), torch.rand(1, 20, 20) * 400 - 100])
    labels = torch.zeros(3, 20, 20, dtype=torch.uint8)
    options = OFF | {"intensity": 1.0, "brightness": 0.2, "contrast": 0.5, "gamma": 1.0, "noise": 1.0, "noise_std": 0.1}

    shaded, same = Augment(options, 255)(images, labels, seeded())

    assert torch.isfinite(shaded).all()
    assert torch.equal(same, labels)
    assert not torch.equal(shaded[2], images[2])


def test_noise_has_the_size_it_says() -> None:
    """At most `noise_std` of the sample's own range."""
    images = torch.rand(64, 1, 32, 32, generator=seeded()) * 10
    noisy, _ = Augment(OFF | {"noise": 1.0, "noise_std": 0.1}, 255)(images, torch.zeros(64, 32, 32).long(), seeded())

    std = (noisy - images).flatten(1).std(1)

    assert std.max() < 1.1
    assert std.max() > 0.8
    assert std.min() < 0.2


def test_probability_is_a_probability() -> None:
    """Half of the samples are left as they are."""
    images, labels = batch(8, 8, count=400)
    _, moved = Augment(OFF | {"flip_width": 0.5}, 255)(images, labels, seeded())

    share = (moved != labels).flatten(1).any(1).float().mean()

    assert 0.42 < share < 0.58


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_types_are_kept(dtype: torch.dtype) -> None:
    """Labels may stay bytes on the device until the loss wants them."""
    images, labels = batch(12, 12)

    out = Augment({}, 255)(images, labels.to(dtype), seeded())

    assert out[0].dtype == torch.float32
    assert out[1].dtype == dtype


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rotaton": 3}, UnknownNameError, "Did you mean 'rotation'"),
        ({"affine": 2}, SpecError, "affine: 2 is above the limit 1.0"),
    ],
    ids=["name", "limit"],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """A misspelt augmentation is refused, not ignored."""
    with pytest.raises(error, match=message):
        Augment(options, 255)


def test_data_sets_may_prefer_otherwise() -> None:
    """An abdomen is never mirrored unless the study says so."""
    assert complete_augmentation({}, dataset="synapse")["flip_width"] == 0
    assert complete_augmentation({"flip_width": 0.5}, dataset="synapse")["flip_width"] == 0.5


def test_shapes_that_do_not_belong_together() -> None:
    """A transposed label would train on nonsense."""
    with pytest.raises(DataError, match="do not belong together"):
        Augment({}, 255)(torch.zeros(2, 1, 8, 9), torch.zeros(2, 9, 8), seeded())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_alike_on_the_gpu() -> None:
    """A trial means the same on every device."""
    images, labels = batch(32, 32)
    here = Augment({}, 255)(images, labels, seeded())
    there = Augment({}, 255)(images.cuda(), labels.cuda(), seeded())

    torch.testing.assert_close(there[0].cpu(), here[0], atol=1e-3, rtol=1e-3)
    assert (there[1].cpu() != here[1]).float().mean() < 1e-3
