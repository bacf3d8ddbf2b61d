"""Functions that torch.compile leaves to Python, marked without importing its code."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


def outside_of_graphs(function: F) -> F:
    """Do what `torch.compiler.disable` does, but only in compiled code.

    torch's own decorator imports torch._dynamo at once: more than a second of CPU and 80 MB for every worker.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-untyped-call]
        return function(*args, **kwargs)

    return cast(F, called)
