"""Compare our losses with a file of vectors: `python -m tests.losses.vectors FILE`.

Prints a line `id value expected ok|off` for every vector and leaves with 1 if any is off. Gradients are compared where
the file has them. `expected: null` means the value 0 with a zero gradient.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.losses.vector_cases import Vector, case_of

GRADIENT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Outcome:
    """What came of one vector; `gap` is the largest deviation of value or gradient over its tolerance."""

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


def compare(vector: Vector) -> Outcome | None:
    """Run one vector; None if its loss is not ours."""
    case = case_of(vector["loss"])
    if case is None:
        return None
    logits, target = _tensor(vector.get("logits")), vector.get("target")
    if logits is not None:
        logits.requires_grad_()
    labels = None if target is None else torch.tensor(target, dtype=torch.int64)
    extra = {key: vector[key] for key in EXTRA if key in vector}
    value = case(logits, labels, {**vector.get("params", {}), **extra})
    number = float(value.detach())
    expected = vector.get("expected")
    gap = abs(number - (expected or 0.0)) / vector.get("tol", 1e-6)
    gradient = vector.get("expected_grad_logits")
    if logits is not None and (gradient is not None or expected is None):
        found = torch.autograd.grad(value, logits)[0]
        wanted = torch.zeros_like(logits) if gradient is None else _tensor(gradient)
        gap = max(gap, float((found - wanted).abs().max()) / GRADIENT_TOLERANCE)
    return Outcome(vector["id"], number, expected or 0.0, gap if gap == gap else float("inf"))


EXTRA = ("theta", "coefficients", "features", "boundary_mask", "classifier_weight", "classifier_bias")


def read(path: Path) -> list[Vector]:
    """Return the vectors of a file; logits and target may stand in the vector or in the inputs it names."""
    content = json.loads(path.read_text(encoding="utf-8"))
    inputs = content.get("inputs", {})
    vectors = []
    for vector in content["vectors"]:
        shared = inputs.get(vector.get("input"), {})
        vectors.append({**{key: shared[key] for key in ("logits", "target") if key in shared}, **vector})
    return vectors


def main(path: Path) -> int:
    wrong = 0
    for vector in read(path):
        outcome = compare(vector)
        if outcome is None:
            sys.stderr.write(f"skipped {vector['id']}: no loss {vector['loss']}\n")
            continue
        wrong += not outcome.is_right
        sys.stdout.write(f"{outcome}\n")
    return 1 if wrong else 0


def _tensor(values: Any) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float64)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
