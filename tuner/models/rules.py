"""Rules between the options of models, and the dimensions that they work in.

Which networks are made for images and which for volumes. Imports no torch.

What the options of a model must have to do with each other. Imports no torch.
"""

from collections.abc import Mapping
from typing import Any

from tuner.models.catalog import MODELS, ModelSpec
from tuner.registry import load

_KIND = {2: "images (2-D)", 3: "volumes (3-D)"}


def dims_problem(entry: ModelSpec, spatial_dims: int) -> list[str]:
    """Say in one line that a model is not made for what the data set holds; an empty list where it is."""
    if spatial_dims in entry.dims:
        return []
    others = ", ".join(name for name, row in MODELS.items() if spatial_dims in row.dims)
    return [
        f"model.name: {entry.name!r} is made for {entry.takes}; this data set holds {_KIND[spatial_dims]}, for which "
        f"there are: {others}"
    ]


def rule_problems(entry: ModelSpec, options: Mapping[str, Any], path: str) -> list[str]:
    """Say what is wrong with legal options that do not go together, a line each."""
    found: list[str] = load(entry.rule)(options) if entry.rule else []
    return [f"{path}.{problem}" for problem in found]


def heads_divide_hidden(options: Mapping[str, Any]) -> list[str]:
    """Each head of the attention takes an equal part of the hidden channels."""
    hidden, heads = options["hidden"], options["heads"]
    if hidden % heads == 0:
        return []
    legal = [str(n) for n in range(1, min(hidden, 64) + 1) if hidden % n == 0]
    return [f"heads: {heads} heads cannot share {hidden} hidden channels evenly; with these, {', '.join(legal)} can"]
