"""Feature hook: the features before the classifier and its weights, for losses that need them.

A network says which layer its classifier is by an attribute `classifier`; of any other it is the last convolution.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.errors import SpecError
from tuner.models.build import SegmentationNet

FEATURES = frozenset({"features", "classifier_weight", "classifier_bias"})
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *TRANSPOSED)


class FeatureTap:
    """Keeps the classifier's input of the last forward pass in training mode; nothing else is stored or copied."""

    def __init__(self, model: SegmentationNet, *, classes: int) -> None:
        self.model = model
        self.classifier = classifier_of(model.network, classes=classes)
        self._features: Tensor | None = None
        cast(Any, self.classifier).register_forward_pre_hook(self._keep)

    @property
    def channels(self) -> int:
        """Number of feature channels."""
        return int(self.classifier.in_channels)

    def take(self, sizes: tuple[int, ...]) -> dict[str, Tensor]:
        """Return features [B, D, *S], classifier_weight [C, D] and classifier_bias [C], and forget the features.

        Features coarser than the logits are interpolated, then cropped as the logits of a padded input are. Where the
        classifier's kernel is larger than a pixel, its weight is its response to features that are the same all around.
        """
        features, self._features = self._features, None
        if features is None:
            raise SpecError([f"model {self.model.name}: its last convolution was not run, so it has no features"])
        padded = self.model.padded(sizes)
        if tuple(features.shape[2:]) != padded:
            way = "bilinear" if len(sizes) == 2 else "trilinear"
            features = F.interpolate(features, size=padded, mode=way, align_corners=False)
        for axis, size in enumerate(sizes, start=2):
            features = features.narrow(axis, 0, size)
        weight = response(self.classifier)
        if getattr(self.model.network, "classifier_is_residual", False):
            weight = weight + torch.eye(*weight.shape, dtype=weight.dtype, device=weight.device)
        given = {"features": features, "classifier_weight": weight}
        if self.classifier.bias is not None:
            given["classifier_bias"] = self.classifier.bias
        return given

    def _keep(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if module.training:
            self._features = arguments[0]


def classifier_of(network: nn.Module, *, classes: int) -> Any:
    """Return the layer that makes logits of features. Raises SpecError where the last convolution does not."""
    layer = getattr(network, "classifier", None)
    if layer is None:
        layer = next((m for m in reversed(list(network.modules())) if isinstance(m, CONVOLUTIONS)), None)
    found = "none" if layer is None else str(layer)
    if not isinstance(layer, CONVOLUTIONS) or layer.out_channels != classes or layer.groups != 1:
        raise SpecError(
            [
                f"model: the loss needs the features that {type(network).__name__} classifies, which are the input of "
                f"its last convolution, with {classes} outputs; found {found}. An attribute `classifier` may name it"
            ]
        )
    return layer


def response(layer: Any) -> Tensor:
    """Return what a convolution answers to constant features, [C, D]; of a transposed one, the mean over phases."""
    weight: Tensor = layer.weight
    summed = weight.flatten(2).sum(2)
    if not isinstance(layer, TRANSPOSED):
        return summed
    phases = 1
    for stride in layer.stride:
        phases *= stride
    return summed.t() / phases
