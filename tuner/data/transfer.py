"""Copies from the host to a device."""

import torch
from torch import Tensor


def copy_to_device(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Copy a tensor of the host to a device; to CUDA from pinned memory, so that the host does not wait for it."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
