"""AdamW and SGD of torch, whose methods do not import torch.compile's code.

torch marks them as not to be compiled and imports `torch._dynamo` for that when the first one is called: more than a
second of CPU and 80 MB for every worker, whether anything is compiled or not. Nothing here compiles an optimiser, so
that the functions behind those marks do: the numbers are the same.
"""

import inspect
from typing import Any

import torch
from torch import optim
from torch.optim import Optimizer


class _Eager:
    """Takes the place of the methods of an optimizer that are marked."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    def step(self, closure: Any = None) -> Any:
        """Do one step, as the class behind this one does it."""
        plain: Any = inspect.unwrap(super().step)  # type: ignore[misc]
        with torch.no_grad():
            return plain(self, closure)


class AdamW(_Eager, optim.AdamW):
    """`torch.optim.AdamW`."""


class SGD(_Eager, optim.SGD):
    """`torch.optim.SGD`."""
