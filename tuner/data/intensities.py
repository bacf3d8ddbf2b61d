"""Intensities of a half of a data set, sample by sample: a data set may be larger than the memory."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.arrays import Split

BINS = 64
_FINE = 4096
PERCENTILES = (0.5, 5, 50, 95, 99.5)


def describe_intensities(split: Split, classes: int) -> dict[str, Any]:
    """Return range and moments over all channels, and of each channel also percentiles, a histogram, moments by class.

    Percentiles are exact to a 4096th of the channel's range.
    """
    ranges = np.array([[(plane.min(), plane.max()) for plane in image] for image in split.images], np.float64)
    low, high = ranges[..., 0].min(0), ranges[..., 1].max(0)
    channels = [_Channel(float(a), float(b), classes) for a, b in zip(low, high, strict=True)]
    for image, labels in zip(split.images, split.labels, strict=True):
        for channel, plane in zip(channels, image, strict=True):
            channel.add(np.asarray(plane), np.asarray(labels))
    count = sum(channel.count for channel in channels)
    mean = sum(channel.sum for channel in channels) / count
    square = sum(channel.square for channel in channels) / count
    return {
        "min": float(low.min()),
        "max": float(high.max()),
        "mean": mean,
        "std": math.sqrt(max(square - mean**2, 0.0)),
        "channels": [channel.summary() for channel in channels],
    }


class _Channel:
    def __init__(self, low: float, high: float, classes: int) -> None:
        self.low, self.high = low, high
        self.count, self.sum, self.square = 0, 0.0, 0.0
        self._fine: NDArray[np.int64] = np.zeros(_FINE, np.int64)
        self._by_class = np.zeros((3, 256))
        self._classes = classes

    def add(self, plane: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """Add the values of a sample, [*S] each."""
        values, numbers = plane.ravel().astype(np.float64), labels.ravel()
        self.count += values.size
        self.sum += float(values.sum())
        self.square += float((values**2).sum())
        self._fine += np.histogram(values, _FINE, (self.low, max(self.high, self.low + 1e-12)))[0]
        for row, weights in enumerate((None, values, values**2)):
            self._by_class[row] += np.bincount(numbers, weights, 256)

    def summary(self) -> dict[str, Any]:
        """What is said of the channel."""
        mean = self.sum / self.count
        ends = np.cumsum(self._fine) / self.count
        step = (self.high - self.low) / _FINE
        places = [int(np.searchsorted(ends, percent / 100)) for percent in PERCENTILES]
        counts, sums, squares = self._by_class[:, : self._classes]
        means = sums / np.maximum(counts, 1)
        deviations = np.sqrt(np.maximum(squares / np.maximum(counts, 1) - means**2, 0))
        return {
            "min": self.low,
            "max": self.high,
            "mean": mean,
            "std": math.sqrt(max(self.square / self.count - mean**2, 0.0)),
            "percentiles": {
                f"{percent:g}": self.low + (place + 0.5) * step
                for percent, place in zip(PERCENTILES, places, strict=True)
            },
            "histogram": self._fine.reshape(BINS, -1).sum(1).tolist(),
            "by_class": [
                {"mean": float(middle), "std": float(spread)} if number else None
                for number, middle, spread in zip(counts, means, deviations, strict=True)
            ],
        }
