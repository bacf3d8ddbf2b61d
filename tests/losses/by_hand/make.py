"""Write own_vectors.json: `python -m tests.losses.by_hand.make [FILE]`.

Values come from the formulas of this package, gradients from central differences of them (h = 1e-5, float64; what a
loss holds fixed stays fixed), rounded to eight digits.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.losses.by_hand import neighbours
from tests.losses.by_hand.cases import FIXED, FORMULAS, NAMED, OVER_SCENES
from tests.losses.by_hand.reading import Array
from tests.losses.by_hand.scenes import features, inputs

FILE = Path(__file__).parent.parent / "own_vectors.json"
GIVEN = Path(__file__).parent.parent / "loss_vectors.json"
H = 1e-5
# what only says which formula is meant, or repeats a constant of the paper
UNREAD = ("mode", "variant", "pos_alpha", "clip")
# errors tie in these scenes, so that the slope is not unique
TIED = ("lovasz_C_all", "lovasz_E_image")
Vector = dict[str, Any]


def given_inputs() -> dict[str, dict[str, Any]]:
    """The scenes A to K, as the vectors we were given spell them out, and Dv, which is D with two void pixels."""
    found: dict[str, dict[str, Any]] = {}
    for vector in json.loads(GIVEN.read_text(encoding="utf-8"))["vectors"]:
        if vector.get("logits") and vector["input"] != "custom":
            found[vector["input"]] = {"logits": np.array(vector["logits"]), "target": np.array(vector["target"])}
    with_void = found["D"]["target"].copy()
    with_void[0, 0, 0] = with_void[0, 4, 2] = 255
    return found | {"Dv": {"logits": found["D"]["logits"], "target": with_void}}


def values() -> Iterator[tuple[Vector, Callable[[Array], float], Array, str]]:
    """Every vector without its gradient, the loss as a function of one input, that input, and its name."""
    scenes = given_inputs() | inputs()
    listed = [(f"{loss}.{scene}{k or ''}", loss, scene, p) for loss, k, scene, p in OVER_SCENES]
    for name, loss, scene, params in [*NAMED, *listed]:
        z, y = scenes[scene]["logits"], scenes[scene]["target"]
        formula = FORMULAS.get((loss, params.get("mode", "")), FORMULAS[loss, ""])
        held = {"frozen": z} if loss in FIXED else {}
        used = {key: value for key, value in params.items() if key not in UNREAD}

        def function(x: Array, y: Any = y, formula: Any = formula, options: Any = used | held) -> float:
            return float(formula(x, y, **options))

        vector = {"id": name, "loss": loss, "input": scene, "params": params, "expected": function(z), "tol": 1e-6}
        yield vector, function, z, "logits"
    yield from _on_features(scenes)


def _on_features(scenes: dict[str, dict[str, Any]]) -> Iterator[tuple[Vector, Callable[[Array], float], Array, str]]:
    params = {"kernel": 3, "w_ctx": 1.0, "w_nce": 0.2, "w_cn": 2.0, "filter_context_pairs": False}
    for seed, scene in enumerate(("plane", "absent", "volume")):
        z, y = scenes[scene]["logits"], scenes[scene]["target"]
        extra = features(y, seed)
        given = {"weight": extra["classifier_weight"], "bias": extra["classifier_bias"], "near": extra["boundary_mask"]}

        def function(f: Array, z: Any = z, y: Any = y, given: Any = given, held: Any = extra["features"]) -> float:
            return neighbours.conditional_boundary(f, z=z, y=y, frozen=held, **given, **params)

        vector = {"id": f"conditional_boundary.{scene}", "loss": "conditional_boundary", "input": scene}
        vector |= {"params": params, "expected": function(extra["features"]), "tol": 1e-6, **extra}
        yield vector, function, extra["features"], "features"


def slope(function: Callable[[Array], float], x: Array) -> Array:
    """Central differences."""
    found = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        ends = []
        for h in (H, -H):
            moved = x.copy()
            moved[place] += h
            ends.append(function(moved))
        found[place] = (ends[0] - ends[1]) / (2 * H)
    return found.round(8)


def with_slope(vector: Vector, function: Callable[[Array], float], x: Array, name: str) -> Vector:
    """The vector with its gradient, where that is unique."""
    return vector | ({} if vector["id"] in TIED else {f"expected_grad_{name}": slope(function, x)})


def inputs_of(vectors: Iterable[Vector]) -> dict[str, Any]:
    """The scenes that the vectors name."""
    scenes = given_inputs() | inputs()
    used = {vector["input"] for vector in vectors}
    return {key: scenes[key] for key in sorted(used)}


def document() -> dict[str, Any]:
    vectors = [with_slope(*parts) for parts in values()]
    return {"inputs": inputs_of(vectors), "vectors": vectors + by_rule()}


def by_rule() -> list[Vector]:
    """Vectors whose value follows from a definition: distances of transforms, nothing to do."""
    turned = [[np.cos(0.3), -np.sin(0.3), 0.0], [np.sin(0.3), np.cos(0.3), 0.0], [0.0, 0.0, 1.0]]
    theta = [[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]]
    shared: Vector = {"loss": "inverseform", "logits": None, "target": None, "tol": 1e-6}
    return [
        {"id": "if_geodesic", "params": {"variant": "geodesic_angle"}, "theta": turned, "expected": 0.3, **shared},
        {"id": "if_shear", "params": {"variant": "euclidean"}, "theta": theta, "expected": 0.5**0.5, **shared},
        {"id": "abl_none", "loss": "active_boundary", "logits": np.zeros((1, 2, 4, 4)), "expected": None}
        | {"target": np.eye(4, dtype=int)[None], "params": {"max_N_ratio": 0.1, "theta": 20.0}},
        *(
            {"id": f"void.{loss}", "loss": loss, "logits": np.ones((1, 2, 4, 4)), "expected": None}
            | {"target": np.full((1, 4, 4), 255), "params": {}}
            for loss in ("dice", "rmi", "t_loss", "abl", "bdou")
        ),
    ]


def plain(value: Any) -> Any:
    """Arrays as lists, whole numbers of floats kept as floats."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document, a vector a line."""
    given = plain(dict(content))
    lines = [json.dumps(vector) for vector in given["vectors"]]
    shared = json.dumps(given["inputs"])
    path.write_text(f'{{"inputs": {shared},\n"vectors": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def main(path: Path = FILE) -> None:
    write(path, document())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
