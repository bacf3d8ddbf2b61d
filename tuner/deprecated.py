"""Old places of documented names: for one more minor version, with a DeprecationWarning that says the new one."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

REMOVED_IN = "0.3.0"
"""The version without the old places."""


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose names have moved.

    Args:
        module: `__name__` of the old module.
        names: Old name to "new.module:name".
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, attribute = names[name].partition(":")
        warnings.warn(
            f"{module}.{name} is now {place}.{attribute}; the old name goes in {REMOVED_IN}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(place), attribute)

    return find
