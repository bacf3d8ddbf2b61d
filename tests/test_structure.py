"""What is made in one place, and who may know whom."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.slow import SLOW

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("made", "place"),
    [
        ("NewStudy", "tuner/launch/new_study.py"),
        ("build_model", "tuner/training/components.py"),
        ("build_loss", "tuner/training/components.py"),
    ],
)
def test_one_place_makes_each(made: str, place: str) -> None:
    """What a second place forgets, a study or a network made there lacks."""
    call = re.compile(rf"(?<!class )(?<!def )(?<![\w.]){made}\(")
    makers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("tuner", "api")
        for path in (ROOT / folder).rglob("*.py")
        if call.search(path.read_text(encoding="utf-8"))
    }

    # an exported file stands alone and builds what it holds; suites for others make records that no file describes
    assert makers - {"tuner/export/torch_file.py", "tuner/testing/storage.py"} == {place}


def modules() -> dict[str, Path]:
    """Return the modules of both packages by their dotted names."""
    found = {}
    for folder in ("tuner", "api"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports, in its functions as well; not what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node)


def test_imports_form_no_circle() -> None:
    """In a circle no module can be understood, or loaded, without all others."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        asked = imported(ast.parse(path.read_text(encoding="utf-8")))
        graph[name] = {part if part in known else part.rpartition(".")[0] for part in asked} & known.keys() - {name}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules that import each other: {' <- '.join(error.args[1])}")
    assert "tuner.storage.base" in graph["tuner.storage.studies"]


def test_every_slow_test_is_there() -> None:
    """A name that leads nowhere would bring its test back into the default run, or hide that it is gone."""
    for name in SLOW:
        file, _, function = name.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / "tests" / file).read_text(), name
