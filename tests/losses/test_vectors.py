"""Our losses against values and gradients computed in float64 by others, straight from the formulas."""

from pathlib import Path

import pytest

from tests.losses.vectors import compare, read
from tests.losses.vectors import main as run

FILE = Path(__file__).with_name("loss_vectors.json")
VECTORS = read(FILE)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_vector(vector: dict) -> None:
    """The value is the paper's, and so is the slope."""
    outcome = compare(vector)

    assert outcome is not None, vector["loss"]
    assert outcome.is_right, outcome


def test_runner_says_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A runner that always says ok would be worth nothing."""
    (tmp_path / "wrong.json").write_text(
        '{"vectors": [{"id": "x", "loss": "cross_entropy", "logits": [[[[0.0]], [[0.0]]]], "target": [[[1]]],'
        ' "expected": 0.7, "tol": 1e-6}]}'
    )

    assert run(tmp_path / "wrong.json") == 1
    assert capsys.readouterr().out == "x 0.693147181 0.700000000 off\n"


def test_null_means_zero_with_zero_gradient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`expected: null` is a promise about the gradient too."""
    (tmp_path / "void.json").write_text(
        '{"vectors": [{"id": "void", "loss": "dice", "logits": [[[[1.0]], [[0.0]]]], "target": [[[255]]],'
        ' "expected": null}]}'
    )

    assert run(tmp_path / "void.json") == 0
    assert capsys.readouterr().out == "void 0.000000000 0.000000000 ok\n"
