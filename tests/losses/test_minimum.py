"""The minimum of every loss is the right answer, wherever its options are searched.

Class weights, smoothing and priors multiply, and so can put the minimum of a loss on a wrong class: with torch's rule
for label smoothing the best answer on background was the rarest class in a quarter of the box.
"""

import pytest
import torch
from torch import Tensor

from tests.losses.images import ALL, CLASSES, corners, one_term, term_value, truth
from tuner.losses.batch import END
from tuner.losses.build import combination_of
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.spec import LossSpec

FREQUENCIES = (0.97, 0.02, 0.01)
STEPS = 60
RMI = "region_mutual_information"
"""Descent from nothing ends in local minima: pooled maps tell it little about single pixels. Values are compared."""
DESCENDED = [entry for entry in ALL if entry.name != RMI]


def scene(side: int = 10) -> Tensor:
    """Labels [1, side, side] with every class, the rarest one a single pixel."""
    target = torch.zeros(1, side, side, dtype=torch.int64)
    target[0, 2:5, 2:5] = 1
    target[0, 7, 7] = 2
    return target


def found_by_descent(entry: LossSpec, options: dict[str, object], target: Tensor) -> Tensor:
    """The labels of the logits that minimise the loss, from a start that says nothing."""
    own = {option.name for option in entry.own_options}
    terms = [one_term(entry, {k: v for k, v in options.items() if k in own}, frequencies=FREQUENCIES)]
    blend = combination_of(entry, {k: v for k, v in options.items() if k not in own})
    terms += [one_term(LOSSES[name], frequencies=FREQUENCIES) for name in blend.hidden]
    maps: dict[str, Tensor] = {}
    logits = torch.zeros(1, CLASSES, *target.shape[1:], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.3)
    weights = blend.weights(END)
    for _ in range(STEPS):
        optimizer.zero_grad()
        kept = [(term, w) for term, w in zip(terms, weights, strict=True) if w != 0]
        values = [term_value(term, logits, target, maps) for term, _ in kept]
        blend.mix(values, [w for _, w in kept]).backward()
        optimizer.step()
    return logits.detach().argmax(1)


def whole_box(entry: LossSpec) -> list[dict[str, object]]:
    return corners(entry, singly=False, own=False)


def wrong_minima(entry: LossSpec, boxes: list[dict[str, object]]) -> list[str]:
    target = scene()
    wrong = []
    for options in boxes:
        found = found_by_descent(entry, options, target)
        if not torch.equal(found, target):
            wrong.append(f"{entry.name} {options}: {int((found != target).sum())} of {target.numel()} pixels are wrong")
    return wrong


@pytest.mark.parametrize("descended", DESCENDED, ids=lambda entry: entry.name)
def test_descent_ends_at_the_right_answer(descended: LossSpec) -> None:
    """Where all weights, smoothing and priors are at their largest."""
    assert wrong_minima(descended, whole_box(descended)[-1:]) == []


@pytest.mark.slow
@pytest.mark.parametrize("descended", DESCENDED, ids=lambda entry: entry.name)
def test_descent_ends_at_the_right_answer_at_every_corner(descended: LossSpec) -> None:
    """All corners of the searched box."""
    assert wrong_minima(descended, whole_box(descended)) == []


def answers_beside(target: Tensor) -> dict[str, Tensor]:
    """Wrong answers: nothing, no rarest class, an object too large, all moved by a pixel, and single pixels."""
    box = torch.nn.functional.max_pool2d((target == 1).float().unsqueeze(1), 3, 1, 1).squeeze(1) > 0
    wrong = {
        "nothing": torch.zeros_like(target),
        "no rarest class": target.masked_fill(target == 2, 0),
        "too large": torch.where(box & (target == 0), 1, target),
        "moved": target.roll(1, 1),
    }
    side = target.shape[-1]
    for row, column in ((0, 0), (4, 4), (side // 2, side // 2), (side - 1, side - 1)):
        one = target.clone()
        one[0, row, column] = (one[0, row, column] + 1) % CLASSES
        wrong[f"pixel {row}, {column}"] = one
    return wrong


def test_right_answer_has_most_mutual_information() -> None:
    """By values, at every corner, from half sure to certain; the pooled map must hold more places than a covariance."""
    entry, target = LOSSES[RMI], scene(10).repeat_interleave(5, 1).repeat_interleave(5, 2)
    wrong = answers_beside(target)
    for options in corners(entry, singly=False):
        term = one_term(entry, options)
        for gap in (4.0, 20.0):
            # a sigmoid is sure of a class at a logit of its own, not at a difference of two
            right = term_value(term, truth(target, gap=2 * gap) - gap, target)
            for name, answer in wrong.items():
                assert term_value(term, truth(answer, gap=2 * gap) - gap, target) > right, (options, gap, name)


def test_every_answer_of_a_pixel_loss_costs_more_than_the_right_one() -> None:
    """By sums and not by descent: label smoothing with class weights, for the background among rare classes.

    At weight exponent w and smoothing e the optimum of a pixel is (1 - e) t + e / C, whatever its weight.
    """
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    entry = LOSSES["cross_entropy"]
    for options in corners(entry, singly=False):
        term = one_term(entry, options, frequencies=FREQUENCIES)
        logits = torch.zeros(1, CLASSES, 1, 1, dtype=torch.float64, requires_grad=True)
        smoothing = float(options["label_smoothing"])
        best = torch.full((CLASSES,), smoothing / CLASSES, dtype=torch.float64)
        best[0] += 1 - smoothing
        with torch.no_grad():
            logits += best.clamp_min(1e-12).log().view(1, -1, 1, 1)
        (slope,) = torch.autograd.grad(term_value(term, logits, target), logits)

        assert slope.abs().max() < 1e-9, options


@pytest.mark.parametrize("size", [(1, 64, 64), (2, 48, 64, 64)], ids=["picture", "volumes"])
def test_every_pixel_wrong_costs_nearly_one(size: tuple[int, ...]) -> None:
    """Generalized Dice weighs by 1 / T^2, beside which a constant of 1e-5 was no small number in volumes."""
    target = torch.zeros(size, dtype=torch.int64)
    side = size[-1]
    target[..., side // 4 : side // 2] = 1
    target[..., side // 2 : side // 2 + side // 8] = 2
    for options in corners(LOSSES["generalized_dice"], singly=False):
        term = one_term(LOSSES["generalized_dice"], options)
        wrong = truth((target + 1) % CLASSES, gap=20.0).float()

        assert term_value(term, wrong, target) > 0.999, options
        assert term_value(term, truth(target, gap=20.0).float(), target) < 0.001, options
