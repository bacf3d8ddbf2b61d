"""Behaviour curves say of losses what is known of them."""

import json

import pytest
import torch

from tuner.losses.behavior import PERTURBATIONS, RADII, Curve, disc, document, measure_behavior, predicted
from tuner.losses.catalog.registry import LOSSES


def curves_of(name: str) -> dict[tuple[str, str], Curve]:
    """The curves of a loss by drift and object."""
    return {(curve.drift, curve.object): curve for curve in measure_behavior(LOSSES[name])}


@pytest.mark.parametrize("drift", PERTURBATIONS, ids=lambda drift: drift.name)
def test_every_drift_starts_at_the_truth_and_leaves_it(drift) -> None:
    """A curve that does not begin at a right prediction has no zero to compare with."""
    for radius in RADII.values():
        wrong = [int(((predicted(drift.name, a, radius) > 0.5) != disc(radius)).sum()) for a in drift.amounts]

        assert wrong[0] == 0
        assert wrong == sorted(wrong)
        assert wrong[-1] > 0


def test_cross_entropy_and_dice_differ_on_small_objects() -> None:
    """The survey's point: pixels count alike for cross-entropy, objects alike for Dice."""
    entropy, dice = curves_of("cross_entropy"), curves_of("dice")

    def rise(curve: Curve) -> float:
        return curve.values[-1] - curve.values[0]

    def large_to_small(curves: dict[tuple[str, str], Curve]) -> float:
        return rise(curves["shrink", "large"]) / rise(curves["shrink", "small"])

    # by area: (18 / 5)^2 = 13 for cross-entropy
    assert large_to_small(entropy) > 10
    assert large_to_small(dice) < 2


def test_cross_entropy_of_soft_errors_is_minus_the_logarithm() -> None:
    """An independent value and slope: every pixel has the same probability for its class."""
    curve = curves_of("cross_entropy")["soft", "large"]
    wrong = torch.tensor(curve.amounts, dtype=torch.float64)

    torch.testing.assert_close(torch.tensor(curve.values, dtype=torch.float64), -torch.log1p(-wrong))
    # (p - t) / N in two channels of N = 64 * 64 pixels
    torch.testing.assert_close(torch.tensor(curve.gradients, dtype=torch.float64), wrong * 2**0.5 / 64)


def test_the_document_is_the_same_each_time_and_fit_for_json() -> None:
    """Figures of two runs are compared; flipped pixels must be the same ones."""
    first, second = (document([LOSSES["dice"], LOSSES["boundary"]]) for _ in range(2))

    assert json.loads(json.dumps(first, allow_nan=False)) == second
    assert [loss["name"] for loss in first["losses"]] == ["dice", "boundary"]
    assert len(first["losses"][0]["curves"]) == len(PERTURBATIONS) * len(RADII)


@pytest.mark.parametrize("name", ["conditional_boundary", "active_boundary", "region_mutual_information", "blob"])
def test_losses_with_needs_are_probed_alone(name: str) -> None:
    """Maps and heads are made on the spot; nothing is left out because of them."""
    for curve in measure_behavior(LOSSES[name]):
        assert torch.tensor(curve.values).isfinite().all()
        assert torch.tensor(curve.gradients).isfinite().all()
