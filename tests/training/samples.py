"""Synthetic data and configurations for the tests of training; also imported by processes that tests start."""

from pathlib import Path
from typing import Any

import numpy as np

from tuner.config.trial import TrialConfig, load_config
from tuner.data.arrays import Split
from tuner.data.preparation import PreparedData

CLASSES = ("background", "disc", "ring")


def make_split(cases: int, slices: int, *, seed: int, size: int = 32, volumes: bool = False) -> Split:
    """Discs with a ring around them, brighter than a noisy ground; bit for bit the same for the same seed."""
    rng = np.random.default_rng(seed)
    number = cases * slices
    rows, columns = np.mgrid[:size, :size]
    images = rng.normal(0, 0.15, (number, 1, size, size)).astype(np.float32)
    labels = np.zeros((number, size, size), np.uint8)
    for k in range(number):
        y, x = rng.uniform(size * 0.3, size * 0.7, 2)
        radius = rng.uniform(size * 0.12, size * 0.22)
        distance = np.hypot(rows - y, columns - x)
        labels[k][distance < radius * 1.5] = 2
        labels[k][distance < radius] = 1
    images[:, 0] += 0.4 * (labels == 1) + 0.8 * (labels == 2)
    names = tuple(f"case{seed}{k}" for k in range(cases))
    if volumes:
        shape = (cases, slices, size, size)
        return Split(
            images.reshape(cases, 1, *shape[1:]), labels.reshape(shape), np.arange(cases, dtype=np.int32), names
        )
    return Split(images, labels, np.repeat(np.arange(cases, dtype=np.int32), slices), names)


def make_data(folder: Path, *, stacked: bool = True, size: int = 32, volumes: bool = False) -> PreparedData:
    """Put two splits together."""
    return PreparedData(
        name="phantom",
        channels=1,
        class_names=CLASSES,
        ignore_index=255,
        spatial_dims=3 if volumes else 2,
        train=make_split(6, 4, seed=1, size=size, volumes=volumes),
        validation=make_split(2, 4, seed=2, size=size, volumes=volumes),
        fingerprint="synthetic",
        class_frequencies=(0.8, 0.1, 0.1),
        validation_protocol="share",
        folder=folder,
        stacked=stacked and not volumes,
    )


def make_config(
    *, model: dict[str, Any] | None = None, loss: Any = "dice_cross_entropy", metric: str = "dice", **train: Any
) -> TrialConfig:
    """A tiny U-Net with dropout, trained for three epochs."""
    return load_config(
        {
            "dataset": {"name": "phantom"},
            "model": {"name": "unet", "width": 4, "depth": 2, "dropout": 0.2} | (model or {}),
            "loss": loss,
            "train": {"epochs": 3, "batch_size": 4, "lr": 5e-3, "threads": 1, "seed": 7} | train,
            "objectives": [{"metric": metric}],
        }
    )
