"""What is known of the data before a trial has run, and what that says about the work ahead."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tuner.config.study import StudySpec
from tuner.launch.device_probe import Answer
from tuner.settings import Settings

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of the data before a trial has run."""

    fingerprint: str
    protocol: str
    train: int
    """Training samples."""
    validation: int
    shape: tuple[int, ...]
    classes: int


def prepare_data(spec: StudySpec, settings: Settings, progress: Progress | None) -> DataFacts:
    """Prepare the data into the cache, where the workers find it, and say what it holds."""
    from tuner.data.preparation import prepare

    data = prepare(
        spec.base.dataset, data_root=settings.data_root, cache=settings.cache, seed=spec.seed, progress=progress
    )
    train = spec.base.train
    patch = train.patch_shape(data.spatial_dims)
    return DataFacts(
        fingerprint=data.fingerprint,
        protocol=data.validation_protocol,
        train=len(data.train.labels) * (train.patches if patch else 1),
        validation=len(data.validation.labels),
        shape=(data.channels, *patch) if patch else data.sample_shape,
        classes=data.classes,
    )


def first_estimate(spec: StudySpec, machine: Answer, data: DataFacts) -> float | None:
    """Guess the seconds that a whole budget takes, from one measured sample; None when it could not be measured.

    Validation costs a third of a training step for each sample. Pruning makes it shorter, other work longer.
    """
    if machine.sample_s is None:
        return None
    samples = data.train + data.validation / (3 * spec.base.train.validate_every)
    return spec.total * spec.base.train.epochs * samples * machine.sample_s / len(machine.slots)


def steps_per_epoch(spec: StudySpec, data: DataFacts) -> int:
    """Return the optimiser steps of an epoch."""
    return math.ceil(data.train / spec.base.train.batch_size)
