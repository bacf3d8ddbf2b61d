"""Skeletons: of skeleton recall the authors' (a thin centre line, dilated twice), of labels those of their masks."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import skeletonize
from torch.nn import functional as F

from tuner.label_maps import skeleton
from tuner.losses.neighbours import label_skeletons, soft_skeleton


@pytest.mark.parametrize("sides", [(48, 48), (16, 24, 24)], ids=["2d", "3d"])
def test_skeleton_is_the_authors(sides: tuple[int, ...]) -> None:
    """Lantuejoul's skeleton had 1.4 to 3 times as many pixels: in volumes nearly the whole object."""
    places = np.indices(sides)
    across = sum((p - side / 2) ** 2 for p, side in zip(places[:-1], sides[:-1], strict=True))
    tube = across <= 20
    labels = np.where(tube, 1 + (places[-1] > sides[-1] // 2), 0)

    theirs = ndimage.binary_dilation(skeletonize(tube) > 0, iterations=2) & tube

    assert np.array_equal(skeleton(labels, classes=3, void=-1), theirs)


@pytest.mark.parametrize("classes", [2, 8, 70])
@pytest.mark.parametrize("sides", [(40, 36), (9, 12, 14)], ids=["2d", "3d"])
def test_skeletons_of_labels_are_those_of_their_masks(sides: tuple[int, ...], classes: int) -> None:
    """Bits of one word, of a byte and of two words must do what floats of every class do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 1, *(side // 3 + 1 for side in sides), generator=generator)
    smooth = F.interpolate(coarse, size=sides, mode="bilinear" if len(sides) == 2 else "trilinear")[:, 0]
    labels = (smooth * (classes + 1)).long().clamp_max(classes)
    masks = (labels.unsqueeze(1) == torch.arange(1, classes + 1).view(-1, *(1,) * len(sides))).float()

    found = label_skeletons(labels, classes=classes, iterations=3)

    assert found.any()
    assert torch.equal(found, (soft_skeleton(masks, 3) > 0.5).any(1))
