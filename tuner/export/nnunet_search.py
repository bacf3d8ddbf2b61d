"""The trainer class that nnU-Net runs as a trial, as one file that needs torch, numpy and nnU-Net only."""

import ast
from importlib.util import find_spec
from pathlib import Path

from tuner.export.embedding import embedded, renamed
from tuner.losses.catalog.registry import LOSSES

PARTS = ("tuner.data.splits", "tuner.export.nnunet_trainer", "tuner.export.nnunet_search_trainer")
"""Modules whose bodies make up the file, each after those that it imports from."""


def search_trainer_source() -> str:
    """Return the source: the division of cases, the trainer of an export, and upon it that of a trial.

    Every loss of the catalogue is in it, as it is here.
    """
    texts = {module: _text_of(module) for module in PARTS}
    losses = {str(path).partition(":")[0] for row in LOSSES.values() for path in (row.fn, row.state) if path}
    needed = {name for text in texts.values() for name in _imports(text)} - set(PARTS)
    package, importer = embedded(sorted({*needed, *losses}))
    head = ast.get_docstring(ast.parse(texts[PARTS[-1]]))
    bodies = [renamed(_body(text), package) for text in texts.values()]
    return "\n".join([f'"""{head}\n"""\n', importer, *bodies])


def _text_of(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _imports(text: str) -> list[str]:
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in nodes if node.module and node.module.startswith("tuner.")]


def _body(text: str) -> str:
    """Return a module without its docstring, and without what it imports from another part."""
    tree = ast.parse(text)
    lines = text.splitlines()
    own = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in PARTS]
    left_out = {number for node in (tree.body[0], *own) for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in left_out).lstrip() + "\n"
