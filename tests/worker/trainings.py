"""Trainings of a user's own, for studies whose trials end in every way that there is. Named by `train.entry`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.config.trial import TrialConfig
from tuner.training.run_dir import EpochReport


def steady(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The larger the learning rate, the better, from the first epoch on; HD95 the other way round."""
    for epoch in range(1, config.train.epochs + 1):
        yield {"dice": config.train.lr * epoch / config.train.epochs, "hd95": 10.0 / epoch}


def peaking(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Best in the second epoch."""
    for epoch in range(1, config.train.epochs + 1):
        yield {"dice": 0.9 if epoch == 2 else 0.5, "hd95": float(epoch)}


def diverging(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A loss that is no number in the second epoch."""
    yield {"dice": 0.5}
    yield {"dice": 0.5, "train_loss": float("nan")}


def collapsing(config: TrialConfig, device: str, folder: Path) -> Iterator[EpochReport]:
    """Two classes at first, one ever after."""
    report = EpochReport(1, 1.0, 1e-3, 0.1, metrics={"dice": 0.1})
    yield report
    for epoch in range(2, config.train.epochs + 1):
        yield replace(report, epoch=epoch, metrics={"dice": 0.0}, one_class=True)


def failing(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The same mistake each time, whatever the parameters."""
    yield {"dice": 0.1}
    raise ValueError(f"file {folder.name}.npz is broken")


def memory(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Out of memory, always."""
    yield {"dice": 0.1}
    raise MemoryError


def endless(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Epochs that take a tenth of a second each."""
    import time

    for _ in range(config.train.epochs):
        time.sleep(0.1)
        yield {"dice": 0.5}
