"""The most memory that a training has held: on a CUDA device what its tensors took, else what its process took."""

import torch

from tuner.training.device import forget_peak, peak_memory
from tuner.training.epoch_report import PeakMemory


class MemoryMeter:
    """Measures from when it is made. A process trains one configuration at a time.

    On CUDA: `torch.cuda.max_memory_allocated`, without what PyTorch keeps for later. Else the peak resident memory of
    this process, interpreter, libraries and prepared data included, as Linux tells it. Other systems cannot be asked
    for a part of the time, and nothing is said there.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._is_reset = forget_peak(device)

    def read(self) -> PeakMemory | None:
        """Return the peak so far; None where it cannot be known."""
        if not self._is_reset:
            return None
        if self._device.startswith("cuda"):
            return PeakMemory("cuda", torch.cuda.max_memory_allocated(self._device))
        held = peak_memory(self._device)
        return None if held is None else PeakMemory("process", held)
