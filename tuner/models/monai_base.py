"""What the wrappers of MONAI's networks share: the network inside, and how its options are read back."""

from typing import cast

from torch import Tensor, nn

from tuner.models.layers import norm_name
from tuner.registry import Scalar

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = ("batch", "instance", "group")
_DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)


class Wrapped(nn.Module):
    """A network of MONAI's with what this project asks of one: `stride`, `classifier`, `effective_options()`.

    `options` are those that the builder read from the built layers. Of several outputs the first is taken.
    """

    def __init__(self, net: nn.Module, *, stride: int, classifier: nn.Module, options: dict[str, Scalar]) -> None:
        super().__init__()
        self.net = net
        self.stride = stride
        self._classifier = (classifier,)  # in a tuple, or it would be registered a second time
        self._options = options

    @property
    def classifier(self) -> nn.Module:
        """The layer that makes logits of features."""
        return self._classifier[0]

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S]."""
        found = self.net(images)
        return cast(Tensor, found[0] if isinstance(found, (list, tuple)) else found)

    def effective_options(self) -> dict[str, Scalar]:
        """Return the options that were read from the layers."""
        return dict(self._options)


def norm_argument(norm: str, groups: int = 8) -> tuple[str, dict[str, object]]:
    """Return MONAI's argument for a normalisation with learned scale and shift."""
    if norm == "group":
        return "group", {"num_groups": groups}
    return norm, {} if norm == "batch" else {"affine": True}


def first_norm(net: nn.Module) -> str:
    """Name the first normalisation of a network."""
    return next(name for m in net.modules() if (name := norm_name(m)) in _NORMS)


def first_dropout(net: nn.Module) -> float:
    """Return the probability of the first dropout that there is, else 0."""
    return next((m.p for m in net.modules() if isinstance(m, _DROPOUTS)), 0.0)


def first_width(net: nn.Module) -> int:
    """Return the output channels of the first convolution."""
    return next(m.out_channels for m in net.modules() if isinstance(m, CONVOLUTIONS))
