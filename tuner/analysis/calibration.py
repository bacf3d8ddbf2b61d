"""Calibration of a trial's best epoch, read from its `calibration.json`: bounded, and nothing believed unseen."""

import json
import math
from dataclasses import dataclass
from typing import Any

from tuner.artifacts.local import Artifacts
from tuner.errors import DataError

CALIBRATION = "calibration.json"
MAX_SIZE = 4 << 20
MAX_BINS = 1000
MAX_CLASSES = 255


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Predictions by their probability, in bins of equal width from 0 to 1."""

    ece: float | None
    """Expected calibration error; None where nothing was counted."""
    count: tuple[int, ...]
    accuracy: tuple[float | None, ...]
    """By bin, the share of predictions that are right; None where there are none."""
    confidence: tuple[float | None, ...]
    """By bin, the mean probability of the predictions."""

    @property
    def edges(self) -> list[float]:
        """Return where the bins begin and end."""
        return [number / len(self.count) for number in range(len(self.count) + 1)]

    @property
    def mean_accuracy(self) -> float | None:
        """Return the share of all predictions that are right."""
        return self._mean(self.accuracy)

    @property
    def mean_confidence(self) -> float | None:
        """Return the mean probability of all predictions."""
        return self._mean(self.confidence)

    def _mean(self, values: tuple[float | None, ...]) -> float | None:
        total = sum(self.count)
        return sum(n * (v or 0.0) for n, v in zip(self.count, values, strict=True)) / total if total else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a trial's network says at its best epoch of the validation pixels, and how often that is right."""

    epoch: int
    of_regions: bool
    """Whether every region of a pixel is a prediction; else every pixel is one."""
    nll: float | None
    """Mean of -log p(truth), in nats."""
    total: ReliabilityBins
    per_class: dict[str, ReliabilityBins]
    """By the predicted class, or by region."""


def read_calibration(artifacts: Artifacts, study: str, number: int) -> Calibration:
    """Return the calibration of a trial.

    Raises:
        NotFoundError: It has no such file, as trials of earlier versions and of trainings of the user's own have none.
        DataError: The file is damaged.
    """
    with artifacts.open(study, number, CALIBRATION) as handle:
        content = handle.read(MAX_SIZE + 1)
    try:
        if len(content) > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE >> 20} MiB")
        found = json.loads(content)
        per_class = dict(list(found["per_class"].items())[:MAX_CLASSES])
        return Calibration(
            epoch=int(found["epoch"]),
            of_regions=found["of"] == "regions",
            nll=_number(found["nll"], math.inf),
            total=_read_bins(found),
            per_class={str(name)[:200]: _read_bins(of) for name, of in per_class.items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(f"{CALIBRATION}: damaged, or of another version: {str(error)[:200]}.") from error


def _read_bins(found: Any) -> ReliabilityBins:
    bins = ReliabilityBins(
        ece=_number(found["ece"], 1.0),
        count=tuple(_count(n) for n in found["count"]),
        accuracy=tuple(_number(value, 1.0) for value in found["accuracy"]),
        confidence=tuple(_number(value, 1.0) for value in found["confidence"]),
    )
    if not 1 <= len(bins.count) == len(bins.accuracy) == len(bins.confidence) <= MAX_BINS:
        raise ValueError("bins of different numbers")
    if any(n > 0 and None in pair for n, *pair in zip(bins.count, bins.accuracy, bins.confidence, strict=True)):
        raise ValueError("a bin that holds something has no value")
    return bins


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{str(value)[:40]} is no count")
    return value


def _number(value: Any, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e-6 <= value <= most + 1e-6:
        raise ValueError(f"{str(value)[:40]} is no number from 0 to {most:g}")
    return float(value)
