"""Trainings of a user's own, for studies whose trials end in every way that there is. Named by `train.entry`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.config.trial import TrialConfig
from tuner.training.epoch_report import EpochReport


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


def early(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Ends by itself after the first of its epochs."""
    yield {"dice": 0.5}


def silent(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Ends by itself without a report."""
    yield from ()


def hanging(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The first trial hangs after its first epoch; all others are steady."""
    import time

    for item in steady(config, device, folder):
        yield item
        while folder.name == "0":
            time.sleep(0.1)


def clutching(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The first trial hangs in C and lets no other thread of Python's run."""
    import ctypes
    import time

    for item in steady(config, device, folder):
        yield item
        if folder.name == "0":
            time.sleep(1)  # within it the watchdog hears of the first step
        while folder.name == "0":
            ctypes.PyDLL(None).sleep(3600)


def deaf(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Hangs in C in the main thread, where no handler of a signal runs."""
    import ctypes

    yield {"dice": 0.5}
    lock = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)


def spoiling(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The first attempt raises what torch raises after an assertion in a CUDA kernel has failed."""
    yield {"dice": 0.5}
    if folder.name == "0":
        raise RuntimeError("CUDA error: device-side assert triggered")
    yield {"dice": 0.6}


def slow_to_begin(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A healthy training whose first epoch takes longer than any sign of life may be away."""
    import time

    time.sleep(3)
    yield {"dice": 0.5}


def exiting(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Ends its process: the first trial with a code, the second as if all were well."""
    import sys

    yield {"dice": 0.5}
    sys.exit(3 if folder.name == "0" else 0)


def exiting_at_once(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """No generator: it ends its process when it is called."""
    raise SystemExit("usage: train.py FILE")


def cancelled(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """What is no Exception ends no worker either."""
    import asyncio

    yield {"dice": 0.5}
    raise asyncio.CancelledError("by its loop")


def exhausted(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Memory runs out."""
    yield {"dice": 0.5}
    raise MemoryError


def interrupting(config: TrialConfig, device: str, folder: Path) -> Iterator[dict[str, Any]]:
    """As Ctrl-C where nobody handles it."""
    yield {"dice": 0.5}
    raise KeyboardInterrupt
