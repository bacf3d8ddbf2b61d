"""Sections of a study file with fixed fields: pydantic models whose scalars are checked like every declared option."""

from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tuner.errors import Problems, unknown_name
from tuner.registry import Option, OptionType

_TYPES = {bool: "bool", int: "int", float: "float", str: "str"}

SectionT = TypeVar("SectionT", bound=BaseModel)


class Section(BaseModel):
    """A frozen section of a configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def build_section(model: type[SectionT], given: object, path: str, problems: Problems) -> SectionT | None:
    """Validate a section in one pass: every problem has its dotted path, the value and what is legal.

    Scalar fields are checked as the options that `section_options` makes of them, the rest by pydantic. With a problem
    the result is None.
    """
    if not isinstance(given, Mapping):
        problems.add(path, f"{given!r} is not a mapping", given)
        return None
    found = unknown_keys(given, model.model_fields, path)
    options = section_options(model)
    content = {}
    for key, value in given.items():
        option = options.get(key)
        if option is not None and (problem := option.problem(value)):
            found.add(f"{path}.{key}", problem, value)
        elif key in model.model_fields:
            content[str(key)] = float(value) if option and option.type == "float" and value is not None else value
    section = None
    try:
        section = model(**content)
    except ValidationError as error:
        for item in error.errors():
            if item["type"] == "missing" and item["loc"][0] in given:  # told above
                continue
            where = ".".join([path, *map(str, item["loc"])])
            found.add(where, f"{item['input']!r}: {_sentence(item['msg'])}", item["input"])
    problems.extend(found)
    return None if found else section


@cache
def section_options(model: type[BaseModel]) -> dict[str, Option]:
    """Describe the scalar fields of a section as options; lists and sections within it are none."""
    found = ((name, _option(name, field)) for name, field in model.model_fields.items())
    return {name: option for name, option in found if option is not None}


def unknown_keys(given: Mapping[Any, Any], known: Iterable[str], path: str) -> Problems:
    """Tell of each key that a section does not have."""
    names = list(known)
    return Problems(
        unknown_name("key", str(k), names, f"{path}.{k}" if path else str(k)) for k in given if k not in names
    )


def _option(name: str, field: FieldInfo) -> Option | None:
    annotation = field.annotation
    kinds = [annotation] if get_origin(annotation) is Literal else list(get_args(annotation)) or [annotation]
    nullable = NoneType in kinds
    (kind, *others) = [kind for kind in kinds if kind is not NoneType]
    choices = get_args(kind) if get_origin(kind) is Literal else None
    type_ = "str" if choices else _TYPES.get(cast(type, kind))
    if others or type_ is None:
        return None
    low, high, above, below = (
        next((getattr(item, key) for item in field.metadata if hasattr(item, key)), None)
        for key in ("ge", "le", "gt", "lt")
    )
    return Option(
        name,
        cast(OptionType, type_),
        None if field.is_required() else field.default,
        field.description or "",
        low=low,
        high=high,
        choices=choices,
        nullable=nullable,
        above=above,
        below=below,
    )


def _sentence(message: str) -> str:
    return message[0].lower() + message[1:] if message else message
