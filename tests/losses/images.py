"""Small scenes for the tests of losses: seeded logits and labels in 2-D and 3-D."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tuner.losses.batch import EpochProgress, read_inputs
from tuner.losses.build import SegmentationLoss, Term, build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.spec import LossSpec
from tuner.registry import Option, Scalar
from tuner.testing.loss import CLASSES, FREQUENCIES, VOID, bare, blobs, scores, truth

__all__ = ["CLASSES", "FREQUENCIES", "VOID", "bare", "blobs", "scores", "truth"]

SHAPES = {"2d": (12, 12), "3d": (8, 8, 8)}


def built(
    entry: LossSpec | str,
    options: Mapping[str, Any] | None = None,
    *,
    classes: int = CLASSES,
    frequencies: tuple[float, ...] | None = None,
) -> SegmentationLoss:
    """The loss as a trainer has it, standing alone, with its published defaults."""
    name = entry if isinstance(entry, str) else entry.name
    shares = frequencies or (FREQUENCIES if classes == CLASSES else (1.0 / classes,) * classes)
    return build_loss({"name": name, name: options or {}}, classes=classes, ignore_index=VOID, class_frequencies=shares)


def gradient(loss: SegmentationLoss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient with respect to the logits."""
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


ALL = tuple(LOSSES.values())


def one_term(
    entry: LossSpec, options: Mapping[str, Any] | None = None, *, frequencies: tuple[float, ...] = FREQUENCIES
) -> Term:
    """The formula alone, with these options and published defaults for the rest."""
    chosen = {option.name: option.default for option in entry.own_options} | dict(options or {})
    # what is drawn at random must be drawn alike
    torch.manual_seed(0)
    return Term(entry, chosen, frequencies)


def term_value(term: Term, logits: Tensor, target: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
    """Its value; `maps` keeps the target's maps from one call to the next."""
    sums, squares = term.function.reads(**term.keywords)
    logs = term.function.logs
    view = read_inputs(logits, target, ignore_index=VOID, sums=sums, squares=squares, logs=logs)
    view.maps.update(maps or {})
    value = term(view, {}, EpochProgress())
    if maps is not None:
        maps.update(view.maps)
    return value


def ends(option: Option) -> list[Scalar]:
    """What a search may propose: both ends of the range, or the choices; the default where nothing is searched."""
    if option.search is None:
        return [option.default]
    return list(option.search.choices or (option.search.low, option.search.high))


def corners(entry: LossSpec, *, singly: bool, own: bool = True) -> list[dict[str, Any]]:
    """Corners of the searched box: all of them, or (`singly`) those that differ from the defaults in one option."""
    options = entry.own_options if own else entry.options
    if singly:
        return [{option.name: value} for option in options for value in ends(option) if option.search is not None]
    return [dict(zip([o.name for o in options], values, strict=True)) for values in product(*map(ends, options))]
