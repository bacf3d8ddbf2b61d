"""Registries of named declarations (losses, data sets, models, samplers …) with their options, declared once.

A declaration names its code as `"package.module:function"`, so that catalogues, validators and forms are made
without importing torch, MONAI or Optuna; `load` imports the code when it is needed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, Protocol, TypeVar

from tuner.errors import Problems, UnknownNameError, closest, unknown_name

Scalar = bool | int | float | str | None
OptionType = Literal["float", "int", "bool", "str"]


@dataclass(frozen=True, slots=True)
class Search:
    """The range that a search explores by default: an interval (`low`, `high`, `log`) or `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Scalar, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the contract."""
        return {"low": self.low, "high": self.high, "log": self.log, "choices": _list(self.choices)}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a declaration: its type, published default, legal values, and what is searched.

    The legal interval is closed (`low`, `high`) or open (`above`, `below`) at either end. `nullable` options take None
    as well; what None means stands in the summary.
    """

    name: str
    type: OptionType
    default: Scalar
    summary: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] | None = None
    search: Search | None = None
    nullable: bool = False
    above: float | None = None
    below: float | None = None

    def problem(self, value: object) -> str | None:
        """Say in half a sentence why `value` is not legal, or return None when it is."""
        if value is None:
            return None if self.nullable else f"null is not a value of {self.name!r} ({self.legal()})"
        if not self._has_type(value):
            return f"{value!r} is not {_article(self.type)} ({self.legal()})"
        if self.choices is not None:
            if value in self.choices:
                return None
            near = closest(str(value), [str(choice) for choice in self.choices])
            return f"{value!r} is not one of {', '.join(map(str, self.choices))}" + (
                f"; did you mean {near!r}?" if near else ""
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value != value or value in (float("inf"), float("-inf")):
                return f"{value!r} is not finite ({self.legal()})"
            if self.low is not None and value < self.low:
                return f"{value!r} is below the limit {self.low!r} ({self.legal()})"
            if self.high is not None and value > self.high:
                return f"{value!r} is above the limit {self.high!r} ({self.legal()})"
            if self.above is not None and value <= self.above:
                return f"{value!r} is not above {self.above!r} ({self.legal()})"
            if self.below is not None and value >= self.below:
                return f"{value!r} is not below {self.below!r} ({self.legal()})"
        return None

    def legal(self) -> str:
        """Describe what is legal, for messages: `0.0 to 10.0`, `one of a, b`, `true or false`."""
        if self.choices is not None:
            text = "one of " + ", ".join(map(str, self.choices))
        elif self.type == "bool":
            text = "true or false"
        elif self.low is not None and self.high is not None:
            text = f"{self.low!r} to {self.high!r}"
        else:
            ends = (("at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below))
            text = ", ".join(f"{word} {end!r}" for word, end in ends if end is not None) or f"any {self.type}"
        return text + (" or null" if self.nullable else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the contract."""
        return {
            "name": self.name,
            "type": self.type,
            "default": self.default,
            "low": self.low,
            "high": self.high,
            "choices": _list(self.choices),
            "search": self.search.as_dict() if self.search else None,
            "summary": self.summary,
        }

    def _has_type(self, value: object) -> bool:
        if self.type == "bool":
            return isinstance(value, bool)
        if isinstance(value, bool):
            return False
        if self.type == "float":
            return isinstance(value, (int, float))
        if self.type == "int":
            return isinstance(value, int)
        return isinstance(value, str)


class Declaration(Protocol):
    """What every declaration has."""

    @property
    def name(self) -> str:
        """What YAML calls it."""

    @property
    def options(self) -> tuple[Option, ...]:
        """What can be set about it."""


DeclarationT = TypeVar("DeclarationT", bound=Declaration)


class Registry(Mapping[str, DeclarationT], Generic[DeclarationT]):
    """Declarations by name, in the order that they were listed in; an unknown name is refused with the closest."""

    def __init__(self, kind: str, *groups: tuple[DeclarationT, ...]) -> None:
        self.kind = kind
        self._specs: dict[str, DeclarationT] = {}
        for spec in (spec for group in groups for spec in group):
            if spec.name in self._specs:
                raise ValueError(f"two of the kind {kind} are called {spec.name!r}")
            self._specs[spec.name] = spec

    def __getitem__(self, name: str) -> DeclarationT:
        return self.find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def find(self, name: str, *, where: str | None = None) -> DeclarationT:
        """Return the declaration called `name`, or raise UnknownNameError that points at `where`."""
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownNameError(kind=self.kind, name=name, known=self._specs, where=where) from None


def option_named(spec: Declaration, name: str, *, kind: str, where: str | None = None) -> Option:
    """Return one option of a declaration, or raise UnknownNameError."""
    for option in spec.options:
        if option.name == name:
            return option
    raise UnknownNameError(
        kind=f"option of {kind} {spec.name!r}", name=name, known=[o.name for o in spec.options], where=where
    )


def complete_options(
    rows: Iterable[Option], given: Mapping[str, Any], path: str, problems: Problems, *, known: Iterable[str] = ()
) -> dict[str, Scalar]:
    """Give every option a value: the given one when it is legal, else its default.

    Args:
        rows: The declared options.
        given: Values by name.
        path: Dotted key under which they stand; what is wrong is told below it.
        problems: Gets every unknown name and every value that is not legal.
        known: Further names that may stand there; they belong into the message about an unknown one.
    """
    options = {option.name: option for option in rows}
    values = {name: option.default for name, option in options.items()}
    for key, value in given.items():
        name, where = str(key), f"{path}.{key}" if path else str(key)
        option = options.get(name)
        if option is None:
            problems.append(unknown_name("key", name, [*options, *known], where))
        elif problem := option.problem(value):
            problems.add(where, problem, value)
        else:
            values[name] = float(value) if option.type == "float" and value is not None else value
    return values


def require_options(rows: Iterable[Option], given: Iterable[str], *, kind: str, where: str | None = None) -> None:
    """Raise UnknownNameError for the first name that is not that of an option."""
    names = [option.name for option in rows]
    for name in given:
        if name not in names:
            raise UnknownNameError(kind=kind, name=name, known=names, where=where)


def defaults(spec: Declaration) -> dict[str, Scalar]:
    """Return the published default of every option."""
    return {option.name: option.default for option in spec.options}


class LazyModule:
    """A module of ours that is not imported yet: `LazyModule("a.b").c` is "a.b:c", which `load` resolves."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> str:
        return f"{self._name}:{attribute}"


def load(path: object) -> Any:
    """Import `"package.module:attribute"` of our own code (never a user's: see `tuner.training.custom`)."""
    module, _, attribute = str(path).partition(":")
    return getattr(import_module(module), attribute)


def _list(values: tuple[Scalar, ...] | None) -> list[Scalar] | None:
    return None if values is None else list(values)


def _article(name: str) -> str:
    return {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a text"}[name]
