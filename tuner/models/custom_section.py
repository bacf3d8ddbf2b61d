"""The `model` section that names a function of the user's own: its spelling and its options.

`model: {entry: package.module:function, width: 32}`; what stands beside `entry` is handed to the function as it is.
Imports neither torch nor anything of the user's.
"""

from collections.abc import Mapping
from typing import Any

from tuner.errors import Problems
from tuner.models.catalog import ENTRY, SPELLING, WEIGHTS
from tuner.registry import Option, Scalar, Search

HANDED_OVER = ("channels", "classes", "spatial_dims")
"""Keywords that the function is given by the training."""


_SCALARS = (bool, int, float, str, type(None))


def is_own(given: object) -> bool:
    """Tell whether a `model` section names a function of the user's own."""
    return isinstance(given, Mapping) and ("entry" in given or given.get("name") == ENTRY)


def own_model_section(given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Check the section and return it with the name `entry`. Problems are appended, never raised."""
    options = {str(key): value for key, value in given.items()}
    name, path = options.pop("name", ENTRY), options.pop("entry", None)
    found = Problems()
    if name != ENTRY:
        found.add("model", f"{name!r} is a model of the catalogue, `entry` one of your own; keep one of the two", name)
    if not isinstance(path, str) or not SPELLING.fullmatch(path):
        found.add("model.entry", f"{path!r} is not spelt `package.module:function`", path)
    for key, value in options.items():
        problem = WEIGHTS.problem(value) if key == WEIGHTS.name else option_problem(key, value)
        if problem:
            found.add(f"model.{key}", problem, value)
    problems.extend(found)
    return {} if found else {"name": ENTRY, "entry": path, **options}


def option_problem(name: str, value: object) -> str | None:
    """Say what is wrong with an option for a function of the user's own."""
    if not name.isidentifier():
        return f"{name!r} cannot be a keyword of a function"
    if name in HANDED_OVER:
        return f"{name!r} comes from the data; choose another name"
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, _SCALARS) for item in items):
        return f"{value!r} is neither a number, text, true, false or null, nor a list of them"
    return None


class OwnOption(Option):
    """An option of a function of the user's own, of which nothing is known: any scalar is legal."""

    __slots__ = ()

    def problem(self, value: object) -> str | None:
        """Say what is wrong with a value that is searched."""
        if isinstance(value, list):
            return "only scalars can be searched"
        return option_problem(self.name, value)

    def legal(self) -> str:
        """Describe what is legal."""
        return "any scalar"


def own_option(name: str, given: object) -> OwnOption:
    """Describe an option by what the study file searches of it: integers where both ends of a range are."""
    ends = [given.get("low"), given.get("high")] if isinstance(given, Mapping) else []
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
    kind: Any = "str" if not ends else "int" if whole else "float"
    default: Scalar = None
    return OwnOption(name, kind, default, "An option of the function that `entry` names.", search=Search())
