"""Notebooks run as they stand."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_the_notebook_of_losses_runs() -> None:
    """Three losses, overlapping classes, deep supervision and soft labels are learnt in a plain training loop."""
    notebook = nbformat.read(REPOSITORY / "examples" / "losses.ipynb", as_version=4)
    check = "assert min(found.values()) > 0.95 and max(multilabel, supervised, by_raters) < 0.35"
    notebook.cells.append(nbformat.v4.new_code_cell(check))

    done = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(REPOSITORY)}}).execute()

    printed = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
    assert "losses, imported in" in printed
