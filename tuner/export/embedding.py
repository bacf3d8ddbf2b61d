"""Sources of this package inside an exported file, under a name of their own.

An exported file neither needs this package nor meets another version of it: it holds the sources that a loss and a
network are made of, and an importer for them. The name is made of their contents, so that files of different versions
can be used in one process.
"""

import ast
import hashlib
import pprint
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuner.losses.build import terms_of
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.spec import LossSpec

PURE = ("tuner.errors", "tuner.registry", "tuner.label_maps", "tuner.losses", "tuner.models", "tuner.metrics")
"""Modules that need torch and numpy only, or import what else they need where it is used; metrics need SciPy."""
_REFERENCE = re.compile(r"\btuner(?=\.(?:errors|registry|label_maps|losses|models|metrics)\b)")


def embedded(roots: Iterable[str]) -> tuple[str, str]:
    """Return the name of the package and the text that makes it importable: of modules and all that they import."""
    found = sources(roots)
    digest = hashlib.sha256("\0".join(part for pair in found.items() for part in pair).encode()).hexdigest()
    package = f"_tuner_{digest[:12]}"
    named = {key: renamed(text, package) for key, text in found.items()}
    entries = "\n".join(f"_SOURCES[{key!r}] = {literal(text)}\n" for key, text in named.items())
    return package, _IMPORTER.replace("@PACKAGE@", package).replace("@ENTRIES@", entries)


def assembled(
    parts: Sequence[str], *, head: str, settings: Mapping[str, Any] | None = None, modules: Iterable[str] = ()
) -> str:
    """Return one source made of several modules.

    Args:
        parts: The modules, each after those that it imports from; what runs as a program is the last.
        head: What the docstring says.
        settings: Take the place of the line that begins with `SETTINGS:`; None leaves it.
        modules: What is embedded beside all that the parts import of this package.
    """
    texts = [text_of(module) for module in parts]
    needed = {name for text in texts for name in imported(text)} - set(parts)
    package, importer = embedded(sorted({*needed, *modules}))
    bodies = [renamed(body_of(text, parts), package) for text in texts]
    given = []
    if settings is not None:
        given = [f"SETTINGS = {pprint.pformat(dict(settings), width=110, sort_dicts=False)}\n"]
        bodies = [re.sub(r"^SETTINGS: .*\n", "", body, flags=re.MULTILINE) for body in bodies]
    return "\n".join([f'"""{head}\n"""\n', *given, importer, *bodies])


def body_of(text: str, parts: Collection[str] = ()) -> str:
    """Return a source without its docstring, and without what it imports from the modules `parts`."""
    tree = ast.parse(text)
    own = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in parts]
    left_out = {number for node in (tree.body[0], *own) for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = [line for number, line in enumerate(text.splitlines(), 1) if number not in left_out]
    return "\n".join(lines).lstrip() + "\n"


def renamed(text: str, package: str) -> str:
    """Return a source in which this package's modules have their names below `package`."""
    return _REFERENCE.sub(package, text)


def sources(roots: Iterable[str]) -> dict[str, str]:
    """Return, by name below this package, the sources of modules and of all of this package that they import."""
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        key = name.partition(".")[2]
        if key in found:
            continue
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        if spec.origin.endswith("__init__.py"):
            # what it offers lazily is not there
            found[key] = ""
            continue
        found[key] = text
        waiting += [module for module in _imports(text) if module.startswith(PURE)]
        waiting += [name.rpartition(".")[0]] if name.count(".") > 1 else []
    return dict(sorted(found.items()))


def with_tensors_in(text: str, beside: str) -> str:
    """Name the file of tensors in a module, so that it is found when the module is called otherwise."""
    return text.replace('Path(__file__).with_suffix(".pt")', f"Path(__file__).with_name({beside!r})")


def loss_modules(section: Mapping[str, Any]) -> list[str]:
    """Return the modules of the terms of a loss, and of what they learn."""
    rows = loss_terms(section).values()
    return [str(path).partition(":")[0] for row in rows for path in (row.fn, row.state) if path]


def loss_terms(section: Mapping[str, Any]) -> dict[str, LossSpec]:
    """Return the losses that a configuration's `loss` section is made of, its base among them."""
    terms, _ = terms_of(section, [0.5, 0.5])
    return {name: LOSSES[name] for name in terms}


def text_of(module: str) -> str:
    """Return the source of a module, without importing it."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def imported(text: str) -> list[str]:
    """Return the modules of this package that a template imports from."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in nodes if node.module and node.module.startswith("tuner.")]


def literal(text: str) -> str:
    """Return a source as a literal that people can read."""
    if "'''" in text or text.endswith("\\"):
        return repr(text)
    return f"r'''{text}'''"


def _imports(text: str) -> list[str]:
    """Return the modules that a source imports, at its top or in its functions."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PURE):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module, *(name for name in submodules if _is_module(name))]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


_IMPORTER = '''import importlib.abc
import importlib.machinery
import sys

_PACKAGE = "@PACKAGE@"
_SOURCES = {}


class _Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules whose sources stand in this file."""

    package = _PACKAGE

    def find_spec(self, name, path=None, target=None):
        key = name.partition(".")[2]
        if name != _PACKAGE and not (name.startswith(_PACKAGE + ".") and self._is_there(key)):
            return None
        is_package = name == _PACKAGE or any(other.startswith(key + ".") for other in _SOURCES)
        return importlib.machinery.ModuleSpec(name, self, is_package=is_package)

    def exec_module(self, module):
        text = _SOURCES.get(module.__name__.partition(".")[2], "")
        exec(compile(text, f"<{module.__name__}>", "exec"), module.__dict__)

    @staticmethod
    def _is_there(key):
        return key in _SOURCES or any(other.startswith(key + ".") for other in _SOURCES)


@ENTRIES@
if not any(getattr(finder, "package", "") == _PACKAGE for finder in sys.meta_path):
    sys.meta_path.insert(0, _Sources())
'''
