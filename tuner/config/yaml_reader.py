"""YAML as a person writes it: loaded safely, `1e-3` is a number, a key written twice is refused, lines are known."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tuner.errors import ConfigError, NotFoundError, Problem, SpecError

MAX_BYTES = 1_000_000
"""Larger files are refused: nothing that a person writes is larger, and aliases could make it explode."""


MAX_DEPTH = 50
MAX_VALUES = 25_000
"""Keys and values of a document."""
MAX_KEY = 200
MAX_NUMBER = 400
"""Characters of a number: of longer ones the work grows with their square."""


class _Loader(yaml.SafeLoader):
    """Safe loader that reads `1e-3` as a number and `2026-01-31` as the text that it is: no option is a date.

    Depth and number of values are bounded while they are read: the scanner's work for a bracket grows with those that
    are open.
    """

    _values = 0

    yaml_implicit_resolvers = {  # noqa: RUF012 (as PyYAML has it)
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        """Count what is open before another bracket is read."""
        if self.flow_level >= MAX_DEPTH:
            raise self._refusal(f"nested more than {MAX_DEPTH} deep")
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        """Count what is open before another block is read."""
        if len(self.indents) >= MAX_DEPTH:
            raise self._refusal(f"nested more than {MAX_DEPTH} deep")
        return bool(super().add_indent(column))

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count the values of the document."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._refusal(f"more than {MAX_VALUES} values")
        return super().compose_node(parent, index)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Read a number that is short enough to be one."""
        if len(node.value) > MAX_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"a number of {len(node.value)} characters", problem_mark=node.start_mark
            )
        kind = node.tag.rpartition(":")[2]
        return self.construct_yaml_int(node) if kind == "int" else self.construct_yaml_float(node)

    def _refusal(self, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


class YamlDocument:
    """What a file or text held, and on which line each dotted key stands."""

    def __init__(self, content: Any, lines: Mapping[str, int], source: str | None) -> None:
        self.content = content
        self.source = source
        self._lines = lines

    def line(self, key: str) -> int | None:
        """Return the line, from 1, of a dotted key, or of the nearest key above it that stands in the document."""
        while key and key not in self._lines:
            key = key.rpartition(".")[0]
        return self._lines.get(key)


def read_yaml(path: Path) -> YamlDocument:
    """Read a YAML file. Raises NotFoundError, SpecError (not YAML, too large) with file and line."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFoundError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(raw) > MAX_BYTES:
        raise SpecError([f"{len(raw)} bytes; a study file has at most {MAX_BYTES}"], where=str(path))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([f"not a text file in UTF-8 ({error.reason} at byte {error.start})"], where=str(path)) from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str | None = None) -> YamlDocument:
    """Parse YAML text. Raises SpecError with the line when it is not YAML or a key stands twice."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that no YAML has
        raise SpecError([f"not valid YAML: {error}"], where=source) from None
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(None, {}, source)
        lines: dict[str, int] = {}
        _survey(node, "", lines, source, set())
        return YamlDocument(loader.construct_document(node), lines, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = ", ".join(p for p in (source, f"line {mark.line + 1}" if mark else None) if p)
        raise SpecError([f"not valid YAML: {error.problem or error.context}"], where=place or None) from None
    except yaml.YAMLError as error:
        raise SpecError([f"not valid YAML: {error}"], where=source) from None
    except RecursionError:
        raise SpecError(["nested too deeply"], where=source) from None
    except (ValueError, KeyError, TypeError, AttributeError):  # PyYAML does not check that `!!int` stands before one
        raise SpecError(["not valid YAML: a value is not what its tag (`!!…`) says"], where=source) from None
    finally:
        loader.dispose()


def dump_yaml(content: Any) -> str:
    """Write plain YAML: keys in the given order, short lists on one line."""
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    return str(text)


def _survey(node: yaml.Node, path: str, lines: dict[str, int], source: str | None, seen: set[int]) -> None:
    if id(node) in seen:
        place = ", ".join(p for p in (source, f"line {node.start_mark.line + 1}") if p)
        raise SpecError(["anchors and aliases are not used in study files"], where=place)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[Hashable] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else f"[{len(key.value)} values]"
            dotted = f"{path}.{name}" if path else str(name)
            if len(str(name)) > MAX_KEY:
                place = ", ".join(p for p in (source, f"line {key.start_mark.line + 1}") if p)
                raise SpecError([f"a key of {len(str(name))} characters; at most {MAX_KEY}"], where=place)
            if name in keys:
                place = ", ".join(p for p in (source, f"line {key.start_mark.line + 1}") if p)
                raise SpecError([Problem(dotted, "this key stands twice")], where=place)
            keys.add(name)
            lines[dotted] = key.start_mark.line + 1
            _survey(value, dotted, lines, source, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _survey(item, f"{path}[{index}]", lines, source, seen)
