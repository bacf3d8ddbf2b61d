"""The queue: published defaults first, families in turn, for at most a third of the budget."""

import pytest

from tuner.search.initial_points import CandidateLoss, left_out, queue
from tuner.search.space import Dimension, SearchSpace

SPACE = SearchSpace(
    (
        Dimension("loss", "categorical", choices=("cross_entropy", "focal", "dice", "tversky", "hausdorff", "edgy")),
        Dimension("train.lr", "float", 1e-5, 1e-2, log=True),
        Dimension("train.batch_size", "categorical", choices=(8, 16, 32)),
        Dimension("loss.focal.gamma", "float", 0.5, 4.0, when=("loss", "focal")),
        Dimension("loss.tversky.alpha", "float", 0.0, 1.0, when=("loss", "tversky")),
        Dimension("loss.edgy.weight.focal", "float", 0.01, 10.0, log=True, when=("loss", "edgy")),
    )
)
LOSSES = (
    CandidateLoss("cross_entropy", "pixel"),
    CandidateLoss("focal", "pixel", {"loss.focal.gamma": 5.0}),
    CandidateLoss("dice", "region"),
    CandidateLoss("tversky", "region", {"loss.tversky.alpha": 0.3}),
    CandidateLoss("hausdorff", "boundary"),
    CandidateLoss("edgy", "sum", {"loss.edgy.weight.focal": 1.0}),
)
BASE = {"train.lr": 3e-4, "train.batch_size": 20, "model.width": 32}


def test_defaults_come_first_with_families_in_turn() -> None:
    """A small budget must still see one loss of every family."""
    points = queue(SPACE, LOSSES, BASE, 18)

    assert [point.get("loss") for point in points] == [
        "cross_entropy", "dice", "hausdorff", "edgy", "focal", "tversky", *[None] * 12,
    ]  # fmt: skip
    assert points[6:] == [{}] * 12


@pytest.mark.parametrize(("trials", "defaults"), [(1, 0), (2, 0), (3, 1), (17, 5), (18, 6), (100, 6)])
def test_at_most_a_third_is_given_to_defaults(trials: int, defaults: int) -> None:
    """The rest of the budget is the search."""
    points = queue(SPACE, LOSSES, BASE, trials)

    assert len(points) == trials
    assert sum(point != {} for point in points) == defaults


def test_defaults_are_complete_and_inside_what_is_searched() -> None:
    """A default outside a narrowed range moves to the nearest value; the base configuration fills in the rest."""
    focal = next(p for p in queue(SPACE, LOSSES, BASE, 18) if p.get("loss") == "focal")

    assert focal == {"loss": "focal", "train.lr": 3e-4, "train.batch_size": 16, "loss.focal.gamma": 4.0}
    assert SPACE.problems(focal) == []


def test_left_out_losses_are_named() -> None:
    """The user must be told which losses are not tried at their defaults, and what would hold all."""
    assert left_out(LOSSES, 10) == (("edgy", "focal", "tversky"), 18)
    assert left_out(LOSSES, 18) == ((), 18)
    assert left_out(LOSSES, 12, trials_per_loss=2) == ((), 12)


def test_trials_per_loss_are_dealt_out_in_turn() -> None:
    """A study that is stopped half-way must have given every loss the same."""
    points = queue(SPACE, LOSSES[:3], BASE, 9, trials_per_loss=3)

    assert [point["loss"] for point in points] == ["cross_entropy", "dice", "focal"] * 3
    assert points[2]["loss.focal.gamma"] == 4.0
    assert points[3:] == [{"loss": "cross_entropy"}, {"loss": "dice"}, {"loss": "focal"}] * 2


def test_a_single_loss_is_tried_once_at_its_default() -> None:
    """With the loss fixed there is one default, and no parameter `loss`."""
    space = SearchSpace((Dimension("loss.focal.gamma", "float", 0.5, 4.0), Dimension("train.lr", "float", 1e-5, 1e-2)))
    focal = [CandidateLoss("focal", "pixel", {"loss.focal.gamma": 2.0})]

    assert queue(space, focal, BASE, 9) == [{"loss.focal.gamma": 2.0, "train.lr": 3e-4}, *[{}] * 8]
    assert queue(space, focal, BASE, 3, trials_per_loss=3)[1:] == [{}, {}]


def test_an_unknown_default_becomes_the_middle() -> None:
    """A parameter that no base gives a value still needs one: the middle, of the logarithm where it is logarithmic."""
    point = queue(SPACE, LOSSES[:1], {}, 3)[0]

    assert point["train.lr"] == pytest.approx(10**-3.5)
    assert point["train.batch_size"] == 8
