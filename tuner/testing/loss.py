"""What every loss promises, from its declaration alone.

    class TestMine(LossSuite):
        @pytest.fixture
        def loss(self):
            return LossSpec(name="mine", fn="mylab.losses:mine", ...)

`violated_properties` of the declaration names what the paper's definition does not have; the opposite is tested then.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tuner.losses.build import Term
from tuner.losses.spec import LossSpec

VOID = 255
CLASSES = 3
FREQUENCIES = (0.6, 0.3, 0.1)


def blobs(shape: tuple[int, ...], *, images: int = 2) -> Tensor:
    """Labels [images, *shape]: a box of class 1 with a smaller box of class 2 beside it, shifted per image."""
    target = torch.zeros(images, *shape, dtype=torch.int64)
    for n in range(images):
        inner = tuple(slice(1 + n, side - 3) for side in shape)
        small = tuple(slice(side - 3, side - 1) for side in shape)
        target[n][inner] = 1
        target[n][small] = 2
    return target


def scores(target: Tensor, *, classes: int = CLASSES, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random logits [B, classes, *S] that fit the labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(target), classes, *target.shape[1:])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def truth(target: Tensor, *, gap: float, classes: int = CLASSES) -> Tensor:
    """Logits that are `gap` for the true class and 0 elsewhere; void pixels count as class 0."""
    labels = target.masked_fill(target == VOID, 0)
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).double() * gap


# a small image has less than one pixel in the published share
LIVELY: dict[str, dict[str, Any]] = {"active_boundary": {"boundary_share": 0.3}}


def bare(entry: LossSpec, *, frequencies: tuple[float, ...] = FREQUENCIES) -> Callable[[Tensor, Tensor], Tensor]:
    """The formula alone, with its published defaults, without base or companion."""
    options = {option.name: option.default for option in entry.own_options} | LIVELY.get(entry.name, {})
    term = Term(entry, options, frequencies)
    given: dict[str, Any] = {"class_frequencies": frequencies} if "class_frequencies" in entry.needs else {}
    if term.state is not None:
        given["state"] = term.state
    return lambda logits, target: term.function(logits, target, ignore_index=VOID, **term.keywords, **given)


def value_and_gradient(loss: LossSpec, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Value of the formula alone, and its gradient with respect to the logits."""
    leaf = logits.detach().clone().requires_grad_()
    value = bare(loss)(leaf, target)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


class LossSuite:
    """Tests of a loss, in 2-D and 3-D; a subclass provides the fixture `loss`."""

    @pytest.fixture
    def loss(self) -> LossSpec:
        """The declaration of the loss."""
        raise NotImplementedError("a subclass provides the fixture `loss`")

    @pytest.fixture(params=[(12, 12), (8, 8, 8)], ids=["2d", "3d"])
    def shape(self, request: pytest.FixtureRequest) -> tuple[int, ...]:
        """The size of an image [H, W], or of a volume [D, H, W]."""
        return tuple(request.param)

    def test_gradcheck(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """The gradient is the derivative of the value, except where the paper holds something fixed."""
        target = blobs(shape, images=1)
        target[:, :1, :2] = VOID
        value = bare(loss)
        logits = scores(target).requires_grad_()
        if "stopped_gradient" not in loss.violated_properties:
            assert torch.autograd.gradcheck(lambda z: value(z, target), logits, eps=1e-6, atol=1e-7, fast_mode=True)
            return

        step = 1e-5 * scores(target, seed=1)
        slope = (value(logits + step, target) - value(logits - step, target)).detach() / 2
        grad = torch.autograd.grad(value(logits, target), logits)[0]

        assert abs(slope - (grad * step).sum()) > 0.01 * abs(slope)

    def test_moves_the_logits(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """A loss without a gradient trains nothing, and nothing else would show it."""
        target = blobs(shape)
        logits = scores(target).requires_grad_()

        grad = torch.autograd.grad(bare(loss)(logits, target), logits)[0]

        assert grad.abs().max() > 1e-6

    def test_relabelling_the_classes_changes_nothing(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """No class has a place of honour, except where the paper gives the background one."""
        target = blobs(shape)
        logits = scores(target)
        order = [2, 0, 1]
        relabelled = torch.tensor([order.index(c) for c in range(CLASSES)])[target]
        shares = tuple(FREQUENCIES[c] for c in order)

        plain = bare(loss)(logits, target)
        permuted = bare(loss, frequencies=shares)(logits[:, order], relabelled)

        assert torch.allclose(plain, permuted, atol=1e-9) == ("class_permutation" not in loss.violated_properties)

    def test_a_constant_on_all_logits_changes_nothing(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """Softmax does not see it; a loss that does reads the logits where it should read probabilities."""
        target = blobs(shape)
        logits = scores(target)
        value = bare(loss)

        same = torch.allclose(value(logits, target), value(logits + 3.0, target), atol=1e-9)

        assert same == ("shift" not in loss.violated_properties)

    def test_void_pixels_get_no_gradient(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """A pixel marked as void must not move the network, whatever the loss."""
        target = blobs(shape)
        target[:, :2] = VOID

        _, gradient = value_and_gradient(loss, scores(target), target)

        assert gradient[:, :, :2].abs().max() == 0
        assert gradient[:, :, 2:].abs().max() > 0

    def test_all_void_is_zero_with_zero_gradient(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """A batch without a label must not stop the training with a NaN."""
        target = torch.full((2, *shape), VOID)

        value, gradient = value_and_gradient(loss, scores(target, dtype=torch.float32), target)

        assert value == 0
        assert (gradient == 0).all()

    def test_a_single_class_is_finite(self, loss: LossSpec, shape: tuple[int, ...]) -> None:
        """Slices without an object are the rule in medical data, crops inside one are not rare."""
        for label in (0, 1):
            target = torch.full((2, *shape), label)

            value, gradient = value_and_gradient(loss, scores(target, dtype=torch.float32), target)

            assert value.isfinite()
            assert gradient.isfinite().all()
