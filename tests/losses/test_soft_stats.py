"""Fused sums of soft labels, weights and sigmoids against the formulas in plain torch, on rows that are long enough."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tuner import losses
from tuner.losses.sigmoid_stats import LONG

SIDES = {"long": (70, 70), "short": (9, 8)}
"""Rows of LONG pixels are taken one by one, shorter ones together."""


def scene(size: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, probabilities that add up to 1, and weights of pixels, some of them 0."""
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, *size, generator=rng, dtype=torch.float64)
    target = torch.softmax(3 * torch.randn(logits.shape, generator=rng, dtype=torch.float64), 1)
    weights = (torch.rand(2, *size, generator=rng, dtype=torch.float64) - 0.2).clamp_min(0)
    return logits, target, weights


def overlap(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss of three sums, over the batch, without smoothing."""

    def value(z: Tensor, t: Tensor, w: Tensor) -> Tensor:
        p, w = torch.softmax(z, 1), w.unsqueeze(1)
        if name == "squared":
            common, mass, size = p * t, p * p, t * t
        else:
            common, mass, size = torch.minimum(p, t), p, t
        i, m, s = ((part * w).sum((0, 2, 3)) for part in (common, mass, size))
        return (1 - (i / (m + s - i) if name == "jaccard" else 2 * i / (m + s))).mean()

    return value


def entropy(z: Tensor, t: Tensor, w: Tensor) -> Tensor:
    return -(torch.log_softmax(z, 1) * t * w.unsqueeze(1)).sum() / w.sum()


CASES: dict[str, tuple[str, dict[str, object], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "dice": ("dice", {"smooth": 0.0}, overlap("dice")),
    "squared dice": ("dice", {"smooth": 0.0, "squared": True}, overlap("squared")),
    "jaccard": ("jaccard", {"smooth": 0.0}, overlap("jaccard")),
    "cross_entropy": ("cross_entropy", {}, entropy),
    "both": (
        "dice_cross_entropy",
        {"smooth": 0.0, "weight": 0.3},
        lambda z, t, w: 0.3 * entropy(z, t, w) + 0.7 * overlap("dice")(z, t, w),
    ),
}


@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize("weighed", [False, True], ids=["alike", "weights"])
@pytest.mark.parametrize("keep", [False, True], ids=["spent", "kept"])
@pytest.mark.parametrize("case", list(CASES))
def test_value_and_gradient_are_those_of_the_formula(case: str, keep: bool, weighed: bool, side: str) -> None:
    """A closed form that is wrong would train every mixup study towards something else."""
    name, options, formula = CASES[case]
    logits, target, weights = scene(SIDES[side])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    counts = weights if weighed else torch.ones_like(weights)

    value = losses.create(name, **options)(ours, target, mask=weights if weighed else None)
    expected = formula(theirs, target, counts)
    value.backward(retain_graph=keep)
    expected.backward()

    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    if keep:
        ours.grad = None
        value.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gap", [0.0, 30.0, 1e4])
@pytest.mark.parametrize("side", list(SIDES))
def test_labels_of_sigmoids_add_up_to_the_binary_cross_entropy(side: str, gap: float) -> None:
    """Where the logarithm of p would underflow, the other way is taken."""
    logits = scene(SIDES[side])[0]
    target = (torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    ours = (logits + gap).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()

    value = losses.create("cross_entropy", activation="sigmoid")(ours, target)
    expected = F.binary_cross_entropy_with_logits(theirs, target)
    value.backward()
    expected.backward()

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_sizes_meet_both_ways() -> None:
    """Rows that are all short would leave the other way untested."""
    assert {side: height * width >= LONG for side, (height, width) in SIDES.items()} == {"long": True, "short": False}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(-0.1, r"values from -0\.1 to 1\.1"), (0.2, r"0\.2 off"), (float("nan"), "values from nan")],
    ids=["negative", "sum", "nan"],
)
def test_probabilities_that_are_none_are_refused(wrong: float, said: str) -> None:
    """They are looked at in two passes; what is wrong is found by as many as it takes."""
    target = torch.zeros(1, 2, 8, 8)
    target[:, 0] = 1
    target[0, :, 0, 0] = torch.tensor([1.1, -0.1]) if wrong < 0 else torch.tensor([1.0, wrong])

    with pytest.raises(losses.LossInputError, match=said):
        losses.create("dice")(torch.zeros(1, 2, 8, 8), target)
