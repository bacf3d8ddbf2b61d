"""What the options of a model must have to do with each other. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from tuner.models.entry import ModelEntry
from tuner.registry import load


def rule_problems(entry: ModelEntry, options: Mapping[str, Any], path: str) -> list[str]:
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
