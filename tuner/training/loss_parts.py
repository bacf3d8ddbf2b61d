"""What a loss gets from the training it is part of: the network's features, and a regressor that knows the data."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuner.data.cache import open_or_build
from tuner.data.preparation import PreparedData
from tuner.data.ragged import space_of
from tuner.errors import SpecError
from tuner.losses.boundary_aware import DistanceHead
from tuner.losses.build import SegmentationLoss
from tuner.losses.inverse_form import FrozenRegressor, label_borders, train_on_borders
from tuner.models.build import SegmentationNet
from tuner.models.features import FEATURES, FeatureTap

logger = logging.getLogger(__name__)

SLICES = 512
"""Label images that the regressor learns from, evenly from all of the training half."""

FEWEST = 8
"""With fewer border maps than this, the regressor stays the one that was trained on drawn shapes."""

_FORMAT = 1
_FILE = "regressor.safetensors"


def connect(loss: SegmentationLoss, model: SegmentationNet, data: PreparedData) -> FeatureTap | None:
    """Give a loss what it can use of the network and of the data; call it before the optimizer is built.

    Raises SpecError where a loss cannot do without features that the network does not have.
    """
    tap = tap_for(loss, model, classes=data.classes)
    for state in loss.states():
        if isinstance(state, DistanceHead) and tap is not None:
            state.adopt_features(tap.channels)
        if isinstance(state, FrozenRegressor):
            weights = regressor_weights(data)
            if weights is None:
                state.settle()
            else:
                state.adopt(weights)
    return tap


def tap_for(loss: SegmentationLoss, model: SegmentationNet, *, classes: int) -> FeatureTap | None:
    """Tap the network's features where the loss asks for them; without need of its classifier it can do without."""
    if not loss.needs & FEATURES:
        return None
    try:
        return FeatureTap(model, classes=classes)
    except SpecError:
        if "classifier_weight" in loss.needs:
            raise
        logger.warning("%s has no features to hand over; %s takes the probabilities", model.name, loss.name)
        return None


def regressor_weights(data: PreparedData) -> dict[str, Tensor] | None:
    """Return InverseForm's regressor for this data set, trained once and kept beside it; None without borders.

    Of several workers one trains it, and the others wait.
    """
    key = json.dumps({"format": _FORMAT, "data": data.fingerprint}, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = data.folder.parent / f"{data.folder.name}-inverse_form-{digest}"

    def build(scratch: Path) -> dict[str, Any]:
        borders = _borders(data)
        if len(borders) >= FEWEST:
            logger.info("training InverseForm's regressor on %d border maps", len(borders))
            save_file(train_on_borders(borders, progress=_say), scratch / _FILE)
        return {"borders": len(borders)}

    found = open_or_build(folder, build)["borders"]
    if found < FEWEST:
        logger.info("%d border maps are too few to train InverseForm's regressor on; drawn shapes do", found)
        return None
    weights: dict[str, Tensor] = load_file(folder / _FILE)
    return weights


def _say(step: int, steps: int, error: float) -> None:
    logger.info("InverseForm's regressor: step %d of %d, error %.4g", step, steps, error)


def _borders(data: PreparedData) -> Tensor:
    """Return the border maps [M, 1, 64, 64] of training slices that have a border."""
    labels = data.train.labels
    spaces = [space_of(labels, number) for number in range(len(labels))]
    ends = np.cumsum([space[0] if len(space) == 3 else 1 for space in spaces])
    total = int(ends[-1]) if len(ends) else 0
    maps = []
    for number in np.unique(np.linspace(0, total - 1, min(SLICES, total)).astype(np.int64)):
        row = int(np.searchsorted(ends, number, side="right"))
        image = labels[row]
        flat = np.array(image[number - ends[row]] if image.ndim == 3 else image)
        maps.append(label_borders(torch.from_numpy(flat)[None]))
    found = torch.cat(maps) if maps else torch.zeros(0, 1, 64, 64)
    return found[found.flatten(1).amax(1) > 0]
