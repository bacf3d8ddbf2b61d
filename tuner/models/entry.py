"""One row of the model registry."""

from dataclasses import dataclass

from tuner.registry import Option


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A network by name. The code is named, not imported, so that the registry can be read without torch.

    `fn` takes the options as keyword arguments beside `channels`, `classes` and `spatial_dims`, and returns a module
    with `stride` (input sizes must be multiples of it) and `effective_options()`.
    """

    name: str
    fn: str
    options: tuple[Option, ...]
    paper: str
    summary: str
