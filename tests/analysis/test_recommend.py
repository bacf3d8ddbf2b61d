"""What is recommended before any training: from similar tasks, with its uncertainty, and beside the literature."""

import math
from pathlib import Path

import pytest

from tests.training.samples import make_data
from tuner.analysis.data_facts import SCALES, distance, measure_facts, outside, similarity
from tuner.analysis.recommend import guidance, recommend
from tuner.search.task_prior import TaskPrior, shipped_prior

FACTS = {"classes": 9.0, "imbalance": 700.0, "object_share": 0.008, "thinness": 2.0, "boundary_per_area": 0.45}


def test_equal_data_is_the_most_similar() -> None:
    """A factor of e to the power of the scale in every fact counts as 1."""
    other = {name: value * math.exp(SCALES[name]) for name, value in FACTS.items()}

    assert similarity(FACTS, FACTS) == 1.0
    assert distance(FACTS, other) == pytest.approx(1.0)
    assert similarity(FACTS, {}) == 0.0


def test_every_measured_loss_is_told_with_its_uncertainty() -> None:
    """The band is wide, and nobody is the best for sure."""
    document = recommend("organs", FACTS, shipped_prior())
    losses = document["losses"]

    assert document["tasks"][0]["task"] == "phantom"
    assert len(losses) == 14
    assert [row["expected"] for row in losses] == sorted((row["expected"] for row in losses), reverse=True)
    assert all(row["low"] < row["expected"] < row["high"] for row in losses)
    assert sum(row["best_share"] for row in losses) == pytest.approx(1.0)
    assert max(row["best_share"] for row in losses) < 0.9
    assert document == recommend("organs", FACTS, shipped_prior())


def test_without_tasks_there_is_the_literature_only() -> None:
    """Nothing is made up."""
    document = recommend("organs", FACTS, TaskPrior())

    assert document["losses"] == []
    assert document["guidance"]


@pytest.mark.parametrize(
    ("changed", "loss"),
    [
        ({"imbalance": 700.0}, "tversky"),
        ({"thinness": 20.0}, "skeleton_recall"),
        ({"object_share": 0.001}, "combo"),
        ({"object_share": 0.2, "boundary_per_area": 0.05}, "boundary_dou"),
        ({}, "dice_cross_entropy"),
    ],
)
def test_guidance_follows_the_facts(changed: dict[str, float], loss: str) -> None:
    """Each rule has its own reason."""
    plain = {"classes": 2.0, "imbalance": 5.0, "object_share": 0.02, "thinness": 1.5, "boundary_per_area": 0.3}

    assert loss in [name for each in guidance({**plain, **changed}) for name in each.losses]


def test_data_unlike_all_tasks_is_said_to_be() -> None:
    """What lies far outside of the tasks is named."""
    assert outside({**FACTS, "thinness": 500.0}, shipped_prior().tasks) == ["thinness"]


def test_facts_are_measured_on_the_training_samples(tmp_path: Path) -> None:
    """Shares are of an image, the imbalance is that of all classes that occur."""
    facts = measure_facts(make_data(tmp_path))

    assert set(facts) == set(SCALES)
    assert facts["classes"] >= 2
    assert facts["imbalance"] > 1
    assert 0 < facts["object_share"] < 1
