"""What the file of vectors says of single losses, in 2-D and 3-D; what holds for all is in test_properties."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.losses.images import VOID, blobs, built, scores, truth
from tuner.losses.batch import read_inputs
from tuner.losses.build import COMPANION
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.distance_transform import target_map
from tuner.losses.robust import student_t
from tuner.registry import load

Shape = tuple[int, ...]


def scene(shape: Shape) -> tuple[Tensor, Tensor]:
    """Random logits and labels with void."""
    target = blobs(shape)
    target[:, 0] = VOID
    return scores(target), target


def alone(name: str, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """The formula with its defaults, no base."""
    chosen = {option.name: option.default for option in LOSSES[name].own_options} | options
    value: Tensor = load(LOSSES[name].fn)(logits, target, ignore_index=VOID, **chosen)
    return value


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("topk", {"k": 100.0}, id="topk_100"),
        pytest.param("focal", {"gamma": 0.0}, id="focal_0"),
        pytest.param("poly1", {"epsilon": 0.0}, id="poly_0"),
        pytest.param("distance_map_ce", {"weight": 0.0}, id="dmce_const"),
        pytest.param("logit_adjusted_ce", {"tau": 0.0}, id="logit_adjusted_0"),
        pytest.param("nacl", {"weight": 0.0}, id="nacl_0"),
        pytest.param("ohem_ce", {"threshold": 0.999, "minimum_share": 1.0}, id="ohem_all"),
    ],
)
def test_pixel_losses_contain_cross_entropy(name: str, options: dict[str, float], shape: Shape) -> None:
    """Switched off, a refinement must leave the plain loss."""
    logits, target = scene(shape)

    torch.testing.assert_close(built(name, options)(logits, target), F.cross_entropy(logits, target, ignore_index=VOID))


@pytest.mark.parametrize("smooth", [0.0, 1.0], ids=str)
def test_overlap_losses_contain_each_other(smooth: float, shape: Shape) -> None:
    """Tversky at one half is Dice with twice the smooth, at one Jaccard; without focus focal Tversky is Tversky."""
    logits, target = scene(shape)
    even = {"alpha": 0.5, "beta": 0.5, "smooth": smooth / 2}
    full = {"alpha": 1.0, "beta": 1.0, "smooth": smooth}

    torch.testing.assert_close(alone("tversky", logits, target, **even), alone("dice", logits, target, smooth=smooth))
    jaccard = alone("jaccard", logits, target, smooth=smooth)
    torch.testing.assert_close(alone("tversky", logits, target, **full), jaccard)
    bare = alone("focal_tversky", logits, target, **even, gamma=1.0)
    torch.testing.assert_close(bare, alone("tversky", logits, target, **even))
    plus = alone("dice_plus_plus", logits, target, gamma=1.0, smooth=smooth)
    torch.testing.assert_close(plus, alone("dice", logits, target, smooth=smooth))


def test_lovasz_of_a_hard_prediction_is_one_minus_the_hard_jaccard_index(shape: Shape) -> None:
    """lovasz_hard: the extension meets the set function on its corners, absent classes left out."""
    target = blobs(shape)
    target[target == 2] = 0
    prediction = target.roll(1, 1)
    found = built("lovasz_softmax", {COMPANION: 0.0})(truth(prediction, gap=200.0), target)
    hard = [1 - ((prediction == c) & (target == c)).sum() / ((prediction == c) | (target == c)).sum() for c in range(2)]

    assert float(found) == pytest.approx(float(sum(hard)) / 2, abs=1e-6)


def test_wasserstein_of_two_classes_is_like_dice(shape: Shape) -> None:
    """gwdl_01: 1 - 2 TP / (2 TP + sum (1 - p_t)), TP the probability found on the foreground."""
    target = blobs(shape, images=1).clamp_max(1)
    logits = scores(target, classes=2)
    p = torch.softmax(logits, 1)[:, 1]
    found, error = p[target == 1].sum(), torch.where(target == 1, 1 - p, p).sum()

    value = alone("generalized_wasserstein_dice", logits, target, smooth=0.0)

    torch.testing.assert_close(value, 1 - 2 * found / (2 * found + error))


@pytest.mark.parametrize("alpha", [-1.0, 0.0], ids=["squared-dice", "squared-jaccard"])
def test_boundary_dou_at_fixed_alpha(alpha: float, shape: Shape) -> None:
    """bdou_limits: (A - 2 I) / A at -1, where alpha_max cuts; 1 - I / (A - I) at 0, for a broad object."""
    target = torch.zeros(1, *(12 for _ in shape), dtype=torch.int64)
    target[(0, *(slice(1, 11) for _ in shape))] = 1
    logits = scores(target, classes=2)
    p, t = torch.softmax(logits, 1)[:, 1], target.double()
    both, shared = p.square().sum() + t.sum(), (p * t).sum()
    other = alone("boundary_dou", logits, target, alpha_max=-1.0, smooth=0.0, classes="all")
    if alpha == 0.0:
        # the background is a thin frame: alpha -1 whatever the limit, so the difference is the object's
        value = alone("boundary_dou", logits, target, alpha_max=0.0, smooth=0.0, classes="all")
        expected = (1 - shared / (both - shared)) - (both - 2 * shared) / both
        torch.testing.assert_close(2 * (value - other), expected)
        return
    q = torch.softmax(logits, 1)[:, 0]
    rest, own = q.square().sum() + (1 - t).sum(), (q * (1 - t)).sum()
    torch.testing.assert_close(other, ((both - 2 * shared) / both + (rest - 2 * own) / rest) / 2)


@pytest.mark.parametrize("variant", ["distance", "erosion"])
def test_hausdorff_of_the_truth_is_zero(variant: str, shape: Shape) -> None:
    """hd_zero: nothing is far from where it should be."""
    target = blobs(shape)

    value = alone("hausdorff", truth(target, gap=200.0), target, variant=variant, include_background=True)

    assert float(value) == pytest.approx(0, abs=1e-12)


def test_least_boundary_loss_is_the_negative_part_of_its_map(shape: Shape) -> None:
    """boundary_min: all probability on the pixels deep inside."""
    target = blobs(shape, images=1).clamp_max(1)
    phi = target_map(read_inputs(scores(target, classes=2), target, ignore_index=VOID), "signed_distance", None)[:, 1]

    value = alone("boundary", truth((phi < 0).long(), gap=200.0, classes=2), target)

    assert value < 0
    torch.testing.assert_close(value, phi.clamp_max(0).mean())


@pytest.mark.parametrize("gap", [-200.0, 0.0, 200.0], ids=str)
def test_region_wise_is_at_most_one_in_size(gap: float, shape: Shape) -> None:
    """boundary_min: the rectified map is in [-1, 1]."""
    target = blobs(shape)

    assert abs(alone("region_wise", truth(target, gap=gap), target)) <= 1


def test_student_t_of_many_degrees_of_freedom_is_the_squared_error() -> None:
    """tloss_gauss: the survey says it the other way round."""
    errors, pixels = torch.tensor([0.0, 0.3, 1.7, 8.0]).double(), torch.tensor(25.0).double()

    def over_zero(nu: float) -> Tensor:
        value = student_t(errors, pixels, torch.tensor(nu, dtype=torch.float64))
        return value - value[0]

    torch.testing.assert_close(over_zero(1e8), errors / 2, atol=1e-5, rtol=1e-5)
    # few degrees: an outlier costs the less per unit the farther it is
    slopes = over_zero(1.0)[1:] / errors[1:]
    assert (slopes.diff() < 0).all()
