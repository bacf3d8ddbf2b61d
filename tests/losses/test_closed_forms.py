"""Derivatives that are written out by hand, against finite differences, also where single losses do not reach."""

import pytest
import torch

from tuner.losses.autograd import FocalSum, PowerSum
from tuner.losses.robust import StudentT
from tuner.losses.softmax_stats import SoftmaxSums, true_class_indices


@pytest.mark.parametrize("linear", [0.0, 1.0], ids=["squares", "squares and sums"])
@pytest.mark.parametrize("share_void", [0.0, 0.3], ids=["no void", "void"])
def test_sums_of_squares_have_the_right_gradient(linear: float, share_void: float) -> None:
    """A sum of losses that reads p and p squared would be trained in a wrong direction."""
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 20, dtype=torch.double, requires_grad=True)
    void = torch.rand(2, 20) < share_void
    labels = torch.randint(0, 4, (2, 20)).masked_fill(void, 0)
    places = true_class_indices(logits, labels)
    weights = torch.randn(3, 2, 4, dtype=torch.double) * torch.tensor([1, linear, 1]).view(3, 1, 1)

    def weighed(logits: torch.Tensor) -> torch.Tensor:
        outputs = SoftmaxSums.apply(logits, labels, places, void, True, True, True)  # type: ignore[no-untyped-call]
        total: torch.Tensor = (outputs[3] * weights).sum()
        return total

    assert torch.autograd.gradcheck(weighed, (logits,))


def test_student_t_has_the_right_gradient() -> None:
    """The tolerance that is learned would drift away from the noise there is."""
    errors = torch.tensor([[3.0, 0.5], [20.0, 7.0]], dtype=torch.double, requires_grad=True)
    nu = torch.tensor(2.3, dtype=torch.double, requires_grad=True)
    pixels = torch.tensor([[40.0], [50.0]], dtype=torch.double)

    def value(s: torch.Tensor, freedom: torch.Tensor) -> torch.Tensor:
        return StudentT.apply(s, pixels, freedom)  # type: ignore[no-any-return,no-untyped-call]

    assert torch.autograd.gradcheck(value, (errors, nu))


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_sums_over_pixels_have_the_right_gradient(gamma: float) -> None:
    """Focal terms and powers of -ln p would be trained in a wrong direction."""
    torch.manual_seed(0)
    nll = (torch.rand(2, 20, dtype=torch.double) * 3 + 0.01).requires_grad_()
    weights, chosen = torch.rand(2, 20, dtype=torch.double), (torch.rand(2, 20) < 0.5).double()

    def powers(x: torch.Tensor) -> torch.Tensor:
        return PowerSum.apply(x, gamma, weights)  # type: ignore[no-any-return,no-untyped-call]

    assert torch.autograd.gradcheck(powers, (nll,))
    for focused in (None, chosen):

        def focal(x: torch.Tensor, focused: torch.Tensor | None = focused) -> torch.Tensor:
            return FocalSum.apply(x, torch.exp(-x.detach()), gamma, weights, focused)  # type: ignore[no-any-return,no-untyped-call]

        assert torch.autograd.gradcheck(focal, (nll,))
