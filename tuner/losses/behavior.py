"""Behaviour curves: value and gradient of a loss while a prediction is perturbed away from the truth.

The scene is an image of two classes with one disc. The prediction starts as the truth, with `SURE` on the predicted
class of every pixel, and drifts: by shift, shrinking, growth, flipped pixels or soft errors, for a large and a small
disc. A loss is probed alone, without base or companion, with its published defaults.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.losses.batch import EpochProgress, read_inputs
from tuner.losses.build import Term
from tuner.losses.spec import LossSpec

SIDE = 64
RADII = {"large": 18.0, "small": 5.0}
SURE = 0.98
VOID = 255


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A way in which a prediction can leave the truth: its name, what its amounts count, and the amounts."""

    name: str
    unit: str
    amounts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A loss along one drift for one object: the loss and the Euclidean norm of its gradient by the logits."""

    drift: str
    object: str
    amounts: tuple[float, ...]
    values: tuple[float, ...]
    gradients: tuple[float, ...]


PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("shift", "pixels to the right", tuple(map(float, range(0, 13, 2)))),
    Perturbation("shrink", "share of the radius lost", (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)),
    Perturbation("growth", "share of the radius gained", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    Perturbation("flipped", "share of the pixels flipped", (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),
    Perturbation("soft", "probability of the wrong class", (0.02, 0.18, 0.34, 0.5, 0.66, 0.82, 0.98)),
)


def measure_behavior(entry: LossSpec) -> tuple[Curve, ...]:
    """Return a curve for every drift and object, on the CPU in float64; the same each time."""
    return tuple(_curve(entry, drift, name, radius) for drift in PERTURBATIONS for name, radius in RADII.items())


def document(entries: Iterable[LossSpec]) -> dict[str, Any]:
    """Return the curves of losses as plain data, fit for JSON."""
    return {
        "scene": {"side": SIDE, "radii": dict(RADII), "confidence": SURE},
        "drifts": [{"name": d.name, "unit": d.unit, "amounts": list(d.amounts)} for d in PERTURBATIONS],
        "losses": [
            {"name": e.name, "family": e.family, "curves": [_plain(c) for c in measure_behavior(e)]} for e in entries
        ],
    }


def predicted(drift: str, amount: float, radius: float) -> Tensor:
    """Return the probability of the disc [SIDE, SIDE] after so much of a drift."""
    truth = disc(radius)
    if drift == "soft":
        return _certainty(truth, 1 - amount)
    return _certainty(_MOVES[drift](truth, amount, radius), SURE)


def disc(radius: float, *, right: float = 0.0) -> Tensor:
    """Return [SIDE, SIDE]: True inside a disc about the middle, moved to the right by so many pixels."""
    places = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    return places.view(-1, 1).square() + (places - right).square() <= radius**2


def _certainty(found: Tensor, confidence: float) -> Tensor:
    return found.double() * (2 * confidence - 1) + (1 - confidence)


def _flip(truth: Tensor, share: float, _: float) -> Tensor:
    # one order for all shares, so that a larger one only adds errors
    order = torch.randperm(truth.numel(), generator=torch.Generator().manual_seed(0))
    wrong = torch.zeros(truth.numel(), dtype=torch.bool)
    wrong[order[: round(share * truth.numel())]] = True
    return truth ^ wrong.view_as(truth)


_MOVES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "shift": lambda _, amount, radius: disc(radius, right=amount),
    "shrink": lambda _, amount, radius: disc(radius * (1 - amount)),
    "growth": lambda _, amount, radius: disc(radius * (1 + amount)),
    "flipped": _flip,
}


def _curve(entry: LossSpec, drift: Perturbation, name: str, radius: float) -> Curve:
    target = disc(radius).long().unsqueeze(0)
    share = float(target.double().mean())
    term = Term(entry, {option.name: option.default for option in entry.own_options}, (1 - share, share)).double()
    points = [_measure(term, predicted(drift.name, amount, radius), target) for amount in drift.amounts]
    return Curve(drift.name, name, drift.amounts, tuple(v for v, _ in points), tuple(g for _, g in points))


def _measure(term: Term, probability: Tensor, target: Tensor) -> tuple[float, float]:
    logits = torch.stack([torch.zeros_like(probability), torch.logit(probability)]).unsqueeze(0).requires_grad_()
    sums, squares = term.function.reads(**term.keywords)
    view = read_inputs(logits, target, ignore_index=VOID, sums=sums, squares=squares)
    value = term(view, {}, EpochProgress())
    (slope,) = torch.autograd.grad(value, logits)
    return float(value.detach()), float(slope.norm())


def _plain(curve: Curve) -> dict[str, Any]:
    return {
        "drift": curve.drift,
        "object": curve.object,
        "amounts": list(curve.amounts),
        "values": list(curve.values),
        "gradients": list(curve.gradients),
    }
