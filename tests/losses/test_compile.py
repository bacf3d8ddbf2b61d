"""Losses under torch.compile, under autocast, and on a device that must not be waited for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.losses.images import ALL, VOID, blobs, built, scores
from tuner.label_maps import MAPS
from tuner.losses.batch import read_inputs
from tuner.losses.build import SegmentationLoss
from tuner.losses.distance_transform import target_map
from tuner.losses.spec import LossSpec
from tuner.testing.loss import LIVELY

# torch.compile's own code, which pytest would stop at, warns of itself
quiet = pytest.mark.filterwarnings("ignore")

BROKEN = ("hausdorff", "log_hausdorff", "cbdice")
"""Losses that break a compiled graph: on the CPU, distances to predicted borders are numpy's."""


def scene(*, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits and labels with a void edge."""
    target = blobs((16, 16))
    target[:, :2] = VOID
    return scores(target, dtype=dtype), target


def maps_for(loss: SegmentationLoss, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The target maps that a loader would bring."""
    view = read_inputs(logits, target, ignore_index=VOID)
    return {need: target_map(view, need, None) for need in loss.needs if need in MAPS}


def value_and_slope(
    call: Callable[..., Tensor], logits: Tensor, *rest: Any, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """Value and gradient of a loss, the graph kept or not."""
    leaf = logits.clone().requires_grad_()
    value = call(leaf, *rest)
    value.backward(retain_graph=keep)
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def test_gradient_is_the_same_when_the_graph_is_kept(entry: LossSpec) -> None:
    """Without the graph the gradient takes the memory of the probabilities, with it the memory is its own."""
    logits, target = scene()
    loss = built(entry, LIVELY.get(entry.name))

    value, slope = value_and_slope(loss, logits, target)
    again, kept = value_and_slope(loss, logits, target, keep=True)

    torch.testing.assert_close(again, value)
    torch.testing.assert_close(kept, slope)


def test_a_kept_graph_gives_its_gradient_twice() -> None:
    """A second backward must not read what the first one overwrote."""
    logits, target = scene()
    logits.requires_grad_()
    value = built("dice_cross_entropy")(logits, target)

    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    (second,) = torch.autograd.grad(value, logits)

    torch.testing.assert_close(second, first, rtol=0, atol=0)


@pytest.mark.parametrize("name", [entry.name for entry in ALL])
def test_a_device_is_not_waited_for(name: str) -> None:
    """On a GPU each look at a value idles it; torch's meta device has no values, so that any look raises."""
    logits, target = scene(dtype=torch.float32)
    loss = built(name)
    maps = {need: made.to("meta") for need, made in maps_for(loss, logits, target).items()}
    far = logits.to("meta").requires_grad_()

    value = loss.to("meta")(far, target.to("meta"), maps)
    value.backward()

    assert value.shape == ()
    assert far.grad is not None
    assert far.grad.shape == far.shape


@pytest.mark.parametrize("kind", [torch.bfloat16], ids=["bf16"])
def test_autocast_changes_nothing(entry: LossSpec, kind: torch.dtype) -> None:
    """Half logits out of an autocast region are raised, and no sum inside the loss is taken in half precision."""
    logits, target = scene(dtype=torch.float32)
    loss = built(entry, LIVELY.get(entry.name))
    half = logits.to(kind)
    plain = loss(half.float(), target)

    with torch.autocast("cpu", dtype=kind):
        cast = loss(half, target)

    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in ALL if entry.name not in BROKEN])
def test_compiles_as_one_graph(name: str) -> None:
    """One graph, and the value and gradient of eager mode."""
    logits, target = scene(dtype=torch.float32)
    loss = built(name, LIVELY.get(name))
    maps = maps_for(loss, logits, target)
    torch._dynamo.reset()

    expected = value_and_slope(loss, logits, target, maps)
    got = value_and_slope(torch.compile(loss, backend="aot_eager", fullgraph=True), logits, target, maps)

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_compiles_in_parts(name: str) -> None:
    """These break the graph where they look, and must still give eager mode's value and gradient."""
    logits, target = scene(dtype=torch.float32)
    loss = built(name, LIVELY.get(name))
    maps = maps_for(loss, logits, target)
    torch._dynamo.reset()

    expected = value_and_slope(loss, logits, target, maps)
    got = value_and_slope(torch.compile(loss, backend="aot_eager"), logits, target, maps)

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dice_focal", "lovasz_softmax"])
def test_compiles_to_machine_code(name: str) -> None:
    """The default backend, which fuses the passes, computes the same; it needs a C++ compiler."""
    logits, target = scene(dtype=torch.float32)
    loss = built(name)
    torch._dynamo.reset()

    expected = value_and_slope(loss, logits, target)
    got = value_and_slope(torch.compile(loss), logits, target)

    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
