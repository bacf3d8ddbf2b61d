"""From the `model` section of a configuration to a network that takes images of any size."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tuner.models.catalogue import MODELS
from tuner.registry import Scalar, defaults, load, option_named


class SegmentationNet(nn.Module):
    """A network of the registry behind one door: any input size, logits of that same size.

    The input is padded with zeros at its far end to a multiple of the network's stride, at least twice the stride
    (normalisation over a single pixel is undefined), and the logits are cropped back.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.stride = cast(int, network.stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S] to logits [B, classes, *S]."""
        sizes = images.shape[2:]
        missing = [after - size for after, size in zip(self.padded(sizes), sizes, strict=True)]
        if not any(missing):
            return cast(Tensor, self.network(images))
        padding = [amount for extra in reversed(missing) for amount in (0, extra)]
        logits: Tensor = self.network(F.pad(images, padding))
        for axis, size in enumerate(sizes, start=2):
            logits = logits.narrow(axis, 0, size)
        return logits

    def padded(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the size [*S] that the network sees of an input of this size."""
        return tuple(size + max(-size % self.stride, 2 * self.stride - size) for size in sizes)

    def effective_options(self) -> dict[str, Scalar]:
        """Return the options that the built layers really have, under their dotted names."""
        own: dict[str, Scalar] = cast(Any, self.network).effective_options()
        return {"model.name": self.name} | {f"model.{key}": value for key, value in own.items()}


def build_model(config: Mapping[str, Any], *, channels: int, classes: int, spatial_dims: int) -> SegmentationNet:
    """Build the network that the `model` section names; options that it leaves out take their defaults.

    Args:
        config: `{"name": "unet", "width": 32, ...}`.
        channels: Channels of an image.
        classes: Classes, the background included.
        spatial_dims: 2 for images, 3 for volumes.

    Raises:
        UnknownNameError: A model or an option that there is not.
    """
    entry = MODELS.find(str(config.get("name")), where="model.name")
    given = {key: value for key, value in config.items() if key != "name"}
    for key in given:
        option_named(entry, key, kind="model", where=f"model.{key}")
    network = load(entry.fn)(channels, classes, spatial_dims, **(defaults(entry) | given))
    return SegmentationNet(entry.name, network)
