"""Batches of samples or patches on the training device: resident there when they fit, else read from the memory map.

Everything that is drawn depends on (seed, epoch) only, so that a continued training draws what it would have drawn.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.trial import TrainConfig
from tuner.data.arrays import Ragged, Split
from tuner.data.foreground import find_foreground
from tuner.data.preparation import PreparedData
from tuner.data.transfer import copy_to_device
from tuner.errors import Problem, SpecError
from tuner.training.device import device_room, generator
from tuner.training.sliding_window import crop

RESIDENT_SHARE = 0.4
"""What is prepared stays on the device when it takes at most this share of the memory that a worker has there."""


def fits_device(size: int, device: str, share: float) -> bool:
    """Say whether so many bytes may stay on an accelerator, of whose free memory `share` is this worker's; no CPU's."""
    room = device_room(device)
    return room is not None and size <= RESIDENT_SHARE * share * room


class Batches(Protocol):
    """What an epoch is trained on."""

    def __len__(self) -> int: ...

    def begin(self, epoch: int) -> None:
        """Prepare for an epoch."""

    def prefetch(self, index: Tensor) -> None:
        """Get ready what `batch` will be asked for next."""

    def batch(self, index: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *S] and labels [B, *S] int64 of the samples `index` [B], on the device.

        `there` is `index` on the device, where somebody has it.
        """

    def close(self) -> None:
        """End what works beside the training."""


class Samples:
    """One split of a prepared data set, of samples of one size.

    On the CPU nothing is copied but the batch: workers share the memory map.
    """

    def __init__(self, split: Split, device: str, share: float = 1.0) -> None:
        if isinstance(split.images, Ragged) or isinstance(split.labels, Ragged):
            missing = "missing; samples of different sizes are trained on in patches, as in `[64, 96, 96]`"
            raise SpecError([Problem("train.patch", missing)])
        self.device = device
        self._images, self._labels = split.images, split.labels
        self._resident: tuple[Tensor, Tensor] | None = None
        if fits_device(split.images.nbytes + split.labels.nbytes, device, share):
            self._resident = (
                torch.from_numpy(np.array(self._images)).to(device),
                torch.from_numpy(np.array(self._labels)).to(device),
            )

    def __len__(self) -> int:
        return len(self._labels)

    def begin(self, epoch: int) -> None:
        """Do nothing: samples are the same in every epoch."""

    def prefetch(self, index: Tensor) -> None:
        """Do nothing: samples lie ready."""

    def close(self) -> None:
        """Do nothing."""

    @property
    def labels(self) -> Tensor | None:
        """Labels of all samples [N, *S], as stored, where they are kept on the device."""
        return None if self._resident is None else self._resident[1]

    def batch(self, index: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *S] (as stored) and labels [B, *S] int64 of the samples `index` [B], on the device."""
        if self._resident is not None:
            images, labels = self._resident
            there = copy_to_device(index, self.device) if there is None else there
            return images[there], labels[there].long()
        rows = index.numpy()
        images, labels = torch.from_numpy(self._images[rows]), torch.from_numpy(self._labels[rows])
        return copy_to_device(images, self.device), copy_to_device(labels, self.device).long()


_OTHER_DRAWS = 3
"""Uniform numbers of a patch beside those of its place: whether it holds a class, which class, which pixel of it."""


class Patches:
    """`train.patches` pieces of every training sample; read from the memory map, so volumes may be of any size.

    A patch that is larger than its sample is filled up with zeros around it, which are ignored by the loss. The patches
    of the next step are cut while an accelerator computes; on the CPU a thread for it would take the step's own core.
    """

    def __init__(self, data: PreparedData, patch: tuple[int, ...], train: TrainConfig, seed: int, device: str) -> None:
        self.data, self.patch, self.device = data, patch, device
        self._each, self._foreground, self._seed = train.patches, train.foreground, seed
        self._places = find_foreground(data) if train.foreground else None
        self._starts: NDArray[np.int64] = np.zeros((0, len(patch)), np.int64)
        self._cutter = None if device == "cpu" else ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._next: tuple[list[int], Future[tuple[Tensor, Tensor]]] | None = None

    def __len__(self) -> int:
        return len(self.data.train.labels) * self._each

    def begin(self, epoch: int) -> None:
        """Draw where the patches of an epoch are."""
        shape = (len(self), _OTHER_DRAWS + len(self.patch))
        draws = torch.rand(shape, generator=generator(self._seed, "patches", epoch), dtype=torch.float64).numpy()
        self._forget()
        self._starts = np.array([self._start(number // self._each, row) for number, row in enumerate(draws)], np.int64)

    def prefetch(self, index: Tensor) -> None:
        """Begin to cut the patches `index` [B] of this epoch."""
        if self._cutter is not None:
            self._forget()
            numbers = index.tolist()
            self._next = (numbers, self._cutter.submit(self._cut, numbers))

    def batch(self, index: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *P] and labels [B, *P] int64 of the patches `index` [B], on the device."""
        numbers, ready = index.tolist(), self._next
        self._next = None
        images, labels = ready[1].result() if ready is not None and ready[0] == numbers else self._cut(numbers)
        return copy_to_device(images, self.device), copy_to_device(labels, self.device).long()

    def close(self) -> None:
        """End the thread."""
        self._forget()
        if self._cutter is not None:
            self._cutter.shutdown()

    def _forget(self) -> None:
        """Wait for what is being cut and nobody has asked for: it reads the places of this epoch."""
        if self._next is not None and not self._next[1].cancel():
            self._next[1].exception()
        self._next = None

    def _cut(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        train, void = self.data.train, self.data.ignore_index
        places = [(number // self._each, self._starts[number].tolist()) for number in numbers]
        images = torch.from_numpy(np.stack([crop(train.images[row], at, self.patch) for row, at in places]))
        labels = torch.from_numpy(np.stack([crop(train.labels[row], at, self.patch, void) for row, at in places]))
        return images, labels

    def _start(self, sample: int, draws: NDArray[np.float64]) -> list[int]:
        """Return where a patch begins: uniformly among the places that it can have, or that hold the drawn pixel."""
        space = self.data.train.labels[sample].shape
        pixel = None
        if self._places is not None and draws[0] < self._foreground:
            pixel = self._places.draw(sample, draws[1], draws[2])
        start = []
        for axis, (size, side, draw) in enumerate(zip(space, self.patch, draws[_OTHER_DRAWS:], strict=True)):
            if size <= side:
                start.append(-((side - size) // 2))
                continue
            low, high = 0, size - side
            if pixel is not None:
                low, high = max(low, int(pixel[axis]) - side + 1), min(high, int(pixel[axis]))
            start.append(low + int(draw * (high - low + 1)))
        return start
