"""Trainings of a user's own whose values depend on loss and seed, for confirmations. Named by `train.entry`."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuner.config.trial import TrialConfig
from tuner.training.run_dir import EpochReport

LEVELS = {"dice": 0.8, "dice_cross_entropy": 0.797, "cross_entropy": 0.5}


def value_of(loss: str, seed: int | None) -> float:
    """Return what a training ends with: a level of the loss, a part that all share, and one of its own."""
    shared, own = random.Random(f"{seed}"), random.Random(f"{seed} {loss}")
    return LEVELS[loss] + 0.02 * shared.uniform(-1, 1) + 0.005 * own.uniform(-1, 1)


def noisy(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Two losses that are alike and one that is worse."""
    yield {"dice": 0.1}
    yield {"dice": value_of(config.loss["name"], config.train.seed)}


def failing_again(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """In the search all goes well; with one of the fresh seeds a loss fails."""
    yield {"dice": 0.1}
    if config.loss["name"] == "dice" and config.train.seed == 4:
        raise ValueError(f"file {folder.name} is broken")
    yield {"dice": value_of(config.loss["name"], config.train.seed)}


def falling_apart(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any] | EpochReport]:
    """With some fresh seeds one loss diverges in the second epoch, and another one before it was ever validated."""
    if config.loss["name"] == "cross_entropy" and config.train.seed == 2:
        yield EpochReport(1, float("nan"), 1e-3, 0.1)
    yield {"dice": 0.1}
    if config.loss["name"] == "dice" and config.train.seed == 1:
        yield {"dice": 0.1, "train_loss": float("nan")}
    yield {"dice": value_of(config.loss["name"], config.train.seed)}
