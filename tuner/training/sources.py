"""What a machine lets a network be made of: files of pretrained weights, and code of the user's own."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tuner.config.trial import TrialConfig
from tuner.models.build import SegmentationNet, build_model
from tuner.models.entry import ENTRY
from tuner.models.pretrained import load_pretrained
from tuner.models.weights_path import find_weights
from tuner.training.custom import load_entry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """What this machine lets a network be made of.

    `data_root` holds files of weights that are named without their whole path, `allow_entry` are the packages from
    which code may be imported. `trained`: the weights are about to be replaced by those of a finished training, so
    that a file of pretrained ones is not needed any more.
    """

    data_root: Path | None = None
    allow_entry: Collection[str] = ()
    trained: bool = False


NOTHING = Sources()


def build_network(
    config: TrialConfig, sources: Sources, *, channels: int, classes: int, spatial_dims: int
) -> SegmentationNet:
    """Build the network that a configuration names, with its pretrained weights.

    Raises:
        SpecError: The model cannot be built as it is asked for.
        EntryError: Its code may not be imported here, or does not make a network.
        DataError: Its pretrained weights are not there, cannot be read, or do not fit.
    """
    section = config.model
    maker = None
    if section["name"] == ENTRY:
        maker = load_entry(str(section["entry"]), sources.allow_entry, where="model.entry")
    model = build_model(section, channels=channels, classes=classes, spatial_dims=spatial_dims, maker=maker)
    name = section.get("weights")
    if name is not None and sources.trained:
        model.weights = name
    elif name is not None:
        path = find_weights(name, sources.data_root)
        fit = load_pretrained(model, path, name=name)
        (logger.warning if fit.other_shape or fit.missing else logger.info)("weights of %s", fit.text(str(path)))
    return model
