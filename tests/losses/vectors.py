"""Compare our losses with a file of vectors: `python -m tests.losses.vectors FILE`.

Prints a line `id value expected ok|off` for every vector and leaves with 1 if any is off; why something could not be
computed goes to stderr. Gradients and parts are compared where the file has them. `expected: null` means the value 0
with a zero gradient.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.losses.vector_cases import PARTS, case_of, our_name
from tests.losses.vector_terms import Params

GRADIENT_TOLERANCE = 1e-6
EXTRA = ("theta", "coefficients", "features", "boundary_mask", "classifier_weight", "classifier_bias")

Vector = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of one vector; `gap` is the largest deviation of value, part or gradient over its tolerance."""

    id: str
    value: float
    expected: float
    gap: float

    @property
    def is_right(self) -> bool:
        return self.gap <= 1.0

    def __str__(self) -> str:
        verdict = "ok" if self.is_right else "off"
        return f"{self.id} {self.value:.9f} {self.expected:.9f} {verdict}"


def compare(vector: Vector) -> Outcome:
    """Run one vector. Raises KeyError if its loss or one of its parameters is not known here."""
    case = case_of(vector["loss"])
    if case is None:
        raise KeyError(f"no loss {vector['loss']}")
    leaves = {key: _leaf(vector.get(key)) for key in ("logits", "features")}
    labels = None if vector.get("target") is None else torch.tensor(vector["target"], dtype=torch.int64)
    params = _params(vector, leaves)
    value = case(leaves["logits"], labels, params)
    if params:
        raise KeyError(f"{vector['loss']} has no parameter {', '.join(params)}")
    number, expected = float(value.detach()), vector.get("expected") or 0.0
    tolerance = vector.get("tol", 1e-6)
    gaps = [abs(number - expected) / tolerance]
    for key, leaf in leaves.items():
        wanted = vector.get(f"expected_grad_{key}")
        if leaf is not None and (wanted is not None or (key == "logits" and vector.get("expected") is None)):
            # a loss that does not depend on its input at all has no graph
            found = torch.autograd.grad(value, leaf, retain_graph=True)[0] if value.requires_grad else leaf * 0
            goal = torch.zeros_like(leaf) if wanted is None else torch.tensor(wanted, dtype=torch.float64)
            gaps.append(float((found - goal).abs().max()) / GRADIENT_TOLERANCE)
    for name, part in _parts(vector, leaves, labels).items():
        gaps.append(abs(part - vector["expected_parts"][name]) / tolerance)
    return Outcome(vector["id"], number, expected, max(gap if gap == gap else float("inf") for gap in gaps))


def _params(vector: Vector, leaves: dict[str, Tensor | None]) -> Params:
    extra = {key: torch.tensor(vector[key], dtype=torch.float64) for key in EXTRA if vector.get(key) is not None}
    given = extra | {key: leaf for key, leaf in leaves.items() if key in extra and leaf is not None}
    chosen = {key: value for key, value in vector.get("params", {}).items() if key != "ignore_index"}
    return Params(chosen | given)


def _parts(vector: Vector, leaves: dict[str, Tensor | None], labels: Tensor | None) -> dict[str, float]:
    parts_of = PARTS.get(our_name(vector["loss"]))
    if parts_of is None or "expected_parts" not in vector:
        return {}
    parts = parts_of(leaves["logits"], labels, _params(vector, leaves))
    return {name: float(part.detach()) for name, part in parts.items() if name in vector["expected_parts"]}


def _leaf(values: Any) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float64, requires_grad=True)


def read(path: Path) -> list[Vector]:
    """Return the vectors of a file; logits and target may stand in the vector or in the inputs it names."""
    content = json.loads(path.read_text(encoding="utf-8"))
    inputs = content.get("inputs", {})
    return [{**inputs.get(vector.get("input"), {}), **vector} for vector in content["vectors"]]


def main(path: Path) -> int:
    wrong = 0
    for vector in read(path):
        try:
            outcome = compare(vector)
        except Exception as error:
            # one vector that cannot be run must not hide the others
            sys.stderr.write(f"{vector['id']}: {type(error).__name__}: {error}\n")
            outcome = Outcome(vector["id"], float("nan"), vector.get("expected") or 0.0, float("inf"))
        wrong += not outcome.is_right
        sys.stdout.write(f"{outcome}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
