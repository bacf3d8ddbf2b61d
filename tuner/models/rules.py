"""Rules between options of a model, and its numbers of spatial dimensions. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from tuner.errors import Problem, Problems
from tuner.models.catalog import MODELS, ModelSpec
from tuner.registry import load

_KIND = {2: "images (2-D)", 3: "volumes (3-D)"}


def dims_problems(entry: ModelSpec, spatial_dims: int) -> Problems:
    """Say that a model is not made for what the data set holds; nothing where it is."""
    found = Problems()
    if spatial_dims in entry.dims:
        return found
    others = ", ".join(name for name, row in MODELS.items() if spatial_dims in row.dims)
    found.add(
        "model.name",
        f"{entry.name!r} is made for {entry.takes}; this data set holds {_KIND[spatial_dims]}, for which there are: "
        f"{others}",
        entry.name,
    )
    return found


def rule_problems(entry: ModelSpec, options: Mapping[str, Any], path: str) -> list[Problem]:
    """Say what is wrong with legal options that do not go together."""
    found: Problems = load(entry.rule)(options) if entry.rule else Problems()
    return [problem.below(path) for problem in found]


def deep_enough(options: Mapping[str, Any]) -> Problems:
    """Deep supervision needs a level of the decoder between the finest, which is the output, and the coarsest."""
    found = Problems()
    if options.get("deep_supervision") and options["depth"] < 3:
        wrong = f"with depth {options['depth']} there is no coarser output to learn from; a depth of 3 or more has one"
        found.add("deep_supervision", wrong, True)
    return found


def heads_divide_hidden(options: Mapping[str, Any]) -> Problems:
    """Each head of the attention takes an equal part of the hidden channels."""
    found, hidden, heads = Problems(), options["hidden"], options["heads"]
    if hidden % heads:
        legal = ", ".join(str(n) for n in range(1, min(hidden, 64) + 1) if hidden % n == 0)
        wrong = f"{heads} heads cannot share {hidden} hidden channels evenly; with these, {legal} can"
        found.add("heads", wrong, heads)
    return found
