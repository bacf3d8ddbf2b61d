"""Distances of masks that change in every step, on the host and by torch alone, against scipy's."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode

from tests.losses.images import VOID, blobs
from tuner.label_maps import MAPS
from tuner.losses import distance_transform
from tuner.losses.distance_transform import DEVICE_MAPS, NEAR, squared_border_distances, squared_region_distances

SHAPES = [(1, 1), (1, 9), (9, 1), (40, 33), (30, 200), (9, 12, 70), (1, 2, 3)]


def masks(sizes: tuple[int, ...]) -> torch.Tensor:
    """Empty, full, one pixel, a far corner, sparse, dense and one compact object."""
    generator = torch.Generator().manual_seed(0)
    found = torch.zeros(7, *sizes, dtype=torch.bool)
    found[1] = True
    found[2][tuple(side // 2 for side in sizes)] = True
    found[3][(0,) * len(sizes)] = True
    found[4] = torch.rand(sizes, generator=generator) < 0.02
    found[5] = torch.rand(sizes, generator=generator) < 0.6
    found[6][tuple(slice(side // 4, side // 2 + 1) for side in sizes)] = True
    return found


def to_nearest(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_border_distances_are_scipys(sizes: tuple[int, ...]) -> None:
    """A Hausdorff loss with other distances than MONAI's would be another loss."""
    found = masks(sizes)
    expected = [to_nearest(m) + to_nearest(~m) if m.any() and not m.all() else np.zeros(sizes) for m in found.numpy()]

    got = squared_border_distances(found)

    assert got.dtype == torch.float32
    torch.testing.assert_close(got.sqrt().double(), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_distances_by_torch_are_scipys(sizes: tuple[int, ...]) -> None:
    """The transform that runs on a device must be exact there too."""
    found = masks(sizes)
    expected = [to_nearest(m) + to_nearest(~m) if m.any() and not m.all() else np.zeros(sizes) for m in found.numpy()]

    torch.testing.assert_close(squared_region_distances(found).sqrt().double(), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("block", [1, 500, distance_transform.BLOCK], ids=["rows", "few", "whole"])
@pytest.mark.parametrize("seed", range(20))
def test_maps_by_torch_are_those_of_the_loader_to_the_bit(
    seed: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of any size, batch and density, in as many blocks as memory asks for, are measured as the host does."""
    rng = np.random.default_rng(seed)
    dims = 2 + seed % 2
    sizes = tuple(int(side) for side in rng.integers(1, 25 if dims == 2 else 12, dims))
    images, classes = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    labels = rng.integers(-1, classes, (images, *sizes))
    if seed % 4 >= 2:
        labels = np.where(rng.random(labels.shape) < 0.03, labels, 1)
    labels[0] = int(rng.integers(-1, classes))
    labels[-1][tuple(int(rng.integers(side)) for side in sizes)] = 0
    monkeypatch.setattr(distance_transform, "BLOCK", block)

    for name, make in DEVICE_MAPS.items():
        expected = np.stack([MAPS[name](image, classes=classes, void=-1) for image in labels])
        assert torch.equal(make(torch.from_numpy(labels), classes=classes), torch.from_numpy(expected)), name
    mask = torch.from_numpy(labels > 0)
    assert torch.equal(squared_region_distances(mask), squared_border_distances(mask))


def test_objects_that_wind_are_found_whole() -> None:
    """The number of rounds is fixed beforehand: it must be enough for the longest way through an image."""
    labels = torch.zeros(3, 17, 17, dtype=torch.int64)
    labels[:2, ::2] = 1
    labels[0, 1::4, -1] = labels[0, 3::4, 0] = 1
    labels[1, 1::2, 8] = 2
    labels[2, ::2, ::2] = 1
    expected = np.stack([MAPS["objects"](image, classes=3, void=-1) for image in labels.numpy()])

    got = DEVICE_MAPS["objects"](labels, classes=3)

    assert expected.max((1, 2)).tolist() == [1, 17, 81]
    assert torch.equal(got, torch.from_numpy(expected))


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and "expand" not in str(func):
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize("block", [1, 10_000])
def test_memory_of_the_transform_is_bounded(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of places on an axis at once would take the side times the memory of the masks."""
    found = masks((40, 33))
    monkeypatch.setattr(distance_transform, "BLOCK", block)

    with Largest() as largest:
        squared_region_distances(found)

    assert largest.numbers <= max(block, 2 * found.numel())


def test_both_ways_on_the_host_are_tried() -> None:
    """The scenes above hold masks within reach of the steps and masks beyond it."""
    far = [float(squared_border_distances(masks(sizes)).max()) ** 0.5 for sizes in SHAPES]

    assert min(far) < NEAR < max(far)


@pytest.mark.parametrize("name", sorted(DEVICE_MAPS))
@pytest.mark.parametrize("sizes", [(14, 11), (6, 7, 9)], ids=["2d", "3d"])
def test_maps_by_torch_are_those_of_the_loader(name: str, sizes: tuple[int, ...]) -> None:
    """A loss on a device would weigh pixels otherwise than on the CPU."""
    labels = torch.cat([blobs(sizes), torch.zeros(1, *sizes, dtype=torch.int64)])
    labels[0][:2] = VOID
    marked = torch.where(labels == VOID, -1, labels)
    expected = np.stack([MAPS[name](image, classes=3, void=-1) for image in marked.numpy()])

    torch.testing.assert_close(DEVICE_MAPS[name](marked, classes=3), torch.from_numpy(expected))
