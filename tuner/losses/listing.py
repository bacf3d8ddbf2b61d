"""What losses there are, and what is known of one; imports no torch."""

from tuner.errors import UnknownNameError
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.losses.spec import LossSpec


def names(*, family: str | None = None, multilabel: bool | None = None, soft_labels: bool | None = None) -> list[str]:
    """Return the names of all losses, or of those of a family, and with the meaning that is asked for.

    family: pixel, region, boundary or combination. multilabel: can be asked for overlapping classes
    (`activation="sigmoid"`), or not. soft_labels: takes targets between 0 and 1 and weights of pixels, or not.
    Raises UnknownNameError on an unknown family.
    """
    if family is not None and family not in FAMILIES:
        raise UnknownNameError(kind="family of losses", name=family, known=FAMILIES)
    return [
        entry.name
        for entry in LOSSES.values()
        if family in (None, entry.family)
        and multilabel in (None, bool(entry.multilabel))
        and soft_labels in (None, entry.soft_labels)
    ]


def info(name: str) -> LossSpec:
    """Return the entry of a loss: name, family, survey, options, paper, needs and more. Raises UnknownNameError."""
    return LOSSES.find(name)
