"""Lovász-softmax by histogram: its stated error, and what must hold at any number of bins."""

import pytest
import torch

from tests.losses.images import VOID, blobs, built, gradient, scores


@pytest.mark.parametrize("per_image", [False, True], ids=["batch", "per-image"])
@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("bins", [1, 7, 100, 4096])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_the_error_is_at_most_one_bin(scale: float, bins: int, classes: str, per_image: bool) -> None:
    """The docstring promises 1 / bins for any prediction."""
    target = blobs((16, 16))
    target[:, :2] = VOID
    target[1][target[1] == 2] = 0
    logits = scores(target) * scale
    options = {"cross_entropy_weight": 0.0, "classes": classes, "per_image": per_image}

    exact = built("lovasz_softmax", options)(logits, target)
    binned = built("lovasz_softmax", options | {"bins": bins})(logits, target)

    assert abs(exact - binned) <= 1 / bins + 1e-12


def test_many_bins_have_the_exact_gradient() -> None:
    """Where no two errors share a bin the ranking is the sort's."""
    target = blobs((6, 6), images=1)
    logits = scores(target)

    exact, slope = gradient(built("lovasz_softmax"), logits, target)
    binned, near = gradient(built("lovasz_softmax", {"bins": 65536}), logits, target)

    torch.testing.assert_close(binned, exact)
    torch.testing.assert_close(near, slope)


def test_void_pixels_and_absent_labels_stay_out() -> None:
    """The histogram must not count padding, nor give it a gradient."""
    target = blobs((12, 12))
    target[:, :3] = VOID
    logits = scores(target, dtype=torch.float32)
    logits[:, :, :3] = float("nan")

    loss, slope = gradient(built("lovasz_softmax", {"bins": 64}), logits, target)
    cut, _ = gradient(built("lovasz_softmax", {"bins": 64}), logits[:, :, 3:].contiguous(), target[:, 3:])

    assert slope[:, :, :3].abs().max() == 0
    torch.testing.assert_close(loss, cut)
