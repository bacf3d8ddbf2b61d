"""`train.command`: a program of the user's own, as a list of arguments with placeholders; never a shell.

`{train.lr}` in an argument becomes the trial's value, `{{` and `}}` are braces, and an argument with a
`{loss.focal.gamma?}` that the trial does not have is left out whole. Besides parameters there are `{folder}` (of the
trial), `{config}` (its config.json) and `{device}` (`cpu`, `cuda:0` or `mps`, as the program sees it).
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.errors import EntryError, Problem, Problems, closest

PLACES = ("folder", "config", "device")
"""Placeholders that are no parameters."""
VARIABLE = "TUNER_PARAM_"
"""What names of environment variables begin with that hold parameters."""
CONFIG = "config.json"
"""File in the folder of a trial with everything that its program is given."""
_CODE = ("train.command", "train.entry")
ALLOW = "TUNER_ALLOW_COMMAND"
_PART = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]|[^{}]+")
_NAME = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)(?P<optional>\?)?")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{name}`, or `{name?}`, whose argument is left out where the trial has no such value."""

    name: str
    optional: bool


Argument = tuple[str | Placeholder, ...]


def split_command(command: str | Sequence[str]) -> list[str]:
    """Return the arguments, placeholders included. Raises ValueError that says what is wrong."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"cannot be split into words as a shell would: {str(error).lower()}") from error
    else:
        words = list(command)
    if not words or not words[0]:
        raise ValueError("names no program, as in `python train.py --lr {train.lr} --out {folder}`")
    if any("\x00" in word for word in words):
        raise ValueError("holds a NUL character")
    if any(sign in words[0] for sign in "{}"):
        raise ValueError(f"the program {words[0]!r} must be named outright, without placeholders")
    for word in words:
        read_argument(word)
    return words


def read_argument(text: str) -> Argument:
    """Split an argument into text and placeholders. Raises ValueError for a brace that stands alone."""
    parts: list[str | Placeholder] = []
    for match in _PART.finditer(text):
        part, name = match[0], match["name"]
        if part in ("{{", "}}"):
            parts.append(part[0])
        elif name is not None:
            found = _NAME.fullmatch(name)
            if found is None:
                raise ValueError(f"{part!r} in {text!r} is no placeholder; braces are written {{{{ and }}}}")
            parts.append(Placeholder(found["name"], found["optional"] is not None))
        elif part in "{}":
            raise ValueError(f"a single {part!r} in {text!r}; braces are written {{{{ and }}}}")
        else:
            parts.append(part)
    return tuple(parts)


def placeholders(command: str | Sequence[str]) -> list[Placeholder]:
    """Return the placeholders of a command."""
    words = split_command(command)
    return [part for word in words for part in read_argument(word) if isinstance(part, Placeholder)]


def placeholder_problems(
    command: str | Sequence[str], *, always: Collection[str], sometimes: Collection[str]
) -> Problems:
    """Say which placeholders no trial, or not every trial, has a value for.

    Args:
        command: What `split_command` takes.
        always: Parameters that every trial has.
        sometimes: Parameters that only some trials have (options of one of several losses).
    """
    found, key = Problems(), "train.command"
    known = {*always, *sometimes, *PLACES}
    for item in dict.fromkeys(placeholders(command)):
        if item.name not in known:
            near = closest(item.name, known)
            guess = f"Did you mean {{{near}}}? " if near else ""
            hint = f"{guess}A name of your own is one that is searched, as in `search: {{my.depth: [3, 4]}}`."
            found.append(Problem(key, f"no trial has a value for {{{item.name}}}.", item.name, hint))
        elif item.name not in always and item.name not in PLACES and not item.optional:
            hint = f"Write {{{item.name}?}}: the argument is left out where there is none."
            found.append(Problem(key, f"not every trial has a value for {{{item.name}}}.", item.name, hint))
    return found


def dangling_flags(command: str | Sequence[str]) -> list[str]:
    """Return flags whose value is an argument of its own that may be left out: the flag would stay."""
    words = split_command(command)
    return [flag for flag, value in pairwise(words) if flag.startswith("-") and "=" not in flag and _may_vanish(value)]


def _may_vanish(argument: str) -> bool:
    return any(isinstance(part, Placeholder) and part.optional for part in read_argument(argument))


def variable_problems(names: Iterable[str]) -> Problems:
    """Say which parameters would be one environment variable."""
    found = Problems()
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(variable(name), name)
        if other != name:
            found.add(
                f"search.{name}", f"{name!r} and {other!r} would both be {variable(name)}; rename one of them", name
            )
    return found


def fill(command: str | Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the arguments with every placeholder replaced.

    Raises:
        EntryError: There is no value for a placeholder that is not optional.
    """
    arguments = []
    for word in split_command(command):
        parts = read_argument(word)
        absent = [p for p in parts if isinstance(p, Placeholder) and values.get(p.name) is None]
        if any(part.optional for part in absent):
            continue
        unknown = [part.name for part in absent if part.name not in values]
        if unknown:
            raise EntryError(f"this trial has no value for {{{unknown[0]}}}.", where="train.command")
        arguments.append("".join(p if isinstance(p, str) else text_of(values[p.name]) for p in parts))
    return arguments


def text_of(value: Any) -> str:
    """Write a value as the program is given it: texts as they are, all else as JSON does (0.001, true, [3, 3])."""
    return value if isinstance(value, str) else json.dumps(value)


def command_text(command: str | Sequence[str]) -> str:
    """Write a command as one line that a shell would read so."""
    return command if isinstance(command, str) else shlex.join(command)


def values_of(parameters: Mapping[str, Any], *, folder: str, device: str) -> dict[str, Any]:
    """Return what placeholders stand for: the parameters of a trial by their names, and its places.

    Args:
        parameters: Of the trial.
        folder: Of the trial.
        device: As the program sees it.
    """
    places = {"folder": folder, "config": f"{folder}/{CONFIG}", "device": device}
    return {**{name: value for name, value in parameters.items() if name not in _CODE}, **places}


def document_of(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `config.json` says: `parameters` by their names, `folder`, `device`, and the sections."""
    parameters = {name: value for name, value in values.items() if name not in PLACES}
    return {"folder": values["folder"], "device": values["device"], "parameters": parameters, **config}


def variables_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that a program is given; none for a parameter that is null."""
    found = {variable(name): text_of(v) for name, v in values.items() if v is not None and name not in PLACES}
    return found | {f"TUNER_{name.upper()}": str(values[name]) for name in PLACES}


def variable(name: str) -> str:
    """Return the environment variable of a parameter: `train.lr` is TUNER_PARAM_TRAIN_LR."""
    return VARIABLE + re.sub(r"\W", "_", name).upper()


def check_allowed(command: str | Sequence[str], patterns: Collection[str]) -> None:
    """Raise EntryError unless the owner of this machine allows the program.

    A pattern without a slash is compared with the name as it is written (`python`); one with a slash, with the whole
    path of the file that would be run, `..` resolved.
    """
    program = split_command(command)[0]
    if any(_matches(program, pattern) for pattern in patterns):
        return
    named = ", ".join(patterns) or "none"
    raise EntryError(
        f"the program {program!r} may not be run on this machine (allowed: {named}).",
        hint=f"Its owner can allow it: {ALLOW}={shlex.quote(program)} (patterns, separated by `:`; * allows all).",
        where="train.command",
    )


def _matches(program: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if "/" not in pattern:
        return "/" not in program and fnmatchcase(program, pattern)
    found = shutil.which(program)
    return found is not None and fnmatchcase(os.path.abspath(found), os.path.normpath(Path.cwd() / pattern))
