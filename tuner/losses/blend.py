"""How the terms of a loss are mixed: a sum with weights, or a base and an addition on a schedule."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from tuner.losses.moment import Moment
from tuner.losses.spec import LossEntry
from tuner.registry import Scalar

COMPANION = "cross_entropy_weight"
LEAST_SHARE = 0.01


class Blend:
    """A weighted mean of terms: sum of weight * value over the sum of the weights.

    `hidden` names terms behind the first that have no options of their own in the configuration.
    """

    def __init__(self, weights: Sequence[float], options: Mapping[str, Scalar], hidden: Sequence[str] = ()) -> None:
        self.hidden = tuple(hidden)
        self._weights = tuple(weights)
        self._options = dict(options)

    def weights(self, moment: Moment) -> tuple[float, ...]:
        """Return the weight of every term; a term of weight 0 need not be computed."""
        total = sum(self._weights)
        return tuple(weight / total for weight in self._weights)

    def mix(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the mixture of the values that have a weight."""
        parts = [value if weight == 1 else weight * value for value, weight in zip(values, weights, strict=True)]
        return sum(parts[1:], parts[0])

    def options(self) -> dict[str, Scalar]:
        """Return the options that it really uses."""
        return dict(self._options)

    def ramp_end(self) -> float:
        """Return the share of the training before which it must not be judged."""
        return 0.0


class AddOn(Blend):
    """A loss added to a base, the loss first: `base + weight * loss`, on a schedule.

    constant: base + w loss, from `start` on. increase: w grows by `step` an epoch. rebalance: a base + (1 - a) loss,
    a = max(0.01, 1 - step * epochs done). ramp: a = 1 - w * progress. gradual: a = max(0.01, 1 - progress).
    equal: as constant. alone: the loss only. equalise: w is lowered so that w loss is never more than the base, the
    paper's "equal means", taken in every step (and no gradient flows through it).
    """

    def __init__(self, options: Mapping[str, Scalar]) -> None:
        super().__init__((1.0, 1.0), options, hidden=[str(options["base"])])
        self._schedule = str(options.get("schedule", "constant"))

    def weights(self, moment: Moment) -> tuple[float, ...]:
        """Return the weights of loss and base."""
        weight, step = self._number("weight", 1.0), self._number("step", 0.0)
        done = moment.epoch - 1
        if self._schedule == "alone":
            return 1.0, 0.0
        if self._schedule == "increase":
            return weight + step * done, 1.0
        if self._schedule == "rebalance":
            return _shares(max(LEAST_SHARE, 1 - step * done))
        if self._schedule == "ramp":
            return _shares(1 - min(1.0, weight) * moment.progress)
        if self._schedule == "gradual":
            return _shares(max(LEAST_SHARE, 1 - moment.progress))
        return (weight if moment.progress >= self._number("start", 0.0) else 0.0), 1.0

    def mix(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the mixture."""
        if self._schedule == "equalise" and len(values) == 2:
            loss, base = values
            with torch.no_grad():
                size = loss.abs()
                even = torch.where(size > 0, base.abs() / torch.where(size > 0, size, 1), weights[0])
                weight = even.clamp_max(weights[0])
            return base + weight * loss
        return super().mix(values, weights)

    def ramp_end(self) -> float:
        """Return when the loss has come in; schedules that go on to the end are judged all along."""
        return self._number("start", 0.0)

    def _number(self, name: str, default: float) -> float:
        return float(cast(float, self._options.get(name, default)))


def blend_of(entry: LossEntry, options: Mapping[str, Scalar]) -> Blend:
    """Return how a loss that stands alone is mixed with its base."""
    if COMPANION in options:
        share = float(cast(float, options[COMPANION]))
        return Blend([1 - share, share], options, hidden=["cross_entropy"])
    return AddOn(options) if "base" in entry.blend else Blend([1.0], options)


def _shares(base: float) -> tuple[float, float]:
    return 1 - base, base
