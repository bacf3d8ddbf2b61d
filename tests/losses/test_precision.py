"""float32 against float64 where float32 is worst: one class fills the batch, nearly fills it, or has a single pixel.

What is small beside the image must not be the difference of two sums over the image, least of all where `smooth` is all
that it is divided by.
"""

from collections.abc import Iterable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from tests.losses.images import CLASSES, VOID, corners, one_term, term_value, truth
from tuner.losses.build import Term
from tuner.losses.spec import LossSpec

Shape = tuple[int, ...]
SIDES: dict[int, Shape] = {2: (48, 48), 3: (12, 12, 12)}
FREQUENCIES = (0.8, 0.15, 0.05)
RANKED = ("topk", "ohem_ce", "dice_topk")
"""Which of many pixels that are nearly as hard is among the hardest is a matter of the last digit."""


def one_class_batches(shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """Labels [B, *S] by name."""
    middle = tuple(side // 2 for side in shape)
    for c in range(CLASSES):
        yield f"all {c}", torch.full((1, *shape), c)
    for ground, speck in ((0, 1), (1, 0), (0, 2)):
        target = torch.full((2, *shape), ground)
        target[(0, *middle)] = speck
        yield f"one pixel of {speck} in {ground}", target
    target = torch.zeros(1, *shape, dtype=torch.int64)
    target[(0, *(slice(m, m + 2) for m in middle))] = 1
    target[:, 0] = VOID
    yield "a few pixels, and void", target


def guesses(target: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Logits in float32: unsure, sure of anything, and nearly right."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(target), CLASSES, *target.shape[1:], generator=generator)
    yield "unsure", 2 * noise
    yield "sure", 20 * noise
    yield "right", truth(target, gap=12.0).float() + noise


def value_and_slope(term: Term, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = term_value(term, leaf, target)
    (slope,) = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)
    return value.detach().double(), slope.double()


def hold_to_float64(
    entry: LossSpec, options: dict[str, object], shapes: Iterable[Shape] = SIDES.values(), scenes: Sequence[str] = ()
) -> None:
    term = one_term(entry, options, frequencies=FREQUENCIES)
    for shape in shapes:
        for scene, target in one_class_batches(shape):
            if scenes and scene not in scenes:
                continue
            for kind, logits in guesses(target):
                value, slope = value_and_slope(term, logits, target)
                exact, exact_slope = value_and_slope(term, logits.double(), target)
                where = (scene, kind, len(shape), options)

                assert abs(value - exact) <= 1e-5 + 1e-4 * abs(exact), where
                if entry.name not in RANKED or kind != "right":
                    assert (slope - exact_slope).norm() <= 3e-8 + 5e-3 * exact_slope.norm(), where


def test_one_class_batches(entry: LossSpec) -> None:
    """sensitivity_specificity gave -11.57 for 0.027 here, and a gradient that was off 408 times."""
    hold_to_float64(entry, {}, [SIDES[2]], ("all 0", "all 2", "one pixel of 1 in 0"))


@pytest.mark.slow
def test_one_class_batches_of_all_kinds(entry: LossSpec) -> None:
    """In volumes too, and with void."""
    hold_to_float64(entry, {})


@pytest.mark.slow
def test_one_class_batches_with_every_searched_option(entry: LossSpec) -> None:
    """Each end of each range, and each choice, by itself."""
    for options in corners(entry, singly=True):
        hold_to_float64(entry, options)


def test_default_type_of_torch_is_no_matter(entry: LossSpec, shape: Shape) -> None:
    """A user who computes in float64 throughout sets torch's default; inverse_form then raised."""
    target = torch.ones(1, *shape, dtype=torch.int64)
    target[:, 2:5] = 0
    logits = truth(target, gap=2.0).float()
    value = term_value(one_term(entry, {}), logits, target)
    torch.set_default_dtype(torch.float64)
    try:
        again = term_value(one_term(entry, {}), logits, target)
    finally:
        torch.set_default_dtype(torch.float32)

    assert again.dtype == value.dtype
    # a head that learns beside the network is drawn in the default type
    assert "boundary_head" in entry.needs or torch.isclose(again, value)
