"""Sliding windows: MONAI's places, weights and answer, with memory that does not grow with the volume."""

from itertools import product

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from tuner.models.build import SegmentationNet
from tuner.training.components import PlacedModel
from tuner.training.sliding_window import _RollingSums, crop, gaussian_weights, window_starts
from tuner.training.sliding_window import slide as slide_planes
from tuner.training.sliding_window import sliding_window_inference as slide


class Sloped(nn.Module):
    """A network whose answer depends on where in the window a pixel is, as that of a real one does at its edges."""

    stride = 1

    def __init__(self, dims: int, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(1)
        kind = nn.Conv2d if dims == 2 else nn.Conv3d
        self.layer = kind(1, classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        slope = torch.linspace(-2, 2, images.shape[-1])
        return self.layer(images) * slope + slope.flip(0)


def make_net(dims: int) -> PlacedModel:
    return PlacedModel(SegmentationNet("sloped", Sloped(dims)).eval(), "cpu", "float32", torch.contiguous_format)


@pytest.mark.parametrize(
    ("space", "patch", "overlap"),
    [
        pytest.param((37, 50), (16, 16), 0.25, id="2d"),
        pytest.param((64, 64), (32, 32), 0.5, id="2d-even"),
        pytest.param((20, 70), (32, 24), 0.25, id="2d-window-higher-than-the-image"),
        pytest.param((13, 29, 31), (8, 16, 12), 0.5, id="3d"),
        pytest.param((5, 16, 40), (8, 16, 16), 0.25, id="3d-thin"),
        pytest.param((6, 8, 8), (6, 8, 8), 0.25, id="one-window"),
    ],
)
def test_equal_to_monai(space: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> None:
    """The labels are those of the largest sum that MONAI's inferer, which holds all of it at once, comes to."""
    net = make_net(len(space))
    image = np.random.default_rng(0).normal(size=(1, *space)).astype(np.float32)

    ours = slide(net, image, patch=patch, overlap=overlap, batch_size=3)

    with torch.no_grad():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None],
            patch,
            3,
            net.model,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
        )
    assert ours is not None
    assert ours.shape == space
    assert (ours != theirs[0].argmax(0).numpy()).mean() < 1e-3
    means = np.zeros((4, *space), np.float32)
    for planes in slide_planes(net, image, patch=patch, overlap=overlap, batch_size=3):
        assert planes is not None
        means[:, planes.place] = planes.logits.numpy()
    np.testing.assert_allclose(means, theirs[0].numpy(), atol=1e-4)


@pytest.mark.parametrize(("size", "side", "overlap"), [(50, 16, 0.25), (16, 16, 0.5), (17, 16, 0.9), (100, 7, 0.0)])
def test_windows_cover_every_pixel(size: int, side: int, overlap: float) -> None:
    """Windows lie where MONAI lays them, inside the axis, without a gap."""
    starts = window_starts(size, side, overlap)
    interval = side if side == size else max(1, int(side * (1 - overlap)))

    assert starts == [s[0].start for s in dense_patch_slices((size,), (side,), (interval,))]
    assert set().union(*(range(start, start + side) for start in starts)) == set(range(size))


def test_weights_are_monais() -> None:
    """A Gaussian that never falls to zero: a corner that one window sees counts."""
    theirs = compute_importance_map((12, 9, 16), mode="gaussian", sigma_scale=0.125)

    np.testing.assert_allclose(gaussian_weights((12, 9, 16)), theirs, rtol=1e-4, atol=1e-6)


def test_memory_is_that_of_one_windows_depth() -> None:
    """A scan of a thousand slices needs no more room for sums than one of twenty."""
    sums = _RollingSums((1000, 8, 8), (4, 8, 8), "cpu")
    found = [sums.add((start, 0, 0), torch.full((3, 4, 8, 8), float(start))) for start in window_starts(1000, 4, 0.5)]

    assert sums._sums is not None
    assert sums._sums.shape == (3 + 1, 4, 8, 8)
    places = [planes.place for planes in (*found, sums.finish()) if planes is not None]
    assert [place.start for place in places] == [0, *(place.stop for place in places[:-1])]
    assert places[-1].stop == 1000


def test_it_can_be_stopped() -> None:
    """A large volume takes minutes; whoever stops a worker waits for one window at most."""
    image = np.zeros((1, 32, 32), np.float32)

    assert slide(make_net(2), image, patch=(8, 8), overlap=0.0, batch_size=1, stop=lambda: True) is None


def test_what_is_cut_beyond_the_edge_is_filled() -> None:
    """A piece keeps its size wherever it begins."""
    array = np.arange(12).reshape(1, 3, 4)

    for start in product((-2, 0, 2), (-1, 3)):
        piece = crop(array, start, (3, 3), fill=99)
        padded = np.pad(array, ((0, 0), (3, 3), (3, 3)), constant_values=99)
        y, x = (at + 3 for at in start)
        assert np.array_equal(piece, padded[:, y : y + 3, x : x + 3])
