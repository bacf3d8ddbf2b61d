"""The stored behaviour curves, which the service draws without torch, are those of the losses that we have."""

import json
from importlib.resources import files

import pytest

from tuner.losses.behavior import measure_behavior
from tuner.losses.catalog.registry import LOSSES

STORED = json.loads((files("tuner.losses") / "behaviour.json").read_text(encoding="utf-8"))


def test_every_loss_is_stored() -> None:
    """A new loss needs `tuner losses --probe --json` once more."""
    assert set(STORED["losses"]) == set(LOSSES)


QUICK = ("cross_entropy", "dice", "boundary", "unified_focal")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in LOSSES]
)
def test_what_is_stored_is_what_the_loss_does(name: str) -> None:
    """A formula that changes must not keep its old picture."""
    for curve in measure_behavior(LOSSES[name]):
        stored = STORED["losses"][name][f"{curve.drift}.{curve.object}"]
        assert stored == pytest.approx(list(curve.values), rel=1e-3, abs=1e-4)
