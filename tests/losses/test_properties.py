"""What holds for every loss, whatever its formula: each row of the registry goes through all of this."""

import copy

import pytest
import torch

from tests.losses.images import FREQUENCIES, VOID, blobs, built, gradient, scores, truth
from tuner.losses.batch import EpochProgress, read_inputs
from tuner.losses.build import Term
from tuner.losses.spec import LossSpec

Shape = tuple[int, ...]


def edge_values(entry: LossSpec) -> list[tuple[str, object]]:
    """Every legal end and choice of every option."""
    ends: list[tuple[str, object]] = []
    for option in entry.options:
        if option.name == "base":
            continue
        values = option.choices or ((True, False) if option.type == "bool" else (option.low, option.high))
        ends += [(option.name, value) for value in values if value is not None]
        ends += [(option.name, None)] if option.nullable else []
    return ends


def test_finite_at_both_ends_of_every_interval(entry: LossSpec, shape: Shape) -> None:
    """A sampler may propose any legal value; none may break the loss."""
    target = blobs(shape)
    target[:, 0] = VOID
    for option, value in edge_values(entry):
        loss, grad = gradient(built(entry, {option: value}), scores(target, dtype=torch.float32), target)

        assert loss.isfinite(), (option, value)
        assert grad.isfinite().all(), (option, value)


def test_a_constant_on_all_logits_changes_nothing(entry: LossSpec, shape: Shape) -> None:
    """Softmax does not see it; a loss that does reads the logits where it should read probabilities."""
    target = blobs(shape)
    logits = scores(target)
    loss = built(entry)

    same = torch.allclose(loss(logits, target), loss(logits + 3.0, target), atol=1e-9)

    assert same == ("shift" not in entry.violated_properties)


def test_order_of_images_changes_nothing(entry: LossSpec, shape: Shape) -> None:
    """A batch is a set."""
    target = blobs(shape)
    logits = scores(target)
    loss = built(entry)

    torch.testing.assert_close(loss(logits, target), loss(logits.flip(0), target.flip(0)))


def test_void_pixels_get_no_gradient(entry: LossSpec, shape: Shape) -> None:
    """A pixel marked ignore_index must not move the network, whatever the loss."""
    target = blobs(shape)
    target[:, :2] = VOID

    _, grad = gradient(built(entry), scores(target), target)

    assert grad[:, :, :2].abs().max() == 0
    assert grad[:, :, 2:].abs().max() > 0


@pytest.mark.parametrize(
    "rubbish",
    [50.0, float("nan"), *(pytest.param(float(f"{sign}inf"), marks=pytest.mark.slow) for sign in "+-")],
    ids=str,
)
def test_logits_on_void_pixels_change_nothing(entry: LossSpec, shape: Shape, rubbish: float) -> None:
    """Padding and unlabelled borders may hold anything, NaN included."""
    target = blobs(shape)
    target[0, :2] = VOID
    logits = scores(target, dtype=torch.float32)
    spoilt = logits.clone()
    spoilt[0, 1, :2] = rubbish

    value, grad = gradient(built(entry), logits, target)
    spoilt_value, spoilt_grad = gradient(built(entry), spoilt, target)

    torch.testing.assert_close(spoilt_value, value)
    torch.testing.assert_close(spoilt_grad, grad)


def test_all_void_is_zero_with_zero_gradient(entry: LossSpec, shape: Shape) -> None:
    """A batch without a label must not stop the training with a NaN."""
    target = torch.full((2, *shape), VOID)
    logits = scores(target, dtype=torch.float32)
    logits[0, 0, 0] = float("nan")

    value, grad = gradient(built(entry), logits, target)

    assert value == 0
    assert (grad == 0).all()


def test_one_void_image_beside_a_labelled_one(entry: LossSpec, shape: Shape) -> None:
    """The unlabelled image of a batch has no say."""
    target = blobs(shape)
    target[1] = VOID

    value, grad = gradient(built(entry), scores(target), target)

    assert value.isfinite()
    assert (grad[1] == 0).all()


def test_empty_foreground_is_finite(entry: LossSpec, shape: Shape) -> None:
    """Slices without an organ are the rule in medical data."""
    target = torch.zeros(2, *shape, dtype=torch.int64)

    value, grad = gradient(built(entry), scores(target, dtype=torch.float32), target)

    assert value.isfinite()
    assert grad.isfinite().all()


def test_only_foreground_is_finite(entry: LossSpec, shape: Shape) -> None:
    """A crop inside an organ has no background and no border."""
    target = torch.ones(2, *shape, dtype=torch.int64)

    value, grad = gradient(built(entry), scores(target, dtype=torch.float32), target)

    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("side", [1, 2, pytest.param(3, marks=pytest.mark.slow)], ids=str)
def test_tiny_images(entry: LossSpec, shape: Shape, side: int) -> None:
    """One pixel is an image too (the last of a sliding window, say)."""
    target = torch.ones(1, *(side for _ in shape), dtype=torch.int64)

    value, grad = gradient(built(entry), scores(target, dtype=torch.float32), target)

    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    "gap", [1e4, -1e4, 0.0, *(pytest.param(gap, marks=pytest.mark.slow) for gap in (200.0, -200.0))], ids=str
)
def test_extreme_logits_are_finite(entry: LossSpec, shape: Shape, gap: float) -> None:
    """A network that is very sure, rightly or wrongly, must still be trainable."""
    target = blobs(shape)

    value, grad = gradient(built(entry), truth(target, gap=gap).float(), target)

    assert value.isfinite()
    assert grad.isfinite().all()


def test_truth_is_no_worse_than_chance(entry: LossSpec, shape: Shape) -> None:
    """The perfect prediction is where the loss wants to go."""
    target = blobs(shape)
    loss = built(entry)

    perfect, random = loss(truth(target, gap=200.0), target), loss(scores(target), target)

    assert (perfect <= random) == ("saturation" not in entry.violated_properties)
    if "zero_minimum" not in entry.violated_properties:
        assert abs(float(perfect)) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_types_are_raised(entry: LossSpec, shape: Shape, dtype: torch.dtype) -> None:
    """Sums over an image overflow float16: the loss is computed in float32, under autocast too."""
    target = blobs(shape)
    logits = scores(target, dtype=dtype)
    loss = built(entry)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss(logits, target)

    assert low.dtype == torch.float32
    torch.testing.assert_close(low, loss(logits.float(), target))


def test_double_is_kept(entry: LossSpec, shape: Shape) -> None:
    """Whoever asks for float64 gets it."""
    target = blobs(shape)

    assert built(entry)(scores(target), target).dtype == torch.float64


def test_float32_agrees_with_float64(entry: LossSpec, shape: Shape) -> None:
    """The shortcuts of the float32 path change nothing but the last digits."""
    target = blobs(shape)
    logits = scores(target, dtype=torch.float32)

    value, grad = gradient(built(entry), logits, target)
    exact, exact_grad = gradient(built(entry), logits.double(), target)

    torch.testing.assert_close(value.double(), exact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grad.double(), exact_grad, atol=1e-5, rtol=1e-3)


def test_one_channel_is_two_with_a_zero(entry: LossSpec, shape: Shape) -> None:
    """Binary networks with one output mean the logit of class 1."""
    target = blobs(shape).clamp_max(1)
    z = scores(target, classes=1)
    loss = built(entry, classes=2)

    torch.testing.assert_close(loss(z, target), loss(torch.cat([torch.zeros_like(z), z], 1), target))


def test_forward_changes_neither_input_nor_module(entry: LossSpec, shape: Shape) -> None:
    """Calling a loss twice gives the same, and validation may share the training's logits."""
    target = blobs(shape)
    target[0, 0] = VOID
    logits = scores(target, dtype=torch.float32)
    loss = built(entry)
    state, before, labels = copy.deepcopy(loss.state_dict()), logits.clone(), target.clone()

    first, second = loss(logits, target), loss(logits, target)

    assert first == second
    assert torch.equal(logits, before)
    assert torch.equal(target, labels)
    assert all(torch.equal(value, state[key]) for key, value in loss.state_dict().items())


def test_memory_layout_changes_nothing(entry: LossSpec) -> None:
    """Networks in channels-last hand over logits in channels-last."""
    target = blobs((12, 12))
    logits = scores(target)
    loss = built(entry)

    value, grad = gradient(loss, logits, target)
    other, other_grad = gradient(loss, logits.to(memory_format=torch.channels_last), target)

    torch.testing.assert_close(other, value)
    torch.testing.assert_close(other_grad, grad)


def test_bare_function_equals_the_term(entry: LossSpec, shape: Shape) -> None:
    """What the registry's function computes is what a sum computes with it."""
    target = blobs(shape)
    logits = scores(target)
    term = Term(entry, {option.name: option.default for option in entry.own_options}, FREQUENCIES)
    given = {"class_frequencies": FREQUENCIES} if "class_frequencies" in entry.needs else {}
    given |= {} if term.state is None else {"state": term.state}

    direct = term.function(logits, target, ignore_index=VOID, **term.keywords, **given)
    sums, squares = term.function.reads(**term.keywords)
    view = read_inputs(logits, target, ignore_index=VOID, sums=sums, squares=squares)

    torch.testing.assert_close(direct, term(view, {}, EpochProgress()))
