"""Our losses against MONAI where MONAI is right, and against slow float64 loops from the papers elsewhere."""

import math

import numpy as np
import pytest
import torch
from monai import losses as monai
from torch.nn import functional as F

from tests.losses.images import FREQUENCIES, VOID, blobs, built, scores, truth
from tuner.losses.inverse_form import FrozenRegressor, drawn_pairs, geodesic_distance

TARGET = blobs((12, 12))
LOGITS = scores(TARGET)
MASKED = TARGET.clone()
MASKED[:, :2] = VOID


def against_monai(ours: torch.Tensor, theirs: torch.nn.Module) -> None:
    torch.testing.assert_close(ours, theirs(LOGITS, TARGET.unsqueeze(1)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True], ids=["plain", "squared"])
@pytest.mark.parametrize("batch", [False, True], ids=["image", "batch"])
@pytest.mark.parametrize("background", [False, True], ids=["foreground", "all"])
def test_dice_is_monais(squared: bool, batch: bool, background: bool) -> None:
    """Every flag means what it means there."""
    options = {"smooth": 0.1, "squared": squared, "batch": batch, "include_background": background, "classes": "all"}
    theirs = monai.DiceLoss(
        softmax=True,
        to_onehot_y=True,
        smooth_nr=0.1,
        smooth_dr=0.1,
        squared_pred=squared,
        batch=batch,
        include_background=background,
    )

    against_monai(built("dice", options)(LOGITS, TARGET), theirs)


def test_jaccard_is_monais() -> None:
    """MONAI's numerator is 2 I + s: its smooth is twice ours."""
    theirs = monai.DiceLoss(softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=2.0, smooth_dr=2.0, batch=True)
    ours = built("jaccard", {"smooth": 1.0, "classes": "all"})(LOGITS, TARGET)
    of = torch.softmax(LOGITS, 1)
    hot = F.one_hot(TARGET, 3).movedim(-1, 1).double()
    tp, p, t = ((of * hot).sum((0, 2, 3)), of.sum((0, 2, 3)), hot.sum((0, 2, 3)))

    torch.testing.assert_close(ours, (1 - (tp + 1) / (p + t - tp + 1)).mean())
    ours_small = built("jaccard", {"smooth": 1e-9, "classes": "all"})(LOGITS, TARGET)
    theirs_small = type(theirs)(
        softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=1e-9, smooth_dr=1e-9, batch=True
    )
    against_monai(ours_small, theirs_small)


def test_tversky_is_monais() -> None:
    """Alpha weighs false positives, beta false negatives, there and here."""
    theirs = monai.TverskyLoss(
        softmax=True, to_onehot_y=True, alpha=0.2, beta=0.9, smooth_nr=0.5, smooth_dr=0.5, batch=True
    )
    options = {"alpha": 0.2, "beta": 0.9, "smooth": 0.5, "classes": "all"}

    against_monai(built("tversky", options)(LOGITS, TARGET), theirs)


def test_focal_is_monais_times_the_classes() -> None:
    """MONAI divides by N times C."""
    theirs = monai.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=1.5)

    torch.testing.assert_close(
        built("focal", {"gamma": 1.5})(LOGITS, TARGET).float(),
        3 * theirs(LOGITS, TARGET.unsqueeze(1)),
        atol=1e-6,
        rtol=1e-6,
    )


def test_dice_cross_entropy_is_monais() -> None:
    """Half of the sum with lambdas 1 and 1."""
    theirs = monai.DiceCELoss(softmax=True, to_onehot_y=True, smooth_nr=1e-5, smooth_dr=1e-5, batch=True)
    ours = built("dice_cross_entropy", {"weight": 0.5, "classes": "all"})(LOGITS, TARGET)

    against_monai(2 * ours, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1], ids=["hard", "smoothed"])
@pytest.mark.parametrize("exponent", [0.0, 0.7], ids=["unweighted", "weighted"])
def test_cross_entropy_is_torchs(smoothing: float, exponent: float) -> None:
    """With void pixels; torch's mean over pixels, each with the weight of its true class."""
    weights = torch.tensor(FREQUENCIES, dtype=torch.float64) ** -exponent
    weights /= weights.mean()

    ours = built("cross_entropy", {"label_smoothing": smoothing, "class_weight_exponent": exponent})(LOGITS, MASKED)

    # torch weighs the smoothed part by the other classes' weights
    pixels = F.cross_entropy(LOGITS, MASKED, ignore_index=VOID, label_smoothing=smoothing, reduction="none")
    of_pixel = weights[MASKED.masked_fill(MASKED == VOID, 0)] * (MASKED != VOID)
    torch.testing.assert_close(ours, (pixels * of_pixel).sum() / of_pixel.sum(), rtol=1e-6, atol=1e-6)


def pixels(target: torch.Tensor = MASKED) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [V, C] and labels [V] of the valid pixels, in numpy."""
    z = LOGITS.numpy()
    p = np.exp(z - z.max(1, keepdims=True))
    p = np.moveaxis(p / p.sum(1, keepdims=True), 1, -1).reshape(-1, 3)
    y = target.numpy().reshape(-1)
    return p[y != VOID], y[y != VOID]


@pytest.mark.parametrize("k", [1.0, 10.0, 33.0, 100.0], ids=str)
def test_topk_is_the_mean_of_the_hardest(k: float) -> None:
    """Void pixels neither count nor fill places."""
    p, y = pixels()
    nll = np.sort(-np.log(p[np.arange(len(y)), y]))[::-1]
    expected = nll[: max(1, int(k / 100 * len(y)))].mean()

    assert float(built("topk", {"k": k})(LOGITS, MASKED)) == pytest.approx(expected, abs=1e-9)


def test_topk_of_all_is_cross_entropy() -> None:
    """K = 100 leaves nothing out."""
    torch.testing.assert_close(built("topk", {"k": 100.0})(LOGITS, MASKED), built("cross_entropy")(LOGITS, MASKED))


def test_focal_without_focus_is_cross_entropy() -> None:
    """Gamma = 0."""
    torch.testing.assert_close(built("focal", {"gamma": 0.0})(LOGITS, MASKED), built("cross_entropy")(LOGITS, MASKED))


@pytest.mark.parametrize("smooth", [0.0, 1.0], ids=str)
def test_tversky_contains_dice_and_jaccard(smooth: float) -> None:
    """At one half Dice, with half its smooth; at one Jaccard."""
    even = built("tversky", {"alpha": 0.5, "beta": 0.5, "smooth": smooth / 2})(LOGITS, MASKED)
    full = built("tversky", {"alpha": 1.0, "beta": 1.0, "smooth": smooth})(LOGITS, MASKED)

    torch.testing.assert_close(even, built("dice", {"smooth": smooth})(LOGITS, MASKED))
    torch.testing.assert_close(full, built("jaccard", {"smooth": smooth})(LOGITS, MASKED))


def test_null_beta_is_one_minus_alpha() -> None:
    """What the catalogue says."""
    assert built("tversky", {"alpha": 0.2})(LOGITS, MASKED) == built("tversky", {"alpha": 0.2, "beta": 0.8})(
        LOGITS, MASKED
    )


def test_focal_tversky_with_gamma_one_is_tversky() -> None:
    """The exponent is 1/gamma."""
    torch.testing.assert_close(
        built("focal_tversky", {"gamma": 1.0, "smooth": 1e-5})(LOGITS, MASKED), built("tversky")(LOGITS, MASKED)
    )


def lovasz_by_definition(p: np.ndarray, y: np.ndarray) -> float:
    """The mean over present classes, with the Jaccard loss of every set of the k largest errors."""
    losses = []
    for c in range(p.shape[1]):
        t = (y == c).astype(float)
        if t.sum() == 0:
            continue
        errors = np.abs(t - p[:, c])
        order = np.argsort(-errors)
        before, loss = 0.0, 0.0
        for place in range(len(y)):
            wrong = order[: place + 1]
            kept = t.sum() - t[wrong].sum()
            union = t.sum() + (1 - t[wrong]).sum()
            loss += errors[order[place]] * (1 - kept / union - before)
            before = 1 - kept / union
        losses.append(loss)
    return float(np.mean(losses))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_lovasz_is_its_definition(dtype: torch.dtype) -> None:
    """Both sorting paths, with void pixels."""
    ours = built("lovasz_softmax", {"cross_entropy_weight": 0.0})(LOGITS.to(dtype), MASKED)

    assert float(ours) == pytest.approx(lovasz_by_definition(*pixels()), abs=1e-6)


def test_lovasz_of_a_hard_prediction_is_the_jaccard_loss() -> None:
    """The extension meets the set function on the corners."""
    prediction = TARGET.roll(2, 1)
    ours = built("lovasz_softmax", {"cross_entropy_weight": 0.0})(truth(prediction, gap=200.0), TARGET)
    jaccard = [
        1 - float(((prediction == c) & (c == TARGET)).sum() / ((prediction == c) | (c == TARGET)).sum())
        for c in range(3)
    ]

    assert float(ours) == pytest.approx(sum(jaccard) / 3, abs=1e-6)


def test_exponential_logarithmic_is_the_papers() -> None:
    """The formula, spelt out over pixels."""
    p, y = pixels()
    f = np.array(FREQUENCIES)
    dice = [(2 * p[y == c, c].sum() + 1) / (p[:, c].sum() + (y == c).sum() + 1) for c in range(3)]
    rough = np.mean([(-math.log(d)) ** 0.3 for d in dice])
    fine = np.mean(np.sqrt(f.sum() / f[y]) * (-np.log(p[np.arange(len(y)), y])) ** 0.3)

    assert float(built("exponential_logarithmic")(LOGITS, MASKED)) == pytest.approx(0.8 * rough + 0.2 * fine, abs=1e-6)


def test_combo_of_two_classes_is_the_papers() -> None:
    """Beta weighs the foreground, and false positives are not rewarded."""
    target = TARGET.clamp_max(1)
    z = LOGITS[:, :2]
    p = torch.softmax(z, 1)[:, 1]
    t = target.double()
    entropy = -(0.7 * t * p.log() + 0.3 * (1 - t) * (1 - p).log()).mean()
    dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)

    ours = built("combo", {"alpha": 0.4, "beta": 0.7}, classes=2)(z, target)

    torch.testing.assert_close(ours, 0.4 * entropy + 0.6 * (1 - dice))


def test_combo_of_many_classes_is_the_surveys() -> None:
    """Even weights: cross-entropy and Dice, half and half."""
    ours = built("combo")(LOGITS, TARGET)
    dice = built("dice", {"smooth": 1.0, "classes": "all"})(LOGITS, TARGET)

    torch.testing.assert_close(ours, 0.5 * F.cross_entropy(LOGITS, TARGET) + 0.5 * dice)


def test_log_cosh_is_the_logarithm_of_the_hyperbolic_cosine() -> None:
    """The stable form is the plain one."""
    dice = built("dice")(LOGITS, MASKED)

    torch.testing.assert_close(built("log_cosh_dice")(LOGITS, MASKED), torch.log(torch.cosh(dice)))


def test_sums_of_a_whole_image_keep_small_changes() -> None:
    """float32 sums in one bin would stop counting at sixteen million, and round long before."""
    target = torch.zeros(1, 1024, 1024, dtype=torch.int64)
    logits = torch.zeros(1, 2, 1024, 1024)
    logits[:, 0] = 4.59512

    value = built("dice", {"classes": "all"}, classes=2)(logits, target)
    exact = built("dice", {"classes": "all"}, classes=2)(logits.double(), target)

    assert float(value) == pytest.approx(float(exact), abs=1e-6)


def test_geodesic_distance_is_the_angle_of_the_nearest_rotation() -> None:
    """By singular values in numpy; and the slope exists where these are equal."""
    theta = np.array([[1.1, 0.05, -0.2], [-0.03, 0.9, 0.1], [0.0, 0.0, 1.0]])
    u, _, v = np.linalg.svd(theta)
    identity = torch.eye(3, dtype=torch.float64, requires_grad=True)

    assert float(geodesic_distance(torch.tensor(theta))) == pytest.approx(np.arccos((np.trace(u @ v) - 1) / 2))
    assert torch.autograd.grad(geodesic_distance(identity), identity)[0].isfinite().all()


def test_regressor_finds_how_borders_were_moved() -> None:
    """A regressor that had learnt nothing would make InverseForm a constant."""
    maps, coefficients = drawn_pairs(128, torch.Generator().manual_seed(5))

    found = FrozenRegressor(classes=3)(maps)

    assert (found - coefficients).square().mean() < 0.5 * coefficients.square().mean()
