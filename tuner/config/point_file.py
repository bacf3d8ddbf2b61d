"""Files of points: CSV with a column for each parameter, as of `trials --csv`, or YAML with a list of mappings."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.yaml_reader import parse_yaml, read_yaml
from tuner.errors import ConfigError, SpecError, closest
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace

NOT_PARAMETERS = frozenset(
    [
        "number",
        "state",
        "value",
        "values",
        "reason",
        "message",
        "retry_of",
        "attempts",
        "epochs",
        "duration_s",
        "worker",
        "started",
        "finished",
        "last_value",
        "best_value",
        "best_epoch",
        "slot",
        "task",
        "configuration",
        "seed",
        "epoch",
        "seconds",
    ]
)
"""Columns of other tables, which say nothing about where a point lies."""


@dataclass(frozen=True, slots=True)
class PointRow:
    """One point of a file, as it stands there."""

    line: int
    params: dict[str, Scalar]
    cells: Mapping[str, str]
    """The other columns of a CSV file."""


def read_points(path: Path, space: SearchSpace) -> list[dict[str, Scalar]]:
    """Read the points of a file for a space, each whole or in part.

    Raises:
        ConfigError: The file cannot be read.
        SpecError: A column or key is none of the space's, a value lies outside, or a point is empty; with its line.
    """
    rows = read_rows(path, space)
    problems = []
    for row in rows:
        problems += [f"line {row.line}: {p}" for p in space.problems(row.params)]
        if not row.params:
            problems.append(f"line {row.line}: names no parameter; the sampler would choose all of them")
    if not rows:
        problems.append("there is no point in it")
    if problems:
        raise SpecError(problems[:20], where=str(path))
    return [row.params for row in rows]


def read_rows(path: Path, space: SearchSpace, *, strict: bool = True) -> list[PointRow]:
    """Read the rows of a file, values as the space's dimensions have them. What is not `strict` may name any parameter.

    Raises:
        ConfigError: The file cannot be read.
        SpecError: It is no table, or (if `strict`) has a column that nobody knows.
    """
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _yaml_rows(path, space)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of points cannot be read: {error}", where=str(path)) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    names = [name for name in reader.fieldnames or () if name is not None]
    own = [name for name in names if name == "loss" or "." in name]
    unknown = [name for name in names if name not in own and name not in NOT_PARAMETERS and name != "params"]
    lost = [name for name in own if space.find(name) is None and name != "loss"]
    if strict and (unknown or lost):
        known = [d.name for d in space]
        problems = [f"column {name!r} is no parameter of the study{_near(name, known)}" for name in unknown + lost]
        raise SpecError(problems, where=str(path))
    rows = []
    for cells in reader:
        if "" in cells or None in cells.values():
            raise SpecError([f"line {reader.line_num}: it has not as many cells as the header"], where=str(path))
        given: dict[str, Any] = (
            _json_object(cells["params"], f"{path}, line {reader.line_num}") if "params" in cells else {}
        )
        given |= {name: cells[name] for name in own if cells[name] != ""}
        if space.find("loss") is None and strict:
            given.pop("loss", None)
        params = {name: as_value(space.find(name), value) for name, value in given.items()}
        rows.append(PointRow(reader.line_num, params, {n: cells[n] for n in names if n not in own}))
    return rows


def as_value(dimension: Dimension | None, value: Any) -> Scalar:
    """Return a value as a dimension has it: the text of a cell as a number or choice, 1 as 1.0. Else as it is."""
    if dimension is None:
        return _scalar(value)
    if dimension.contains(value):
        return value  # type: ignore[no-any-return]
    if dimension.kind == "categorical":
        texts = [c for c in dimension.choices if isinstance(value, str) and value in (str(c), json.dumps(c), _cell(c))]
        equal = [c for c in dimension.choices if c == value and not isinstance(value, str)]
        found = texts or equal
        return found[0] if len(found) == 1 else _scalar(value)
    number = _scalar(value)
    if isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number):
        return round(number) if dimension.kind == "int" and float(number).is_integer() else number
    return number


def _cell(choice: Scalar) -> str:
    return "" if choice is None else str(choice)


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        return float(value) if not value.lstrip("+-").isdigit() else int(value)
    except ValueError:
        return parse_yaml(value).content if value in ("true", "false", "null") else value


def _yaml_rows(path: Path, space: SearchSpace) -> list[PointRow]:
    content = read_yaml(path).content
    listed = [content] if isinstance(content, Mapping) else content
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
        raise SpecError(
            ["a file of points is a list of mappings, as in `- {loss: dice, train.lr: 0.001}`"], where=str(path)
        )
    return [
        PointRow(i, {str(k): as_value(space.find(str(k)), v) for k, v in item.items()}, {})
        for i, item in enumerate(listed, start=1)
    ]


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SpecError([f"params: {error}"], where=where) from error
    if not isinstance(found, dict):
        raise SpecError([f"params: {text[:60]!r} is no JSON object"], where=where)
    return found


def _near(name: str, known: list[str]) -> str:
    near = closest(name, known) or next((k for k in known if k.endswith(f".{name}")), None)
    return f"; did you mean {near!r}?" if near else f"; it searches {', '.join(known)}"
