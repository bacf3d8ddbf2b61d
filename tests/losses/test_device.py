"""Every loss on a pretended GPU: the CPU's value and gradient, and no more launches and waits than allowed."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.losses.device_budgets import BUDGETS, FEATURES, SIZES, Step, config_of, measured
from tests.losses.images import ALL
from tests.pretended_cuda import LOG, pretend
from tuner import losses
from tuner.losses import conditional_boundary
from tuner.losses.distance_transform import DEVICE_MAPS, squared_region_distances

MAX_OF_A_TRANSFORM = 60


def check(step: Step, name: str) -> None:
    budget = BUDGETS[name]
    torch.testing.assert_close(step.there, step.here, rtol=1e-4, atol=1e-6)
    assert (len(step.waits), len(step.pageable)) == (budget.waits, budget.pageable), (step.waits, step.pageable)


def variants() -> Iterator[Any]:
    """Every loss with every choice of its options, alone."""
    for entry in ALL:
        for option in entry.options:
            if option.name == "base":
                continue
            values: list[Any] = [value for value in option.choices or () if value != option.default]
            if option.type == "bool" and option.default is not None:
                values = [not option.default]
            elif option.name in ("label_smoothing", "class_weight_exponent", "warmup") and option.default == 0:
                values = [0.5]
            for value in values:
                name = f"{entry.name}-{option.name}-{value}"
                yield pytest.param(entry.name, {option.name: value}, id=name)


@pytest.mark.parametrize("dims", SIZES, ids=["2d", "3d"])
@pytest.mark.parametrize("name", [*(entry.name for entry in ALL), "sum"])
def test_a_step_keeps_its_budget(name: str, dims: int) -> None:
    """On a GPU every launch costs microseconds, and every look at a value idles it."""
    step = measured(config_of(name), dims)

    check(step, name)
    assert step.launches <= (BUDGETS[name].flat if dims == 2 else BUDGETS[name].solid)


@pytest.mark.slow
@pytest.mark.parametrize("void", [True, False], ids=["void", "valid"])
@pytest.mark.parametrize("dims", SIZES, ids=["2d", "3d"])
@pytest.mark.parametrize(("name", "options"), list(variants()))
def test_options_do_not_wait_either(name: str, options: dict[str, Any], dims: int, void: bool) -> None:
    """A branch that only an option takes must be the CPU's on a GPU too."""
    check(measured(config_of(name, options), dims, void=void), name)


@pytest.mark.parametrize("void", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["void", "valid"])
@pytest.mark.parametrize("name", losses.names(multilabel=True))
def test_regions_do_not_wait_either(name: str, void: bool) -> None:
    """Masks are made of the label map on the device, and whether a target is hard or in range is not asked there."""
    step = measured(config_of(name), 2, void=void, regions=[[1, 2], [2], [1]])

    torch.testing.assert_close(step.there, step.here, rtol=1e-4, atol=1e-6)
    # the host thins each class by itself
    assert len(step.waits) <= 3 * BUDGETS[name].waits, step.waits
    assert len(step.pageable) <= 3 * BUDGETS[name].pageable, step.pageable


@pytest.mark.parametrize("sizes", [(40, 33), (9, 12, 10)], ids=["2d", "3d"])
@pytest.mark.parametrize("images", [1, 6])
def test_a_transform_is_a_few_launches(sizes: tuple[int, ...], images: int) -> None:
    """One launch per shift and mask made 50 958 of them for the signed distances of nine classes at 224 pixels."""
    labels = torch.arange(images * sizes[0] * sizes[1]).view(images, *sizes[:2]) // 7 % 9
    labels = labels.view(*labels.shape, *(1,) * (len(sizes) - 2)).expand(images, *sizes)
    with pretend() as device:
        there = labels.to(device)
        for make in (lambda: squared_region_distances(there), lambda: DEVICE_MAPS["signed_distance"](there, classes=9)):
            LOG.clear()
            make()

            assert sum(LOG.launches.values()) <= MAX_OF_A_TRANSFORM
            assert not LOG.waits


@pytest.mark.parametrize("dims", SIZES, ids=["2d", "3d"])
def test_many_anchors_are_thinned_alike(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not know how many anchors there are must leave out the same ones as the host."""
    monkeypatch.setattr(conditional_boundary, "MAX_ANCHORS", 50)
    monkeypatch.setattr(conditional_boundary, "GROUP", 7 * 50 * FEATURES)

    check(measured(config_of("conditional_boundary"), dims), "conditional_boundary")


@pytest.mark.parametrize("share", [1e-4, 0.05, 0.5])
def test_few_and_many_borders_are_followed_alike(share: float) -> None:
    """Where no pixel, some or all may be predicted border, the device's fixed number of places must hold them."""
    check(measured(config_of("active_boundary", {"boundary_share": share}), 2), "active_boundary")
