"""Custom models: `model: {entry: package.module:function}`.

The function is called with the keywords `channels`, `classes`, `spatial_dims` and the options that stand beside
`entry`, and returns a torch module that maps [B, channels, *S] to logits [B, classes, *S]. The module may say more by
attributes: `stride` (input sizes must be multiples of it), `classifier` (the layer that makes logits of features) and
`effective_options()`. `tuner.models.custom_section` reads the section of the configuration.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import EntryError
from tuner.registry import Scalar

WHERE = "model.entry"
KEYS = ("logits", "out")
"""Where networks that return a mapping keep what they are about."""


class UserNet(nn.Module):
    """A network of the user's own with what this project asks of one."""

    def __init__(self, net: nn.Module, path: str, options: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.net, self.path, self.options, self.classes = net, path, dict(options), classes
        stride = getattr(net, "stride", 1)
        if not isinstance(stride, int) or stride < 1:
            raise EntryError(f"{path}: `stride` of the network is {stride!r}, not a positive integer.", where=WHERE)
        self.stride = stride

    @classmethod
    def made_by(
        cls,
        maker: Callable[..., Any],
        path: str,
        *,
        channels: int,
        classes: int,
        spatial_dims: int,
        options: Mapping[str, Any],
    ) -> "UserNet":
        """Call the user's function. Raises EntryError when it fails, or returns something else than a torch module."""
        keywords = {"channels": channels, "classes": classes, "spatial_dims": spatial_dims, **options}
        _check_keywords(maker, path, keywords)
        try:
            net = maker(**keywords)
        except (Exception, SystemExit) as error:
            raise EntryError(f"{path} failed: {type(error).__name__}: {error}", where=WHERE) from error
        if not isinstance(net, nn.Module):
            raise EntryError(f"{path} returned {type(net).__name__}; it must return a torch module.", where=WHERE)
        return cls(net, path, options, classes)

    @property
    def classifier(self) -> Any:
        """The layer that makes logits of features, where the network says which."""
        return getattr(self.net, "classifier", None)

    @property
    def classifier_is_residual(self) -> bool:
        """Whether the classifier's input is added to its output."""
        return bool(getattr(self.net, "classifier_is_residual", False))

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S] to logits [B, classes, *S]."""
        return as_logits(self.net(images), self.classes, images.shape[2:], self.path)

    def effective_options(self) -> dict[str, Scalar]:
        """Return what the network says that it uses; of one that says nothing, what its function was given."""
        told = getattr(self.net, "effective_options", None)
        own = {str(k).removeprefix("model."): v for k, v in dict(told()).items()} if callable(told) else {}
        return {"entry": self.path, **self.options, **{k: v for k, v in own.items() if k in self.options}}


def as_logits(found: Any, classes: int, sizes: Sequence[int], path: str) -> Tensor:
    """Take the logits [B, classes, *S] out of what a network returned.

    Several outputs, as those of deep supervision, are a sequence, whose first has the size of the input, or one tensor
    [B, outputs, classes, *S], of which the first counts; a mapping holds them as `logits` or `out`.

    Raises:
        EntryError: There is nothing of that shape.
    """
    candidates = [found]
    if isinstance(found, Mapping):
        candidates = [found[key] for key in KEYS if key in found] or list(found.values())
    elif isinstance(found, (list, tuple)):
        candidates = list(found)
    wanted = (classes, *sizes)
    for candidate in candidates:
        if not torch.is_tensor(candidate):
            continue
        if tuple(candidate.shape[1:]) == wanted:
            return candidate
        if candidate.ndim == len(wanted) + 2 and tuple(candidate.shape[2:]) == wanted:
            return candidate[:, 0]
    shapes = ", ".join(str(tuple(c.shape)) if torch.is_tensor(c) else type(c).__name__ for c in candidates)
    raise EntryError(
        f"{path}: the network returned {shapes or type(found).__name__}; it must return logits of shape "
        f"(batch, {', '.join(map(str, wanted))}).",
        hint="A network that wants sizes divisible by N says so by an attribute `stride = N`.",
        where=WHERE,
    )


def _check_keywords(maker: Callable[..., Any], path: str, keywords: Mapping[str, Any]) -> None:
    try:
        inspect.signature(maker).bind(**keywords)
    except (TypeError, ValueError) as error:
        raise EntryError(
            f"{path} cannot be called with {', '.join(keywords)}: {error}.",
            hint="It takes the keywords channels, classes, spatial_dims, and the options that stand beside `entry`.",
            where=WHERE,
        ) from error
