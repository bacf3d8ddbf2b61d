"""Optimisers, and learning rates as a pure function of the step: a continued training needs no scheduler's state."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tuner.config.trial import TrainConfig
from tuner.registry import Scalar
from tuner.training.eager_optimizers import SGD, AdamW

BETA2 = 0.999
ONE_CYCLE_START = 25.0
"""one_cycle begins at lr / 25 …"""
ONE_CYCLE_END = 1e4
"""… and ends at that divided by 10 000."""
POLYNOMIAL_POWER = 0.9


def build_optimizer(
    model: nn.Module, learned: Iterable[Mapping[str, Any]], train: TrainConfig, device: str
) -> Optimizer:
    """Build adamw, or sgd with Nesterov momentum.

    Weights decay; biases, norms and other vectors do not, nor does what the loss learns. The decay is decoupled in
    adamw, and part of the gradient in sgd, as usual with either.

    Args:
        model: The network.
        learned: Groups of parameters of the loss; an `lr` of their own keeps its ratio to `train.lr` all along.
        train: Options.
        device: Where the parameters are.
    """
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    weights = [p for p in model.parameters() if p.ndim > 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": train.weight_decay, "role": "weights", "ratio": 1.0},
        {"params": vectors, "weight_decay": 0.0, "role": "vectors", "ratio": 1.0},
    ]
    for group in learned:
        ratio = group.get("lr", train.lr) / train.lr
        groups.append({"weight_decay": 0.0, **group, "role": "loss", "ratio": ratio})
    filled = [group for group in groups if group["params"]]
    kind = torch.device(device).type
    if train.optimizer == "sgd":
        # fused, it is told on the device whether a float16 gradient overflowed: the host need not look
        on_device = True if kind == "cuda" else None
        return SGD(filled, lr=train.lr, momentum=train.momentum, nesterov=train.momentum > 0, fused=on_device)
    fused = kind in ("cuda", "cpu")
    return AdamW(filled, lr=train.lr, betas=(train.momentum, BETA2), fused=fused)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate by optimiser step: a rise over the first `warmup` share of the steps, then a fall.

    The rise is linear; in one_cycle (Smith 2018; both phases are cosines, as in torch) it starts at lr / 25.
    """

    name: str
    lr: float
    warmup: float
    steps: int

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            if self.name == "one_cycle":
                return self.lr * _cosine(1 / ONE_CYCLE_START, 1.0, step / rising)
            return self.lr * (step + 1) / rising
        return self.lr * _FALLS[self.name]((step - rising) / max(1, self.steps - rising))

    def set_lr(self, optimizer: Optimizer, step: int) -> float:
        """Give all groups of an optimiser the learning rate of a step (times their ratio), and return it."""
        lr = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["ratio"]
        return lr


def effective_train(optimizer: Optimizer, schedule: Schedule) -> dict[str, Scalar]:
    """Read `train.*` back from the objects that will train."""
    group = next(g for g in optimizer.param_groups if g["role"] in ("weights", "vectors"))
    found: dict[str, Scalar] = {
        "train.optimizer": type(optimizer).__name__.lower(),
        "train.lr": schedule.lr,
        "train.momentum": group["momentum"] if "momentum" in group else group["betas"][0],
        "train.schedule": schedule.name,
        "train.warmup": schedule.warmup,
    }
    decays = {g["weight_decay"] for g in optimizer.param_groups if g["role"] == "weights"}
    if len(decays) == 1:
        found["train.weight_decay"] = decays.pop()
    return found


def trained_parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return every parameter of an optimiser, for clipping."""
    return [parameter for group in optimizer.param_groups for parameter in _params(group)]


def _params(group: dict[str, Any]) -> Iterable[nn.Parameter]:
    parameters: list[nn.Parameter] = group["params"]
    return parameters


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


_FALLS: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: _cosine(1.0, 0.0, share),
    "one_cycle": lambda share: _cosine(1.0, 1 / ONE_CYCLE_START / ONE_CYCLE_END, share),
    "polynomial": lambda share: (1 - share) ** POLYNOMIAL_POWER,
}
