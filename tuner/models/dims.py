"""Which networks are made for images and which for volumes. Imports no torch."""

from tuner.models.catalogue import MODELS
from tuner.models.entry import ModelEntry

_KIND = {2: "images (2-D)", 3: "volumes (3-D)"}


def dims_problem(entry: ModelEntry, spatial_dims: int) -> list[str]:
    """Say in one line that a model is not made for what the data set holds; an empty list where it is."""
    if spatial_dims in entry.dims:
        return []
    others = ", ".join(name for name, row in MODELS.items() if spatial_dims in row.dims)
    return [
        f"model.name: {entry.name!r} is made for {entry.takes}; this data set holds {_KIND[spatial_dims]}, for which "
        f"there are: {others}"
    ]
