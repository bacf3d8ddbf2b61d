"""All losses, by name: the survey's families in the survey's order, then what came after. Imports no torch."""

from tuner.losses.catalog.boundary import BOUNDARY
from tuner.losses.catalog.compound import COMPOUND
from tuner.losses.catalog.pixel import PIXEL
from tuner.losses.catalog.region import REGION
from tuner.losses.spec import LossSpec
from tuner.registry import Registry

FAMILIES: tuple[str, ...] = ("pixel", "region", "boundary", "combination")

_DECLARED = (*PIXEL, *REGION, *BOUNDARY, *COMPOUND)

LOSSES: Registry[LossSpec] = Registry("loss", tuple(sorted(_DECLARED, key=lambda spec: not spec.survey)))
"""The survey's losses first, then the later ones, each by family and as they are declared."""


def competing(family: str | None = None) -> list[str]:
    """Return the losses that `all`, or a family, stands for: every one of them once, whatever else it is called."""
    return [name for name, entry in LOSSES.items() if not entry.same_as and family in (None, entry.family)]


EXPLICIT = "loss."
"""Before the name of a loss in `search.loss`: the loss is meant, and not the family that is called the same."""


def competing_name(loss: str) -> str:
    """Return how `search.loss` names one loss: `boundary` alone would be the whole family."""
    return f"{EXPLICIT}{loss}" if loss in FAMILIES else loss
