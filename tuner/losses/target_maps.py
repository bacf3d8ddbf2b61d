"""Target maps for losses: handed in with the batch, or made here from the target."""

import numpy as np
import torch
from torch import Tensor

from tuner.errors import LossInputError
from tuner.label_maps import MAPS, PER_CLASS
from tuner.losses.batch import View
from tuner.losses.device_maps import DEVICE_MAPS

VOID = -1
"""What marks void pixels in the labels that maps are made from."""


def target_map(view: View, name: str, given: Tensor | None) -> Tensor:
    """Return the map `name` of `tuner.label_maps` for every image, [B, *S] or [B, C, *S], in the logits' type.

    `given` is used where it is not None; it must have been made from this target, after augmentation.
    Raises LossInputError if it does not have the shape of the target, or of the logits where it has one value a class.
    """
    if given is not None:
        _check(view, name, given)
        return given.to(view.logits.dtype)
    if name not in view.maps:
        if view.labels.device.type != "cpu" and name in DEVICE_MAPS:
            marked = view.labels if view.void is None else view.labels.masked_fill(view.void, VOID)
            view.maps[name] = DEVICE_MAPS[name](marked, classes=view.classes).to(view.logits.dtype)
            return view.maps[name]
        labels = marked_labels(view)
        made = [MAPS[name](image, classes=view.classes, void=VOID) for image in labels]
        view.maps[name] = torch.from_numpy(np.stack(made)).to(view.logits.device, view.logits.dtype)
    return view.maps[name]


def marked_labels(view: View) -> np.ndarray:
    """Return the labels [B, *S] on the host, VOID on void pixels."""
    labels = view.labels if view.void is None else view.labels.masked_fill(view.void, VOID)
    return labels.cpu().numpy()


def _check(view: View, name: str, given: Tensor) -> None:
    per_class = name in PER_CLASS
    wanted = view.logits.shape if per_class else view.labels.shape
    if given.shape != wanted:
        raise LossInputError(
            f"map {name!r} is {list(given.shape)}, but logits are {list(view.logits.shape)}: "
            f"it must be {list(wanted)}, one value per pixel{' and class' if per_class else ''}."
        )
