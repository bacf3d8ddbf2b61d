"""A better segmentation of a small object never costs more than finding none, and the right answer costs least.

Over the whole searched box of every loss, as it is trained: an add-on with its base and its schedule.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from tests.losses.images import corners, ends, one_term, term_value, truth
from tuner.losses.batch import EpochProgress
from tuner.losses.build import combination_of
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.spec import LossSpec

FREQUENCIES = (0.98, 0.015, 0.005)
# 0.05 to 1 % of the image
OBJECTS = (((2, 1), (64, 64)), ((4, 4), (40, 40)), ((12, 2), (48, 48)))
SURE = (4.0, 8.0, 60.0)
MOMENTS = tuple(EpochProgress(epoch, 101) for epoch in (1, 51, 101))


def small_object(sides: tuple[int, int], shape: tuple[int, int]) -> dict[str, Tensor]:
    """Labels [1, H, W]: the object, half of it, nothing."""
    middle = [side // 2 for side in shape]
    whole = torch.zeros(1, *shape, dtype=torch.int64)
    whole[0, middle[0] : middle[0] + sides[0], middle[1] : middle[1] + sides[1]] = 1
    half = whole.clone()
    half[0, middle[0] : middle[0] + sides[0] // 2] = 0
    return {"whole": whole, "half": half, "none": torch.zeros_like(whole)}


def costs(entry: LossSpec, options: dict[str, object], answers: dict[str, Tensor]) -> dict[float, dict[str, Tensor]]:
    """The bare loss of every answer, by how sure it is."""
    term, maps = one_term(entry, options, frequencies=FREQUENCIES), dict[str, Tensor]()
    return {
        gap: {
            name: term_value(term, truth(answer, gap=gap), answers["whole"], maps).detach()
            for name, answer in answers.items()
        }
        for gap in SURE
    }


def order_problems(entry: LossSpec, boxes: list[dict[str, object]]) -> list[str]:
    """Say where a better answer costs more, with the base of an add-on, at the begin, the middle and the end."""
    found = []
    own = {option.name for option in entry.own_options}
    mixing = [option for option in entry.options if option.name in entry.mixing_options]
    blended = [dict(zip([o.name for o in mixing], v, strict=True)) for v in product(*map(ends, mixing))]
    for sides, shape in OBJECTS:
        answers = small_object(sides, shape)
        bases = {}
        for options in boxes:
            bare = costs(entry, {key: value for key, value in options.items() if key in own}, answers)
            for mixed in blended:
                blend = combination_of(entry, mixed)
                for name in blend.hidden:
                    bases.setdefault(name, costs(LOSSES[name], {}, answers))
                for gap, moment in product(SURE, MOMENTS if "schedule" in entry.mixing_options else MOMENTS[-1:]):
                    weights = blend.weights(moment)
                    terms = [bare, *(bases[name] for name in blend.hidden)]
                    cost = {}
                    for name in answers:
                        kept = [(t[gap][name], w) for t, w in zip(terms, weights, strict=True) if w != 0]
                        cost[name] = float(blend.mix([v for v, _ in kept], [w for _, w in kept]))
                    margin = 1e-9 * max(1.0, abs(cost["none"]))
                    if not cost["whole"] <= cost["half"] + margin or not cost["half"] <= cost["none"] + margin:
                        found.append(f"{entry.name} {options | mixed} {sides} in {shape} sure {gap} {moment}: {cost}")
    return found


def test_small_objects(entry: LossSpec) -> None:
    """Mcc with `smooth` in the numerator had "find nothing" for a minimum, hausdorff charged more for half.

    The first and the last corner of the box.
    """
    every = corners(entry, singly=False)
    assert order_problems(entry, [every[0], every[-1]]) == []


@pytest.mark.slow
def test_small_objects_at_every_corner(entry: LossSpec) -> None:
    """All of them."""
    assert order_problems(entry, corners(entry, singly=False)) == []
