"""The notebook of the documentation, cell by cell as Jupyter runs it: the last expression of a cell is shown."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api import demo
from tests.conftest import REPOSITORY
from tuner import Study, load_study
from tuner.errors import RequestError
from tuner.storage.storage import Storage


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study that has run, in the storage of `tuner` without flags."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    monkeypatch.setenv("TUNER_STORAGE", url)
    with Storage.open(url, create=True) as store:
        store.studies.create(demo.new_study(demo.spec_of("organs", trials=24, epochs=3)))
        demo.fill(store, "organs", finish=26)
    return load_study("organs")


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last expression, None where it ends otherwise."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def test_the_notebook_runs(study: Study) -> None:
    """Every cell, and what each shows."""
    pytest.importorskip("pandas")
    notebook = json.loads((REPOSITORY / "docs" / "notebook.ipynb").read_text())
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    best = study.best()

    text = shown[0]._repr_html_()
    assert all(words in text for words in ("<table>", "<svg", "organs", best["loss"], f"{best['value']:.4f}"))
    assert text.count("<svg") == 2
    assert shown[1].index[0] == best["number"]
    assert shown[1]["dice"].iloc[0] == pytest.approx(best["value"])
    assert set(shown[2].index) == set(names["table"]["loss"])
    assert "Best value seen" in shown[3]
    assert shown[4] == study.best_config()["loss"] == best["config"]["loss"]


def test_the_table_has_every_trial_and_parameter(study: Study) -> None:
    """Trials that were pruned have no metric; parameters of other losses are missing, not zero."""
    pandas = pytest.importorskip("pandas")
    table = study.trials_dataframe()
    rows = {row["number"]: row for row in study.trials()}

    assert set(table.index) == set(rows)
    for number, row in rows.items():
        for name, value in row["params"].items():
            assert name == "loss" or table.loc[number, name] == value
        assert pandas.isna(table.loc[number, "value"]) == (row["value"] is None)


def test_without_pandas_the_table_says_what_it_needs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency."""
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(RequestError, match="pandas"):
        study.trials_dataframe()


def test_names_are_text_in_the_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study without a trial has a head and no figure."""
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    with Storage.open(url, create=True) as store:
        store.studies.create(demo.new_study(demo.spec_of("fresh", trials=3)))

    text = load_study("fresh", storage=url)._repr_html_()

    assert "fresh" in text
    assert "<svg" not in text
