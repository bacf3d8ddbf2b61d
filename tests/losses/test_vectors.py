"""Our losses against values and gradients computed in float64, straight from the formulas.

`loss_vectors.json` was given; `own_vectors.json` is written by `python -m tests.losses.by_hand.make`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.losses.by_hand.make import FILE as OWN_FILE
from tests.losses.by_hand.make import plain, values
from tests.losses.vector_cases import ALIASES, case_of, our_name
from tests.losses.vectors import compare, read
from tests.losses.vectors import main as run
from tuner.losses.catalog.registry import LOSSES

GIVEN = read(Path(__file__).with_name("loss_vectors.json"))
OWN = read(OWN_FILE)
VECTORS = GIVEN + OWN
# forms that have a name of their own in vectors
FORMS = {"hausdorff_dt": "hausdorff", "hausdorff_er": "hausdorff"}


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{n}-{vector['id']}" for n, vector in enumerate(VECTORS)])
def test_vector(vector: dict) -> None:
    """The value is the paper's, and so is the slope."""
    assert compare(vector).is_right, compare(vector)


def test_every_loss_has_a_vector_in_two_and_three_dimensions_with_void_and_absent_classes() -> None:
    """A loss that is not listed here is right by nobody's word but its own."""
    seen: dict[str, set[str]] = {name: set() for name in LOSSES}
    for vector in OWN:
        seen[FORMS.get(vector["loss"]) or our_name(vector["loss"])].add(vector.get("input", ""))

    volumes, voids = {"volume", "distances_3d"}, {"plane", "absent", "distances", "distances_3d"}
    assert [name for name, inputs in seen.items() if not inputs & volumes or not inputs & voids] == []


def test_own_vectors_are_what_the_formulas_say() -> None:
    """A file edited by hand would be no reference."""
    made = [plain({key: vector[key] for key in ("id", "loss", "params", "expected")}) for vector, *_ in values()]
    stored = {vector["id"]: vector for vector in OWN}

    for vector in made:
        assert stored[vector["id"]]["params"] == vector["params"]
        assert stored[vector["id"]]["expected"] == pytest.approx(vector["expected"], abs=1e-12), vector["id"]


def test_formulas_by_hand_agree_with_the_vectors_that_were_given() -> None:
    """Two people who never met wrote the same numbers: that is what makes either of them a reference."""
    own = {vector["id"]: vector["expected"] for vector in OWN}
    # of the specification's own cross-check
    known = {"ce_E": 1.715173536, "focal_B_g2_a": 0.110976350, "dice_B_nobg": 0.474424552, "iou_E": 0.836828055}
    known |= {"gwdl_B_gdl": 0.195652174, "lovasz_E_image": 0.744452180, "ssl_E": 0.229707298, "ftl_B": 0.352482956}
    known |= {"rmi_F_r2": 1.113698709, "tloss_A_nue": 4.265747310, "hd_dt_K_all": 0.421343513}
    known |= {"abl_F_ls2": 0.029938779, "ufl_A_asym_g2": 0.457221817, "topk_B_40": 0.857399214}

    assert {name: round(own[name], 9) for name in known} == pytest.approx(known, abs=2e-9)


def written(folder: Path, **vector: object) -> Path:
    """A file of one vector: two classes, one pixel, both logits 0."""
    default = {"id": "x", "loss": "cross_entropy", "logits": [[[[0.0]], [[0.0]]]], "target": [[[1]]], "tol": 1e-6}
    path = folder / "one.json"
    path.write_text(json.dumps({"vectors": [default | vector]}), encoding="utf-8")
    return path


def test_runner_says_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A runner that always says ok would be worth nothing."""
    assert run(written(tmp_path, expected=0.7)) == 1
    assert capsys.readouterr().out == "x 0.693147181 0.700000000 off\n"


def test_null_means_zero_with_zero_gradient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`expected: null` is a promise about the gradient too."""
    assert run(written(tmp_path, loss="dice", target=[[[255]]], expected=None)) == 0
    assert capsys.readouterr().out == "x 0.000000000 0.000000000 ok\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"loss": "nobodys"}, "nobodys", id="loss"),
        pytest.param({"params": {"temperature": 2.0}}, "temperature", id="parameter"),
        pytest.param({"loss": "rmi", "params": {"clip": 0.1}}, "clip", id="constant"),
        pytest.param({"target": [[[1, 1]]]}, r"[1, 2, 1, 1]", id="shape"),
    ],
)
def test_what_cannot_be_run_is_off_and_hides_nothing(
    wrong: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A parameter that is read by nobody would let a wrong value pass as right, and a crash would end the list."""
    path = written(tmp_path, expected=0.6931471805599453)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["vectors"].insert(0, content["vectors"][0] | {"id": "bad"} | wrong)
    path.write_text(json.dumps(content), encoding="utf-8")

    assert run(path) == 1

    shown = capsys.readouterr()
    assert shown.out == "bad nan 0.693147181 off\nx 0.693147181 0.693147181 ok\n"
    assert said in shown.err


def test_a_wrong_gradient_or_part_is_off(tmp_path: Path) -> None:
    """A right value with a wrong slope trains towards something else."""
    value = float(np.log(2))

    assert run(written(tmp_path, expected=value, expected_grad_logits=[[[[0.5]], [[-0.5]]]])) == 0
    assert run(written(tmp_path, expected=value, expected_grad_logits=[[[[0.5]], [[-0.4]]]])) == 1
    parts = next(vector for vector in GIVEN if vector["id"] == "rmi_G_default")
    assert not compare(parts | {"expected_parts": parts["expected_parts"] | {"bce": 1.0}}).is_right


def test_aliases_lead_to_losses() -> None:
    """A name that leads nowhere is as good as none."""
    assert [alias for alias in ALIASES if case_of(alias) is None or our_name(alias) not in LOSSES] == []
    assert all(case_of(name) is not None for name in LOSSES)
