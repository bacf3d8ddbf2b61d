"""A network on its device, in the precision and layout that are right for it: what training and prediction share."""

import logging
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuner.config.trial import TrialConfig
from tuner.models.build import SegmentationNet
from tuner.training.device import resolve_precision, sound_precision
from tuner.training.sources import NOTHING, Sources, build_network

logger = logging.getLogger(__name__)


@dataclass
class Net:
    """A network on its device."""

    model: SegmentationNet
    device: str
    precision: str
    layout: torch.memory_format

    def to_device(self, images: Tensor) -> Tensor:
        """Bring a batch [B, C, *S] to the device, in float32 and in the layout that the network is fast with."""
        moved = images.to(self.device, torch.float32, non_blocking=True)
        return moved.contiguous(memory_format=self.layout)

    def logits(self, images: Tensor) -> Tensor:
        """Run the network under autocast: [B, C, *S] to [B, classes, *S]."""
        if self.precision == "float32":
            return cast(Tensor, self.model(images))
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        with torch.autocast(torch.device(self.device).type, dtype=dtype):
            return cast(Tensor, self.model(images))


def build_net(
    config: TrialConfig,
    device: str,
    *,
    channels: int,
    classes: int,
    spatial_dims: int,
    sources: Sources = NOTHING,
) -> Net:
    """Build the network that a configuration names and bring it to its device.

    Raises:
        SpecError, EntryError, DataError: It cannot be built, see `build_network`.
    """
    model = build_network(config, sources, channels=channels, classes=classes, spatial_dims=spatial_dims)
    layout = fast_layout(model, device, spatial_dims)
    model = cast(Any, model).to(device, memory_format=layout)
    return Net(model, device, _precision(config.train.precision, device, spatial_dims), layout)


def fast_layout(model: nn.Module, device: str, dims: int) -> torch.memory_format:
    """Channels last, where the device has fast kernels for all that the network does in it.

    On the CPU, instance and group normalisation are up to ten times slower in that layout, and volumes gain nothing.
    """
    kind = torch.device(device).type
    slow_norms = (nn.GroupNorm, nn.InstanceNorm2d)
    if kind == "mps" or (kind == "cpu" and (dims == 3 or any(isinstance(m, slow_norms) for m in model.modules()))):
        return torch.contiguous_format
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def _precision(wanted: str, device: str, dims: int) -> str:
    used = resolve_precision(device, dims) if wanted == "auto" else sound_precision(wanted, device, dims)
    if wanted not in ("auto", used):
        logger.warning("volumes on %s are trained in %s: its gradients in %s are wrong", device, used, wanted)
    return used
