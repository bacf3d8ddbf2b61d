"""Distances of masks that change in every step, on the host and by torch alone, against scipy's."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.losses.images import VOID, blobs
from tuner.label_maps import MAPS
from tuner.losses.distance_transform import DEVICE_MAPS, NEAR, squared_border_distances, squared_distances

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
    expected = np.stack([to_nearest(mask) for mask in found.numpy()])

    torch.testing.assert_close(squared_distances(found).sqrt().double(), torch.from_numpy(expected))


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
