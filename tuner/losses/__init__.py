"""Loss functions for semantic segmentation, for anybody's training loop.

from tuner import losses

loss = losses.create("focal_tversky", alpha=0.3)
value = loss(logits, target)

The names below are public and versioned (`api_version`); torch is imported when the first of them is used that needs
it, and nothing of the search service ever is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.errors import LossInputError as LossInputError
    from tuner.losses import functional as functional
    from tuner.losses.class_frequencies import count_class_frequencies as count_class_frequencies
    from tuner.losses.declared import Choices as Choices
    from tuner.losses.declared import Range as Range
    from tuner.losses.listing import info as info
    from tuner.losses.listing import names as names
    from tuner.losses.module import DeepSupervision as DeepSupervision
    from tuner.losses.module import Loss as Loss
    from tuner.losses.module import create as create

api_version = "1.0"
"""Raised by one before the dot when a public name or its meaning goes, behind it when one comes."""

_PUBLIC = {
    "Choices": "tuner.losses.declared",
    "DeepSupervision": "tuner.losses.module",
    "Loss": "tuner.losses.module",
    "LossInputError": "tuner.errors",
    "Range": "tuner.losses.declared",
    "count_class_frequencies": "tuner.losses.class_frequencies",
    "create": "tuner.losses.module",
    "functional": "",
    "info": "tuner.losses.listing",
    "names": "tuner.losses.listing",
}

__all__ = [*sorted(_PUBLIC), "api_version"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _PUBLIC[name]:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
