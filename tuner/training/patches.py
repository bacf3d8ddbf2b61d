"""Patches of the training half, drawn anew in every epoch: some anywhere, some around a pixel of a class.

Everything that is drawn depends on (seed, epoch) only, so that a continued training draws what it would have drawn.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.train_section import TrainConfig
from tuner.data.foreground import find_places
from tuner.data.preparation import PreparedData
from tuner.training.seeds import generator
from tuner.training.sliding_window import cut

_OTHER_DRAWS = 3
"""Uniform numbers of a patch beside those of its place: whether it holds a class, which class, which pixel of it."""


class Patches:
    """`train.patches` pieces of every training sample; read from the memory map, so volumes may be of any size.

    A patch that is larger than its sample is filled up with zeros around it, which are ignored by the loss.
    """

    def __init__(self, data: PreparedData, patch: tuple[int, ...], train: TrainConfig, seed: int, device: str) -> None:
        self.data, self.patch, self.device = data, patch, device
        self._each, self._foreground, self._seed = train.patches, train.foreground, seed
        self._places = find_places(data) if train.foreground else None
        self._starts: NDArray[np.int64] = np.zeros((0, len(patch)), np.int64)

    def __len__(self) -> int:
        return len(self.data.train.labels) * self._each

    def begin(self, epoch: int) -> None:
        """Draw where the patches of an epoch are."""
        shape = (len(self), _OTHER_DRAWS + len(self.patch))
        draws = torch.rand(shape, generator=generator(self._seed, "patches", epoch), dtype=torch.float64).numpy()
        self._starts = np.array([self._start(number // self._each, row) for number, row in enumerate(draws)], np.int64)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images [B, C, *P] and labels [B, *P] int64 of the patches `index` [B], on the device."""
        train, void = self.data.train, self.data.ignore_index
        numbers = index.tolist()
        places = [(number // self._each, self._starts[number].tolist()) for number in numbers]
        images = torch.from_numpy(np.stack([cut(train.images[row], at, self.patch) for row, at in places]))
        labels = torch.from_numpy(np.stack([cut(train.labels[row], at, self.patch, void) for row, at in places]))
        if self.device.startswith("cuda"):
            images, labels = images.pin_memory(), labels.pin_memory()
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True).long()

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
