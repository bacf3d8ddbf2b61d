"""Build a model from its configuration, and refuse options that do not fit its dimensions or each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tuner.errors import Problem, SpecError
from tuner.models.catalog import ENTRY, MODELS, WEIGHTS
from tuner.models.custom import UserNet
from tuner.models.rules import dims_problems, rule_problems
from tuner.registry import Scalar, defaults, load, option_named

Maker = Callable[..., Any]
"""A function of the user's own that makes a network of `channels`, `classes`, `spatial_dims` and its own options."""


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
        self.weights: str | None = None
        """The file that the weights come from, as the configuration names it."""

    @property
    def deep_supervision(self) -> bool:
        """Whether it has coarser outputs in training mode."""
        return bool(getattr(self.network, "deep_supervision", False))

    def forward(self, images: Tensor) -> Any:
        """Map [B, channels, *S] to logits [B, classes, *S].

        With deep supervision and in training mode to a list of logits, these first; the coarser ones are not cropped.
        """
        sizes = images.shape[2:]
        found = self.network(self.pad(images, sizes, value=0.0))
        if isinstance(found, list):
            return [_cropped(found[0], sizes), *found[1:]]
        return _cropped(found, sizes)

    def pad(self, maps: Tensor, sizes: Sequence[int], *, value: float) -> Tensor:
        """Fill maps [..., *S] of these sizes up at their far end to the size that the network sees."""
        missing = [after - size for after, size in zip(self.padded(sizes), sizes, strict=True)]
        padding = [amount for extra in reversed(missing) for amount in (0, extra)]
        return F.pad(maps, padding, value=value) if any(missing) else maps

    def padded(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the size [*S] that the network sees of an input of this size."""
        return tuple(size + max(-size % self.stride, 2 * self.stride - size) for size in sizes)

    def effective_options(self) -> dict[str, Scalar]:
        """Return the options that the built layers really have, under their dotted names."""
        own: dict[str, Scalar] = cast(Any, self.network).effective_options()
        if self.weights is not None:
            own = own | {"weights": self.weights}
        return {"model.name": self.name} | {f"model.{key}": value for key, value in own.items()}


def _cropped(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    for axis, size in enumerate(sizes, start=2):
        if logits.shape[axis] != size:
            logits = logits.narrow(axis, 0, size)
    return logits


def build_model(
    config: Mapping[str, Any], *, channels: int, classes: int, spatial_dims: int, maker: Maker | None = None
) -> SegmentationNet:
    """Build the network that the `model` section names; options that it leaves out take their defaults.

    Its weights are at random: `tuner.models.pretrained` loads those of `weights`.

    Args:
        config: `{"name": "unet", "width": 32, ...}`.
        channels: Channels of an image.
        classes: Classes, the background included.
        spatial_dims: 2 for images, 3 for volumes.
        maker: The function that `entry` names, imported by whoever may.

    Raises:
        UnknownNameError: A model or an option that there is not.
        SpecError: The model is not made for so many dimensions, options do not go together, or there is no maker.
        EntryError: The user's function failed, or did not return a network.
    """
    given = {key: value for key, value in config.items() if key not in ("name", WEIGHTS.name)}
    if config.get("name") == ENTRY:
        return SegmentationNet(ENTRY, _made(given, maker, channels, classes, spatial_dims))
    entry = MODELS.find(str(config.get("name")), where="model.name")
    for key in given:
        option_named(entry, key, kind="model", where=f"model.{key}")
    options = defaults(entry) | given
    problems = [*dims_problems(entry, spatial_dims), *rule_problems(entry, options, "model")]
    if problems:
        raise SpecError(problems)
    return SegmentationNet(entry.name, load(entry.fn)(channels, classes, spatial_dims, **options))


def _made(given: dict[str, Any], maker: Maker | None, channels: int, classes: int, spatial_dims: int) -> UserNet:
    path = str(given.pop("entry", ""))
    if maker is None:
        raise SpecError([Problem("model.entry", f"{path!r} is made only by a process that trains", path)])
    return UserNet.made_by(maker, path, channels=channels, classes=classes, spatial_dims=spatial_dims, options=given)
