"""One row of the model registry, and what all models have."""

import re
from dataclasses import dataclass
from typing import Any

from tuner.registry import Option

WEIGHTS = Option(
    "weights",
    "str",
    None,
    "File of pretrained weights: .safetensors, .pt, .pth, .ckpt or .npz; absolute, or below the data root.",
    nullable=True,
)
"""An option of every model. Without a file it does not stand in the configuration at all."""

ENTRY = "entry"
"""The name of a model that is a function of the user's own, `model: {entry: package.module:function, ...}`."""

SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""How a function of the user's own is named."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A network by name. The code is named, not imported, so that the registry can be read without torch.

    `fn` takes the options as keyword arguments beside `channels`, `classes` and `spatial_dims`, and returns a module
    with `stride` (input sizes must be multiples of it) and `effective_options()`. `dims` are the numbers of spatial
    dimensions that it is made for, `extra` is the extra of this package that it needs, and `rule` names a function of
    `tuner.models.rules` that says what is wrong with options that do not go together.
    """

    name: str
    fn: str
    options: tuple[Option, ...]
    paper: str
    summary: str
    dims: tuple[int, ...] = (2, 3)
    extra: str = ""
    rule: str = ""

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Its own options, and those of every model."""
        return (*self.options, WEIGHTS)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "summary": self.summary,
            "paper": self.paper,
            "spatial_dims": list(self.dims),
            "extra": self.extra or None,
            "options": [option.as_dict() for option in self.all_options],
        }

    @property
    def takes(self) -> str:
        """What it is trained on, in words."""
        return {(2, 3): "images and volumes", (2,): "images only", (3,): "volumes only"}[self.dims]
