"""Registries of named declarations (losses, data sets, models, samplers …) with their options, declared once.

A declaration names its code as `"package.module:function"`, so that catalogues, validators and forms are made
without importing torch, MONAI or Optuna; `load` imports the code when it is needed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, Protocol, TypeVar

from tuner.errors import UnknownNameError, closest

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
    """One option of a declaration: its type, published default, legal closed interval, and what is searched.

    `nullable` options take None as well; what None means stands in the summary.
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
        return None

    def legal(self) -> str:
        """Describe what is legal, for messages: `0.0 to 10.0`, `one of a, b`, `true or false`."""
        if self.choices is not None:
            text = "one of " + ", ".join(map(str, self.choices))
        elif self.type == "bool":
            text = "true or false"
        elif self.low is None and self.high is None:
            text = f"any {self.type}"
        elif self.high is None:
            text = f"at least {self.low!r}"
        elif self.low is None:
            text = f"at most {self.high!r}"
        else:
            text = f"{self.low!r} to {self.high!r}"
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
