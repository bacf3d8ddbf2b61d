"""Options of a loss of the user's own, as the annotations of its function declare them; read without importing it.

def my_loss(
    logits, target, *, ignore_index,
    gamma: Annotated[float, losses.Range(0, 5, search=(0.5, 4))] = 2.0,
    mode: Annotated[str, losses.Choices("soft", "hard", search=True)] = "soft",
): ...

Studies are checked, listed and drawn by processes that may not run a user's code, so the source is parsed instead.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tuner.errors import SpecError
from tuner.registry import Option, OptionType, Scalar, Search

SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
HANDED_OVER = ("logits", "target", "ignore_index")
"""What a training passes to the function; all other keywords are options."""
MAX_SOURCE_BYTES = 1_000_000
_TYPES = ("float", "int", "bool", "str")


@dataclass(frozen=True, slots=True)
class Range:
    """Legal interval of a number, both ends included; `search` is the part that is searched, on a log scale or not."""

    low: float | None = None
    high: float | None = None
    search: tuple[float, float] | None = None
    log: bool = False


class Choices:
    """Legal values of an option; with `search` all of them are searched, or those that it lists."""

    def __init__(self, *values: Scalar, search: bool | tuple[Scalar, ...] = False) -> None:
        self.values = values
        self.search = values if search is True else tuple(search or ())


def source_of(path: str) -> Path | None:
    """Return the file of `package.module:function` on the import path; None where it is not found. Imports nothing."""
    parts = path.partition(":")[0].split(".")
    for folder in [*sys.path, os.getcwd()]:
        base = Path(folder or ".").joinpath(*parts)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
    return None


def declared_options(path: str) -> tuple[Option, ...] | None:
    """Return the options that the function `package.module:function` declares; None where its source is not here.

    Raises SpecError where the source has no such function, or an annotation is none of those above.
    """
    file = source_of(path)
    if file is None or file.stat().st_size > MAX_SOURCE_BYTES:
        return None
    name = path.partition(":")[2]
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise SpecError([f"loss.entry: {file} cannot be read as Python: {error}"]) from error
    aliases = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            return _options(made[0], aliases, path) if made else ()
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _options(node, aliases, path)
    raise SpecError([f"loss.entry: {file} has no function or class {name!r} at its top level"])


def _options(function: ast.FunctionDef, aliases: Mapping[str, ast.expr], path: str) -> tuple[Option, ...]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    found = []
    for argument, default in pairs:
        if argument.arg in (*HANDED_OVER, "self"):
            continue
        where = f"loss.entry: option {argument.arg!r} of {path}"
        if default is None:
            raise SpecError([f"{where} has no default; every option needs one, as in `{argument.arg}: float = 1.0`"])
        try:
            found.append(_option(argument.arg, argument.annotation, ast.literal_eval(default), aliases))
        except (ValueError, TypeError) as error:
            raise SpecError(
                [
                    f"{where}: {error}. Write float, int, bool or str, or "
                    "Annotated[float, Range(0, 5, search=(0.5, 4))], Annotated[str, Choices('a', 'b')], all in literals"
                ]
            ) from error
    return tuple(found)


def _option(name: str, annotation: ast.expr | None, default: Scalar, aliases: Mapping[str, ast.expr]) -> Option:
    if isinstance(annotation, ast.Name) and annotation.id in aliases:
        annotation = aliases[annotation.id]
    limits: ast.expr | None = None
    if isinstance(annotation, ast.Subscript) and _last(annotation.value) == "Annotated":
        if not isinstance(annotation.slice, ast.Tuple) or len(annotation.slice.elts) < 2:
            raise ValueError("Annotated without Range or Choices")
        annotation, limits = annotation.slice.elts[:2]
    kind = _last(annotation)
    if kind not in _TYPES:
        raise ValueError(f"the annotation {ast.unparse(annotation) if annotation else 'is missing'}")
    if kind == "float" and isinstance(default, int) and not isinstance(default, bool):
        default = float(default)
    option = _limit(name, cast(OptionType, kind), default, limits)
    problem = option.problem(default)
    if problem:
        raise ValueError(f"the default {problem}")
    return option


def _limit(name: str, kind: OptionType, default: Scalar, limits: ast.expr | None) -> Option:
    summary = "an option of the function that `entry` names"
    if limits is None:
        return Option(name, kind, default, summary)
    if not isinstance(limits, ast.Call):
        raise ValueError(f"{ast.unparse(limits)} is neither Range(...) nor Choices(...)")
    values = [ast.literal_eval(value) for value in limits.args]
    keywords = {str(word.arg): ast.literal_eval(word.value) for word in limits.keywords}
    if _last(limits.func) == "Range":
        given = Range(*values, **keywords)
        search = None if given.search is None else Search(float(given.search[0]), float(given.search[1]), log=given.log)
        return Option(name, kind, default, summary, low=given.low, high=given.high, search=search)
    if _last(limits.func) == "Choices":
        chosen = Choices(*values, **keywords)
        searched = Search(choices=chosen.search) if chosen.search else None
        return Option(name, kind, default, summary, choices=chosen.values, search=searched)
    raise ValueError(f"{ast.unparse(limits)} is neither Range(...) nor Choices(...)")


def _last(node: ast.expr | None) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def options_as_data(options: Iterable[Option]) -> list[dict[str, Any]]:
    """Return options as plain data, so that a stored study knows them where the source is not."""
    return [option.as_dict() for option in options]


def options_from_data(given: object) -> tuple[Option, ...]:
    """Return the options of `options_as_data`. Raises SpecError on anything else."""
    try:
        return tuple(_from_data(dict(item)) for item in cast(Iterable[Mapping[str, Any]], given))
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError([f"loss.declared: {given!r} is no list of options: {error}"]) from error


def _from_data(item: Mapping[str, Any]) -> Option:
    if item["type"] not in _TYPES or not str(item["name"]).isidentifier():
        raise ValueError(f"{item['name']!r} of type {item['type']!r}")
    search = item.get("search")
    ranges = None
    if search is not None:
        choices = search.get("choices")
        ranges = Search(
            search.get("low"), search.get("high"), bool(search.get("log")), tuple(choices) if choices else None
        )
    choices = item.get("choices")
    return Option(
        str(item["name"]),
        item["type"],
        item["default"],
        str(item.get("summary", "")),
        low=item.get("low"),
        high=item.get("high"),
        choices=None if choices is None else tuple(choices),
        search=ranges,
    )
