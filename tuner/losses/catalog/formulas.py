"""The modules of the formulas, for the declarations: `fn=formulas.pixel.poly1`.

Editors and mypy see the modules, so that a declaration leads to its formula, and "find references" of a formula to its
declaration. At run time nothing is imported: `formulas.pixel.poly1` is the text "tuner.losses.pixel:poly1", and
`tuner.registry.load` imports the function once a training wants it. A module with new formulas is listed here.
"""

from typing import TYPE_CHECKING

from tuner.registry import LazyModule

if TYPE_CHECKING:
    from tuner.losses import (
        active_boundary,
        boundary,
        boundary_aware,
        compound,
        conditional_boundary,
        inverse_form,
        lovasz,
        mutual_information,
        pixel,
        region,
        robust,
        structural_similarity,
        topology,
    )

__all__ = [
    "active_boundary",
    "boundary",
    "boundary_aware",
    "compound",
    "conditional_boundary",
    "inverse_form",
    "lovasz",
    "mutual_information",
    "pixel",
    "region",
    "robust",
    "structural_similarity",
    "topology",
]


def __getattr__(name: str) -> LazyModule:
    """Return what names the objects of `tuner.losses.<name>`."""
    if name not in __all__:
        raise AttributeError(f"{name!r} is not listed in tuner/losses/catalog/formulas.py")
    return LazyModule(f"tuner.losses.{name}")
