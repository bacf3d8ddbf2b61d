"""The sigmoid form of every loss that has one against float64 formulas by hand, in two and three dimensions.

Losses that read all classes at once: the formulas of `tests.losses.by_hand` over sigmoids and over pairs of pixel and
class. Losses of each class against the rest: the mean over the classes of the two-class formula with logits [0, z].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from tests.losses.by_hand import boundary, combination, pixel, region, structure
from tests.losses.by_hand.reading import Array, Batch, Labels
from tuner import losses

SHAPES = {"2-D": (7, 9), "3-D": (5, 6, 7)}
VOID = 255
SMOOTH: dict[str, Any] = {"smooth": 0.1, "classes": "present"}
TVERSKY: dict[str, Any] = {"fp_weight": 0.3, "fn_weight": 0.7}


@dataclass(frozen=True)
class Overlapping(Batch):
    """Sigmoids p and targets t [N, C, *S]; a value for each pair of a valid pixel and a class."""

    @property
    def labels(self) -> Labels:
        return np.moveaxis(self.t, 1, -1)[self.v].ravel().astype(np.int64)

    @property
    def nll(self) -> Array:
        z, t = (np.moveaxis(maps, 1, -1)[self.v].ravel() for maps in (self.z, self.t))
        return np.log1p(np.exp(-np.abs(z))) + np.maximum(np.where(t == 1, -z, z), 0)

    def units(self, *, batch: bool) -> list[Batch]:
        if batch:
            return [self]
        parts = (slice(n, n + 1) for n in range(len(self.z)))
        return [Overlapping(self.z[n], self.y[n], self.p[n], self.t[n], self.v[n]) for n in parts]


def scene(shape: tuple[int, ...]) -> Overlapping:
    """Regions in one another, as BraTS's, and pixels of which nothing is known."""
    rng = np.random.default_rng(len(shape))
    depth = sum(np.meshgrid(*(np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in shape), indexing="ij"))
    t = np.stack([np.stack([depth + shift > level for level in (2, 4, 5)]) for shift in (0, 1)]).astype(float)
    z = rng.normal(0, 1.5, t.shape) + 2 * t - 1
    v = rng.random((2, *shape)) > 0.1
    p = 1 / (1 + np.exp(-z)) * v[:, None]
    return Overlapping(z, np.where(v, 0, VOID), p, t * v[:, None], v)


def binary(formula: Callable[..., float], **options: Any) -> Callable[[Overlapping], float]:
    """The mean over the classes of a formula for two classes that exclude each other."""

    def run(b: Overlapping) -> float:
        values = []
        for c in range(b.classes):
            labels = np.where(b.v, b.t[:, c], VOID).astype(np.int64)
            values.append(formula(np.stack([0 * b.z[:, c], b.z[:, c]], 1), labels, **options))
        return float(np.mean(values))

    return run


def on_sigmoids(formula: Callable[..., float], **options: Any) -> Callable[[Overlapping], float]:
    return lambda b: formula(b.z, b.y, **options)


def mean_nll(b: Overlapping) -> float:
    return float(b.nll.mean())


def weighed(share: float, first: Callable[[Overlapping], float], second: Callable[[Overlapping], float]) -> Any:
    return lambda b: share * first(b) + (1 - share) * second(b)


def exponential_logarithmic(b: Overlapping) -> float:
    axes = (0, *b.axes)
    index = (2 * (b.p * b.t).sum(axes) + 1) / (b.p.sum(axes) + b.t.sum(axes) + 1)
    shares = np.array(SHARES)
    weights = np.sqrt(shares.sum() / shares)
    of_pair = np.broadcast_to(weights, (*b.v.shape, b.classes))[b.v].ravel()
    return float(0.8 * ((-np.log(index)) ** 0.3).mean() + 0.2 * (of_pair * b.nll**0.3).mean())


def unified_focal(b: Overlapping) -> float:
    common, gamma, delta = b.labels == 0, 0.5, 0.6
    focused = (1 - np.exp(-b.nll)) ** gamma * b.nll
    pixels = np.where(common, (1 - delta) * focused, delta * b.nll)
    rough = []
    for unit in b.units(batch=False):
        axes = (0, *unit.axes)
        tp, p, t = (unit.p * unit.t).sum(axes), unit.p.sum(axes), unit.t.sum(axes)
        index = (tp + 0.1) / (tp + delta * (t - tp) + (1 - delta) * (p - tp) + 0.1)
        rough.append(((1 - index) ** (1 - gamma)).mean())
    return float(0.5 * pixels.mean() + 0.5 * np.mean(rough))


def student_t(b: Overlapping) -> float:
    nu, found = math.e + 1e-8, []
    for unit in b.units(batch=False):
        d = float(unit.v.sum())
        for c in range(b.classes):
            s = ((unit.p[:, c] - unit.t[:, c])[unit.v] ** 2).sum()
            constant = -math.lgamma((nu + d) / 2) + math.lgamma(nu / 2) + d / 2 * math.log(math.pi * nu)
            found.append((constant + (nu + d) / 2 * math.log(1 + s / nu)) / d)
    return float(np.mean(found))


def boundary_dou(b: Overlapping) -> float:
    found = []
    for c in range(b.classes):
        rim = 0
        for image in b.t[:, c]:
            core = np.pad(image, 1)
            around = [np.roll(core, step, axis) for axis in range(image.ndim) for step in (-1, 1)]
            inner = np.logical_and.reduce([side > 0 for side in around])[(slice(1, -1),) * image.ndim]
            rim += int(((image > 0) & ~inner).sum())
        p, t = b.p[:, c], b.t[:, c]
        area, both, inter = t.sum(), (p**2).sum() + (t**2).sum(), (p * t).sum()
        alpha = min(1 - 2 * (rim + 1e-5) / (area + 1e-5), 0.8)
        found.append((both - 2 * inter + 1e-5) / (both - (1 + alpha) * inter + 1e-5))
    return float(np.mean(found))


def sigmoid_focal(b: Overlapping) -> float:
    weight = np.where(b.labels == 1, 0.25, 0.75)
    return float((weight * (1 - np.exp(-b.nll)) ** 3 * b.nll).mean())


SHARES = [0.5, 0.3, 0.2]
DICE = on_sigmoids(region.dice, **SMOOTH)
FOCAL = on_sigmoids(pixel.focal, gamma=2.0)
TOPK = on_sigmoids(pixel.topk, k_percent=30)
GENERALIZED = on_sigmoids(region.generalized_dice, w_type="square", batch=True, smooth=0.1)
MIXED = {"weight": 0.3, **SMOOTH}
JDT: dict[str, Any] = {"label_smoothing": 0.4, "window": 3, "alpha": 0.6, "beta": 0.8, "smooth": 0.1, "classes": "all"}
CASES: dict[str, tuple[dict[str, Any], Callable[[Overlapping], float]]] = {
    "cross_entropy": ({}, mean_nll),
    "topk": ({"k": 30.0}, TOPK),
    "focal": ({"gamma": 2.0}, FOCAL),
    "poly1": ({"epsilon": 2.0}, on_sigmoids(pixel.poly1, epsilon=2.0)),
    "ohem_ce": (
        {"threshold": 0.5, "minimum_share": 0.1},
        on_sigmoids(pixel.ohem_ce, threshold=0.5, minimum_share=0.1),
    ),
    "dice": (SMOOTH, DICE),
    "log_cosh_dice": (SMOOTH, on_sigmoids(region.log_cosh_dice, **SMOOTH)),
    "jaccard": (SMOOTH, on_sigmoids(region.jaccard, **SMOOTH)),
    "lovasz_softmax": ({}, on_sigmoids(region.lovasz)),
    "tversky": ({"alpha": 0.3} | SMOOTH, on_sigmoids(region.focal_tversky, **TVERSKY, **SMOOTH)),
    "focal_tversky": (
        {"alpha": 0.3, "gamma": 3.0} | SMOOTH,
        on_sigmoids(region.focal_tversky, gamma=3.0, **TVERSKY, **SMOOTH),
    ),
    "sensitivity_specificity": (
        {"sensitivity_ratio": 0.2} | SMOOTH,
        on_sigmoids(region.sensitivity_specificity, r=0.2, **SMOOTH),
    ),
    "generalized_dice": ({"class_weighting": "square", "smooth": 0.1}, GENERALIZED),
    "dice_plus_plus": ({"gamma": 2.0} | SMOOTH, on_sigmoids(region.dice_plus_plus, gamma=2.0, **SMOOTH)),
    "mcc": ({"smooth": 0.01, "classes": "all"}, on_sigmoids(region.mcc, eps=0.01, classes="all")),
    "robust_t": ({}, student_t),
    "boundary_dou": ({}, boundary_dou),
    # beta = 1/2 weighs what is there and what is not, as for two classes
    "combo": (
        {"alpha": 0.3, "smooth": 1.0},
        weighed(0.3, lambda b: mean_nll(b) / 2, on_sigmoids(region.dice, smooth=1.0, classes="all")),
    ),
    "exponential_logarithmic": ({}, exponential_logarithmic),
    "unified_focal": ({"smooth": 0.1}, unified_focal),
    "dice_cross_entropy": (MIXED, weighed(0.3, mean_nll, DICE)),
    "dice_focal": (MIXED | {"gamma": 2.0}, weighed(0.3, FOCAL, DICE)),
    "dice_topk": (MIXED | {"k": 30.0}, weighed(0.3, TOPK, DICE)),
    "generalized_dice_focal": ({"weight": 0.4, "gamma": 2.0, "smooth": 0.1}, weighed(0.4, FOCAL, GENERALIZED)),
    "distance_map_ce": (
        {"map": "exp", "decay_px": 2.0},
        binary(pixel.distance_map_ce, phi="exp", sigma=2.0),
    ),
    "boundary": ({}, binary(boundary.boundary, idc=[1])),
    "hausdorff": ({"alpha": 1.5}, binary(boundary.hausdorff_dt, alpha=1.5)),
    "log_hausdorff": ({"alpha": 1.5}, binary(boundary.log_hausdorff, alpha=1.5)),
    "soft_cldice": ({"iterations": 2}, binary(structure.soft_cldice, iter=2, smooth=1.0, classes="present")),
    "skeleton_recall": ({}, binary(structure.skeleton_recall, smooth=1.0, classes="present")),
    "blob": ({"smooth": 1.0}, binary(structure.blob, smooth=1.0)),
    "sigmoid_focal": ({"gamma": 3.0}, sigmoid_focal),
    "log_dice": (SMOOTH, on_sigmoids(region.log_dice, **SMOOTH)),
    "lovasz_hinge": ({}, on_sigmoids(region.lovasz_hinge, per_image=True)),
    "jdt": (JDT | {"include_background": True}, binary(region.jdt, **JDT, include_background=False)),
    "ssim": ({"window": 5}, binary(structure.ssim, window=5, compared="all")),
    "cbdice": ({"iterations": 2}, binary(structure.cbdice, iterations=2, smooth=1.0)),
    "bce_dice": (MIXED, weighed(0.3, mean_nll, DICE)),
}
BY_CLASS = ("distance", "boundary", "hausdorff", "log_haus", "soft_cl", "skeleton", "blob", "jdt", "ssim", "cbdice")
LEFT_TO_OTHERS = {"region_mutual_information"}
"""Its probabilities are sigmoids in either form: the vectors of `own_vectors.json` hold."""


@pytest.mark.parametrize("space", list(SHAPES))
@pytest.mark.parametrize("name", list(CASES))
def test_the_sigmoid_form_is_the_formula(name: str, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pixels of which nothing is known; distances are of float32, everything else of float64."""
    options, formula = CASES[name]
    b = scene(SHAPES[space])
    if not name.startswith(BY_CLASS):
        for module in (pixel, region, combination):
            monkeypatch.setattr(module, "read", lambda z, y, b=b: b)
    logits, target, counted = (torch.from_numpy(maps) for maps in (b.z, b.t, b.v))
    given = getattr(losses.functional, name)

    value = given(logits, target, activation="sigmoid", mask=counted, class_frequencies=SHARES, **options)

    assert float(value.detach()) == pytest.approx(formula(b), rel=2e-8)


@pytest.mark.parametrize("name", list(CASES))
def test_the_fused_sums_are_those_of_a_mask_that_leaves_nothing_out(name: str) -> None:
    """Hard labels that all count alike take a path of their own: the same value and gradient, long rows too."""
    rng = torch.Generator().manual_seed(0)
    options = CASES[name][0]
    size = (70, 70) if name in ("dice", "cross_entropy", "dice_cross_entropy", "jaccard", "mcc") else (8, 9)
    logits = torch.randn(2, 3, *size, generator=rng, dtype=torch.float64)
    target = (torch.rand(logits.shape, generator=rng) > 0.6).long()
    found = []
    for mask in (None, torch.ones(2, *size, dtype=torch.bool)):
        leaf = logits.clone().requires_grad_()
        value = getattr(losses.functional, name)(
            leaf, target, activation="sigmoid", mask=mask, class_frequencies=SHARES, **options
        )
        value.backward()
        found.append((value.detach(), leaf.grad))

    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_every_loss_with_a_sigmoid_form_has_a_formula() -> None:
    """A loss that gains a sigmoid form is right by nobody's word but its own until it stands here."""
    assert set(CASES) | LEFT_TO_OTHERS == set(losses.names(multilabel=True))
