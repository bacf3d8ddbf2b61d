"""The pretended GPU breaks what CUDA would break, and sees what would idle it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.pretended_cuda import LOG, home, pretend

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda there: there.sum().item(),
    "bool": lambda there: bool(there.any()),
    "nonzero": lambda there: there.nonzero(),
    "mask": lambda there: there[there > 1],
    "download": lambda there: there.cpu(),
    "upload": lambda there: torch.zeros(2, 3).to(there.device),
    "constant": lambda there: torch.tensor([1.0], device=there.device),
}


@pytest.mark.parametrize("look", WAITS.values(), ids=WAITS)
def test_looks_are_counted(look: Callable[[Tensor], object]) -> None:
    """A wait that is not counted would pass the budgets and idle the GPU."""
    with pretend() as device:
        there = torch.ones(2, 3, device=device)
        LOG.clear()
        look(there)

        assert sum(LOG.waits.values()) == 1


def test_devices_do_not_mix() -> None:
    """CUDA raises here, and so must what stands for it; a scalar of the host may pass."""
    with pretend() as device:
        there = torch.ones(2, 3).to(device)

        assert str((there + torch.tensor(1.0)).device) == "cuda:0"
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(2, 3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()


def test_pinned_memory_is_copied_without_waiting() -> None:
    """The one way to bring numbers of the host that costs no wait must be told from the others."""
    with pretend() as device:
        numbers = torch.arange(3).pin_memory().to(device, non_blocking=True)

        assert home(numbers).tolist() == [0, 1, 2]
        assert not LOG.waits
        assert not LOG.pageable


def test_numbers_are_real() -> None:
    """Gradients on the pretended device are the CPU's."""
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    (leaf**3).sum().backward()
    with pretend() as device:
        there = leaf.detach().to(device).requires_grad_()
        (there**3).sum().backward()

        assert there.grad is not None
        torch.testing.assert_close(home(there.grad), leaf.grad)
        assert LOG.launches["pow"] > 0
