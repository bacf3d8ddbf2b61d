"""Random numbers that depend on (seed, epoch, purpose) only: no generator's state has to survive an interruption."""

import zlib

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed of 63 bits of its own for a purpose (`model`, `order`, `augment`, `dropout`) in an epoch."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed torch's global generators, those of all devices included (weights at the start, dropout in an epoch)."""
    torch.manual_seed(derive(seed, purpose, epoch))


def generator(seed: int, purpose: str, epoch: int, device: str = "cpu") -> torch.Generator:
    """Return a generator of its own on a device."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, epoch))


def epoch_order(samples: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits the samples: [samples] int64 on the CPU, the same on every device."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))
