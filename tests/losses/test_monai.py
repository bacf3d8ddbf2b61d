"""Our losses against MONAI's where MONAI has the same formula, in 2-D and 3-D; it knows no void pixels, so without."""

import pytest
import torch
from monai import losses as monai
from torch import Tensor
from torch.nn import functional as F

from tests.losses.images import blobs, scores
from tests.losses.test_vector_properties import alone

Shape = tuple[int, ...]
SIBLINGS = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]])
SHARED = {"softmax": True, "to_onehot_y": True}
SMOOTH = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("batch", [False, True], ids=["image", "batch"])
@pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
def test_generalized_dice(batch: bool, weighting: str, shape: Shape) -> None:
    """Absent classes take the largest weight there too."""
    target = blobs(shape)
    target[1][target[1] == 2] = 0
    logits = scores(target)
    theirs = monai.GeneralizedDiceLoss(**SHARED, smooth_nr=0, smooth_dr=0, w_type=weighting, batch=batch)

    ours = alone("generalized_dice", logits, target, class_weighting=weighting, batch=batch, smooth=0.0)

    close(ours, theirs(logits, target.unsqueeze(1)))


@pytest.mark.parametrize("weighting", ["default", "GDL"])
def test_generalized_wasserstein_dice(weighting: str, shape: Shape) -> None:
    """Siblings at half the distance."""
    target = blobs(shape)
    logits = scores(target)
    theirs = monai.GeneralizedWassersteinDiceLoss(SIBLINGS.numpy(), weighting_mode=weighting, **SMOOTH)

    ours = alone(
        "generalized_wasserstein_dice", logits, target, sibling_distance=0.5, weighting=weighting.lower(), smooth=1e-5
    )

    close(ours, theirs(logits.float(), target.unsqueeze(1)))


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "all"])
def test_distances(background: bool, shape: Shape) -> None:
    """Their distance transforms are scipy's."""
    target = blobs(shape)
    logits, labels = scores(target), target.unsqueeze(1)
    options = {"include_background": background}

    close(
        alone("hausdorff", logits, target, alpha=1.5, **options),
        monai.HausdorffDTLoss(alpha=1.5, **SHARED, **options)(logits, labels),
    )
    close(
        alone("log_hausdorff", logits, target, **options),
        monai.LogHausdorffDTLoss(**SHARED, **options)(logits, labels),
    )
    close(alone("boundary", logits, target, **options), monai.BoundaryLoss(**SHARED, **options)(logits, labels))


def test_neighbour_aware_calibration(shape: Shape) -> None:
    """The mean kernel, zeros outside."""
    target = blobs(shape)
    logits = scores(target)
    theirs = monai.NACLLoss(classes=3, dim=len(shape), kernel_ops="mean", alpha=0.2)

    close(alone("nacl", logits, target, weight=0.2), theirs(logits.float(), target))


def test_soft_cldice_of_one_image(shape: Shape) -> None:
    """Theirs is a mean over images, ours sums over the batch; for one image they are the same."""
    target = blobs(shape, images=1).clamp_max(1)
    logits = scores(target, classes=2)
    hot = F.one_hot(target, 2).movedim(-1, 1).double()

    ours = alone("soft_cldice", logits, target, iterations=3, smooth=1.0)

    close(ours, monai.SoftclDiceLoss(iter_=3, smooth=1e-12)(torch.softmax(logits, 1)[:, 1:], hot[:, 1:]))


def test_matthews_correlation(shape: Shape) -> None:
    """Each class against the rest, mean over classes."""
    target = blobs(shape)
    logits = scores(target)
    theirs = monai.MCCLoss(**SHARED, batch=True, smooth_nr=0, smooth_dr=1e-12)

    close(alone("mcc", logits, target, smooth=0.0), theirs(logits, target.unsqueeze(1)))


def test_compounds_with_focal(shape: Shape) -> None:
    """MONAI's compounds take sigmoids for the focal part beside a softmax for the overlap; ours one softmax."""
    target = blobs(shape)
    logits, labels = scores(target), target.unsqueeze(1)
    even = {"class_frequencies": [1 / 3] * 3, "weight": 0.5, "gamma": 2.0}
    # divided by the number of classes there
    focal = 3 * monai.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2.0)(logits, labels)
    dice = monai.DiceLoss(**SHARED, **SMOOTH, batch=True)(logits, labels)
    generalized = monai.GeneralizedDiceLoss(**SHARED, smooth_nr=0, smooth_dr=0, batch=True)(logits, labels)

    close(2 * alone("dice_focal", logits, target, **even, classes="all"), dice + focal)
    close(2 * alone("generalized_dice_focal", logits, target, **even, smooth=0.0), generalized + focal)


def test_unified_focal_of_two_classes(shape: Shape) -> None:
    """MONAI takes probabilities although it says logits, and halves the focal part."""
    target = blobs(shape, images=1).clamp_max(1)
    logits = scores(target, classes=2)
    p, labels = torch.softmax(logits, 1), F.one_hot(target, 2).movedim(-1, 1).double()
    whole = monai.AsymmetricUnifiedFocalLoss(weight=0.0, gamma=0.4, delta=0.6)
    pixels = monai.AsymmetricUnifiedFocalLoss(weight=1.0, gamma=0.4, delta=0.6)
    options = {"gamma": 0.4, "delta": 0.6, "smooth": 1e-7}

    close(alone("unified_focal", logits, target, weight=0.0, **options), whole(p, labels))
    close(alone("unified_focal", logits, target, weight=1.0, **options), 2 * pixels(p, labels))


@pytest.mark.parametrize("alpha", [None, 0.25], ids=str)
def test_sigmoid_focal(alpha: float | None, shape: Shape) -> None:
    """One sigmoid for each of three classes that exclude each other, the background among them."""
    target = blobs(shape)
    logits = scores(target)
    hot = F.one_hot(target, 3).movedim(-1, 1).double()
    theirs = monai.FocalLoss(gamma=2.0, alpha=alpha)(logits, hot)

    close(alone("sigmoid_focal", logits, target, alpha=alpha), theirs)


def test_bce_dice_of_one_channel(shape: Shape) -> None:
    """A network with one output."""
    target = blobs(shape).clamp_max(1)
    logits = scores(target, classes=1)
    theirs = monai.DiceCELoss(sigmoid=True, batch=True, lambda_dice=0.5, lambda_ce=0.5, **SMOOTH)

    close(alone("bce_dice", logits, target, smooth=1e-5), theirs(logits, target.unsqueeze(1).double()))
