"""Step profile of a configuration: seconds of a step and of a validation, and peak memory.

Nothing is written and nothing is kept: the first steps of a real training are taken, then it is thrown away.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.errors import TunerError
from tuner.training.components import AllowedSources
from tuner.training.device import epoch_order, forget_peak, generator, is_out_of_memory, peak_memory
from tuner.training.loop import TrainingState, configure_torch

WARM_UP = 1
"""Steps that are not counted: libraries choose their algorithms in them."""
MIN_STEPS, MAX_STEPS = 2, 50
"""Steps that are counted."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """What was measured; `problem` says in words why it could not be."""

    step_s: float | None = None
    """Median seconds of an optimiser step."""
    validation_s: float | None = None
    """Seconds of a whole validation; None when it was not measured or did not end in its time."""
    memory: int | None = None
    """Bytes that the process held at most: on the device for CUDA, else resident in memory."""
    weights: int | None = None
    """Bytes of the network's weights."""
    checkpoint: int | None = None
    """Bytes of what a training continues from."""
    out_of_memory: bool = False
    problem: str | None = None


def measure(
    config: TrialConfig,
    data: PreparedData,
    device: str,
    *,
    seconds: float,
    sources: AllowedSources,
    validate_s: float = 0.0,
) -> StepProfile:
    """Take steps of a training for so long, at least three, and validate if that is asked for.

    Args:
        config: What would be trained.
        data: What it would be trained on.
        device: `cpu`, `mps` or `cuda:N`.
        seconds: Time for the steps; a step that takes longer is taken all the same.
        sources: Where weights of the user's come from.
        validate_s: Time for a validation; 0: none.
    """
    configure_torch(config.train)
    forget_peak(device)
    try:
        with closing(TrainingState(config, data, device, sources)) as run:
            step_s = _steps(run, device, seconds)
            validation_s = _validation(run, device, validate_s) if validate_s else None
            return StepProfile(
                step_s=step_s,
                validation_s=validation_s,
                memory=peak_memory(device),
                weights=_bytes(run.weights()),
                checkpoint=_bytes(run.state(1)),
            )
    except (TunerError, RuntimeError, MemoryError) as error:
        words = f"{type(error).__name__}: {error}" if not isinstance(error, TunerError) else str(error)
        return StepProfile(out_of_memory=is_out_of_memory(error), problem=words.splitlines()[0])


def _steps(run: TrainingState, device: str, seconds: float) -> float:
    """Return the median time of a step."""
    train, trial = run.config.train, run.trial
    trial.model.train()
    trial.loss.on_epoch(1, train.epochs)
    run.samples.begin(1)
    order = epoch_order(len(run.samples), seed=trial.seed, epoch=1)
    batches = torch.split(order, train.batch_size)
    augmenting = generator(trial.seed, "augment", 1)
    trial.schedule.set_lr(trial.optimizer, 0)
    taken: list[float] = []
    until = perf_counter() + seconds
    while len(taken) < WARM_UP + MIN_STEPS or (perf_counter() < until and len(taken) < WARM_UP + MAX_STEPS):
        began = perf_counter()
        _wait_for(device, lambda: run.step(batches[len(taken) % len(batches)], augmenting))
        taken.append(perf_counter() - began)
    return median(taken[WARM_UP:])


def _validation(run: TrainingState, device: str, seconds: float) -> float | None:
    """Return how long a validation takes; None when it takes longer than `seconds`."""
    began = perf_counter()
    until = began + seconds
    done = run.validate(lambda: perf_counter() > until)
    _wait_for(device, lambda: None)
    return perf_counter() - began if done is not None else None


def _wait_for(device: str, work: Callable[[], object]) -> None:
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _bytes(content: Any) -> int:
    """Return the bytes of all tensors in a nested content."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, dict):
        return sum(map(_bytes, content.values()))
    return sum(map(_bytes, content)) if isinstance(content, (list, tuple)) else 0
