"""Record what is stored about losses that are new: `python -m tests.losses.record`. What is stored already stays.

Two files change: `tuner/losses/behaviour.json` (the curves that the dashboard draws) and
`tests/losses/own_vectors.json` (values and gradients of the formulas in `tests/losses/by_hand`).
"""

import json
import sys
from pathlib import Path

from tests.losses.by_hand.make import FILE, by_rule, inputs_of, plain, values, with_slope, write
from tuner.losses.behavior import measure_behavior
from tuner.losses.catalog.registry import LOSSES

CURVES = Path(__file__).parents[2] / "tuner" / "losses" / "behaviour.json"


def record_curves(path: Path = CURVES) -> list[str]:
    """Measure the losses without curves; return their names."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    missing = [name for name in LOSSES if name not in stored["losses"]]
    measured = {
        name: {f"{c.drift}.{c.object}": [float(f"{v:.5g}") for v in c.values] for c in measure_behavior(LOSSES[name])}
        for name in missing
    }
    stored["losses"] = {name: stored["losses"].get(name) or measured[name] for name in LOSSES}
    path.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")
    return missing


def record_vectors(path: Path = FILE) -> list[str]:
    """Compute the vectors that the file lacks, or has with other parameters; return their ids."""
    stored = {vector["id"]: vector for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]}
    vectors, new = [], []
    for vector, function, x, name in values():
        known = stored.get(vector["id"])
        if known is not None and known["params"] == plain(vector["params"]):
            vectors.append(known)
        else:
            vectors.append(with_slope(vector, function, x, name))
            new.append(vector["id"])
    write(path, {"inputs": inputs_of(vectors), "vectors": vectors + by_rule()})
    return new


if __name__ == "__main__":
    sys.stdout.write(f"curves: {', '.join(record_curves()) or 'none new'}\n")
    sys.stdout.write(f"vectors: {', '.join(record_vectors()) or 'none new'}\n")
