"""`train.deterministic`: kernels that repeat bit for bit, or a refusal that names what has none."""

import os

import torch

from tuner.errors import RunError
from tuner.settings import CUDA_VARIABLES

_SIGN = "does not have a deterministic implementation"


class UnrepeatableError(RunError):
    """What is to be trained has no kernel on the device that repeats bit for bit."""

    code = "unrepeatable"


def use_repeatable_kernels(wanted: bool) -> None:
    """Let torch use kernels that repeat only, and raise where there is none; or whichever is fastest.

    cuBLAS must have been told before CUDA starts, which is why whatever starts a worker sets its variable.
    """
    if wanted:
        for name, value in CUDA_VARIABLES.items():
            os.environ.setdefault(name, value)
    if torch.are_deterministic_algorithms_enabled() is not wanted:  # to set it imports torch.compile's code
        torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted


def refuse_unrepeatable(error: RuntimeError, *, loss: str, model: str, device: str) -> None:
    """Raise UnrepeatableError when torch has no repeatable kernel for what raised `error`; else return."""
    words = str(error)
    if _SIGN not in words:
        return
    kernel = words.partition(_SIGN)[0].split()[-1]
    raise UnrepeatableError(
        f"the loss {loss!r} with the network {model!r} needs {kernel}, which does not repeat bit for bit on {device}.",
        hint="Train it with `train: {deterministic: false}`, where two runs differ by rounding, or on the CPU.",
        where="train.deterministic",
    ) from error
