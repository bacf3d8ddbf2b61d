"""What a training may meet: few slices, one valid pixel, classes that never occur, wild logits, features in 3-D."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.losses.images import VOID, blobs, built, gradient, scores
from tuner.errors import LossInputError, SpecError
from tuner.losses.build import SegmentationLoss
from tuner.losses.spec import LossSpec

Shape = tuple[int, ...]


def holds(loss: SegmentationLoss, logits: Tensor, target: Tensor) -> bool:
    value, grad = gradient(loss, logits, target)
    return bool(value.isfinite() and grad.isfinite().all())


@pytest.mark.parametrize(
    "depth", [1, 2, 5, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (3, 9))], ids=str
)
def test_volumes_of_few_slices(entry: LossSpec, depth: int) -> None:
    """A crop of a thin scan: poolings, windows and heads must fit what is there."""
    target = torch.arange(depth * 90).remainder(7).clamp_max(2).view(1, depth, 9, 10)

    assert holds(built(entry), scores(target, dtype=torch.float32), target)


def test_wild_logits(entry: LossSpec, shape: Shape) -> None:
    """Some pixels sure and right, others sure and wrong, at 1e4, shifted too."""
    target = blobs(shape)
    logits = scores(target, dtype=torch.float32).sign() * 1e4
    loss = built(entry)

    assert holds(loss, logits, target)
    assert holds(loss, logits + 1e4, target)


def test_a_gradient_can_be_asked_for_twice(entry: LossSpec, shape: Shape) -> None:
    """What backward reuses of the forward's memory must not be needed again, and the gradient drags no graph along."""
    target = blobs(shape)
    target[0, 0] = VOID
    logits = scores(target, dtype=torch.float32).requires_grad_()
    value = built(entry)(logits, target)

    first, second = (torch.autograd.grad(value, logits, retain_graph=True)[0].clone() for _ in range(2))
    (last,) = torch.autograd.grad(value, logits)

    assert torch.equal(first, second)
    assert torch.equal(first, last)
    assert not last.requires_grad


def test_one_valid_pixel_in_the_batch(entry: LossSpec, shape: Shape) -> None:
    """An image that is nearly all padding."""
    target = torch.full((2, *shape), VOID)
    target[(0, *(1 for _ in shape))] = 1

    assert holds(built(entry), scores(target, dtype=torch.float32), target)


@pytest.mark.parametrize("frequencies", [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0)], ids=["one-class", "two-classes"])
@pytest.mark.parametrize("exponent", [0.0, 2.0], ids=str)
def test_classes_that_never_occur_in_the_training_data(
    entry: LossSpec, frequencies: tuple[float, ...], exponent: float
) -> None:
    """A frequency of zero must not become an infinite weight or prior, even where such a class turns up."""
    target = blobs((8, 8))
    weighted = any(option.name == "class_weight_exponent" for option in entry.options)
    options = {"class_weight_exponent": exponent} if weighted else {}

    assert holds(built(entry, options, frequencies=frequencies), scores(target, dtype=torch.float32), target)


def test_features_of_volumes(shape: Shape) -> None:
    """The conditional boundary loss reads a decoder's features at their own resolution, in any dimension."""
    target = blobs(shape)
    half = [side // 2 for side in shape]
    features = torch.randn(2, 4, *half, dtype=torch.float64, requires_grad=True)
    inputs = {"features": features, "classifier_weight": torch.randn(3, 4), "classifier_bias": torch.zeros(3)}

    built("conditional_boundary")(scores(target), target, inputs).backward()

    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert features.grad.abs().max() > 0


@pytest.mark.parametrize("depth", [1, 2, 4, 7, 8], ids=str)
def test_a_head_on_features_of_volumes(depth: int) -> None:
    """The boundary-aware head sees as far around as there are slices."""
    loss = built("boundary_aware", {"weight": 1.0})
    loss.states()[0].adopt_features(4)  # type: ignore[operator]
    target = torch.arange(depth * 90).remainder(7).clamp_max(2).view(1, depth, 9, 10)
    features = torch.randn(1, 4, depth, 9, 10, requires_grad=True)

    loss(scores(target, dtype=torch.float32), target, {"features": features}).backward()

    assert features.grad is not None
    assert features.grad.abs().max() > 0


def test_a_head_of_the_network_is_used_in_place_of_the_loss_s_own() -> None:
    """A network that brings distance scores needs no second head."""
    target = blobs((8, 8))
    head = torch.randn(2, 11, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = built("boundary_aware")

    loss(scores(target), target, {"boundary_head": head}).backward()

    assert head.grad is not None
    assert all(parameter.grad is None for parameter in loss.states()[0].parameters())


@pytest.mark.parametrize(
    ("logits", "target", "said"),
    [
        pytest.param((2, 3, 6, 6), (2, 7, 6), r"\[2, 3, 6, 6\].*\[2, 7, 6\].*\[2, 6, 6\]", id="size"),
        pytest.param((2, 3, 6, 6), (1, 6, 6), r"\[2, 3, 6, 6\].*\[1, 6, 6\].*\[2, 6, 6\]", id="batch"),
        pytest.param((2, 3, 6, 6), (2, 1, 6, 6), r"\[2, 3, 6, 6\].*\[2, 1, 6, 6\].*\[2, 6, 6\]", id="channel"),
        pytest.param((2, 4, 6, 6), (2, 6, 6), r"\[2, 4, 6, 6\].*4 channels.*3 classes", id="classes"),
        pytest.param((2, 3, 6), (2, 6), r"\[2, 3, 6\].*\[2, 6\].*\[B, C, H, W\]", id="one-dimension"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(entry: LossSpec, logits: Shape, target: Shape, said: str) -> None:
    """Broadcasting would train nonsense; the message has both shapes and the right one."""
    with pytest.raises(LossInputError, match=said):
        built(entry)(torch.zeros(logits), torch.zeros(target, dtype=torch.int64))


def test_labels_out_of_range_are_refused(entry: LossSpec) -> None:
    """Labels of another data set, or counted from 1."""
    with pytest.raises(LossInputError, match=r"labels -1, 3, .*3 classes.*0 to 2, or 255"):
        built(entry)(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 3], [-1, 255]]]))


def test_options_outside_their_interval_are_refused(entry: LossSpec) -> None:
    """Every option of every loss says its path, the value, and what would be legal."""
    for option in entry.options:
        for value in wrong_values(option):
            with pytest.raises(SpecError) as caught:
                built(entry, {option.name: value})
            message = str(caught.value)
            assert f"loss.{entry.name}.{option.name}" in message
            assert repr(value) in message
            assert option.legal() in message or ", ".join(map(str, option.choices or ())) in message


def wrong_values(option: Any) -> list[Any]:
    """One below, one above, one of another type."""
    if option.choices is not None:
        return ["nothing of the kind"] if option.type == "str" else [4]
    ends = [option.low - 1] if option.low is not None else []
    ends += [option.high + 1] if option.high is not None else []
    return [*ends, "many", *([float("nan")] if option.type == "float" else [])]


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        pytest.param("boundary", {"signed_distance": (2, 8, 8)}, r"\[2, 8, 8\].*\[2, 3, 8, 8\].*class", id="per-pixel"),
        pytest.param("distance_map_ce", {"own_distance": (2, 3, 8, 8)}, r"\[2, 3, 8, 8\].*\[2, 8, 8\]", id="per-class"),
        pytest.param("skeleton_recall", {"skeleton": (1, 8, 8)}, r"\[1, 8, 8\].*\[2, 8, 8\]", id="batch"),
        pytest.param("blob", {"objects": (2, 4, 8)}, r"\[2, 4, 8\].*\[2, 8, 8\]", id="size"),
        pytest.param("boundary_aware", {"boundary_head": (2, 3, 8, 8)}, r"\[2, 3, 8, 8\].*\[2, 11, 8, 8\]", id="head"),
        pytest.param("conditional_boundary", {"features": (2, 4, 8, 8)}, "classifier_weight", id="no-classifier"),
        pytest.param(
            "conditional_boundary",
            {"features": (1, 4, 8, 8), "classifier_weight": (3, 4)},
            r"\[1, 4, 8, 8\].*\[2, 3, 8, 8\]",
            id="features",
        ),
        pytest.param(
            "conditional_boundary",
            {"features": (2, 4, 8, 8), "classifier_weight": (3, 5)},
            r"\[3, 5\].*\[3, 4\]",
            id="classifier",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, inputs: dict[str, Shape], said: str) -> None:
    """A map of the wrong kind would be broadcast over the classes and pass."""
    target = blobs((8, 8))

    with pytest.raises(LossInputError, match=said):
        built(name)(scores(target), target, {key: torch.zeros(shape) for key, shape in inputs.items()})


def test_a_head_that_was_built_for_features_does_not_go_without() -> None:
    """Probabilities in their place would be another loss."""
    loss = built("boundary_aware")
    loss.states()[0].adopt_features(4)  # type: ignore[operator]
    target = blobs((8, 8))

    with pytest.raises(LossInputError, match=r"features \[2, 4, 8, 8\], found none"):
        loss(scores(target), target)
