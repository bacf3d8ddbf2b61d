"""Samples by index, on the device that trains: resident there when they fit, else read from the memory map by batch."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tuner.data.arrays import Split
from tuner.data.ragged import Ragged
from tuner.errors import SpecError

RESIDENT_SHARE = 0.4
"""A prepared set stays on the device when it takes at most this share of the memory that is free."""


class Batches(Protocol):
    """What an epoch is trained on."""

    def __len__(self) -> int: ...

    def begin(self, epoch: int) -> None:
        """Prepare for an epoch."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *S] and labels [B, *S] int64 of the samples `index` [B], on the device."""


class Samples:
    """One half of a prepared data set, of samples of one size.

    On the CPU nothing is copied but the batch: workers share the memory map.
    """

    def __init__(self, split: Split, device: str) -> None:
        if isinstance(split.images, Ragged) or isinstance(split.labels, Ragged):
            raise SpecError(
                ["train.patch: missing; samples of different sizes are trained on in patches, as in `[64, 96, 96]`"]
            )
        self.device = device
        self._images, self._labels = split.images, split.labels
        self._resident: tuple[Tensor, Tensor] | None = None
        if _fits(split, device):
            self._resident = (
                torch.from_numpy(np.array(self._images)).to(device),
                torch.from_numpy(np.array(self._labels)).to(device),
            )

    def __len__(self) -> int:
        return len(self._labels)

    def begin(self, epoch: int) -> None:
        """Do nothing: samples are the same in every epoch."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *S] (as stored) and labels [B, *S] int64 of the samples `index` [B], on the device."""
        if self._resident is not None:
            images, labels = self._resident
            there = index.to(self.device)
            return images[there], labels[there].long()
        rows = index.numpy()
        images, labels = torch.from_numpy(self._images[rows]), torch.from_numpy(self._labels[rows])
        if self.device.startswith("cuda"):
            images, labels = images.pin_memory(), labels.pin_memory()
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True).long()


def _fits(split: Split, device: str) -> bool:
    kind = torch.device(device).type
    if kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif kind == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        return False
    return split.images.nbytes + split.labels.nbytes <= RESIDENT_SHARE * free
