"""LossSpec: the declaration of a loss, without importing torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tuner.errors import UnknownNameError
from tuner.registry import Option, Scalar, Search

PRESET = "preset"
"""What names a set of options in a configuration."""

Reference = str | Callable[..., Any]
"""To editors and mypy the object itself, at run time its name, which `tuner.registry.load` imports."""

Family = Literal["pixel", "region", "boundary", "combination"]


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One loss.

    `fn` is a function of `tuner.losses.catalog.formulas`, at run time its name for `load`; it takes logits, target,
    `ignore_index`, the inputs in `needs` and the options that are not in `mixing_options`. `needs` names inputs
    beside logits and target: those that the loss cannot make itself must be handed in, target maps are made from the
    target where they are not. `standalone` is False for a loss that is always `base + weight * loss`.
    `mixing_options` names the options that say how the loss is mixed with its base; they exist where the loss stands
    alone, not where it is a term of a sum. `violated_properties` names those that the paper's definition does not
    have: "class_permutation" (a background class is treated apart), "shift" (not invariant to adding a constant to
    all logits), "zero_minimum" (a perfect prediction is not 0), "stopped_gradient" (something is held fixed in the
    gradient that is not in the value), "saturation" (confidence is punished). `state` is the class, likewise named,
    of what a loss learns beside the network; it is built with the `state_options`. `presets` are sets of options by
    name, for losses that are published with more than one set of defaults. `multilabel` says how classes that overlap
    are read, if they can be: "joint", all in one formula, or "per_class", the mean over the classes of the loss of
    each against the rest. `soft_labels` allows targets between 0 and 1 and pixels of different weight. `same_as` names
    the loss of which this is only another name: it competes where it is named, and not as one of a family or of all.
    """

    name: str
    family: Family
    survey: bool
    fn: Reference
    options: tuple[Option, ...]
    paper: str
    formula: str
    summary: str
    good_for: str
    bad_for: str
    needs: tuple[str, ...] = ()
    standalone: bool = True
    mixing_options: tuple[str, ...] = ()
    violated_properties: frozenset[str] = frozenset()
    state: Reference | None = None
    state_options: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict, hash=False)
    multilabel: Literal["", "joint", "per_class"] = ""
    soft_labels: bool = False
    same_as: str = ""

    @property
    def state_needs_classes(self) -> bool:
        """Whether what it learns has a size that depends on the number of classes."""
        return "boundary_head" in self.needs

    @property
    def deep_supervision(self) -> bool:
        """Whether it can be taken of outputs of several resolutions: without what the network has beside its logits."""
        return not {"features", "boundary_head", "classifier_weight"} & set(self.needs)

    @property
    def own_options(self) -> tuple[Option, ...]:
        """The options of the formula itself: those that a term of a sum has."""
        return tuple(option for option in self.options if option.name not in self.mixing_options)


def with_preset(entry: LossSpec, chosen: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return the chosen options, `preset` replaced by the options that it stands for; chosen ones win over it.

    Raises UnknownNameError if the loss has no such preset.
    """
    options = dict(chosen)
    if PRESET not in options:
        return options
    name = options.pop(PRESET)
    if name not in entry.presets:
        kind = f"preset of loss {entry.name!r}"
        raise UnknownNameError(kind=kind, name=str(name), known=list(entry.presets), where=f"{where}.{PRESET}")
    return {**entry.presets[name], **options}


def term_weight(term: str) -> Option:
    """Return the weight of a further term of a sum, as an option that is called like the term."""
    return Option(
        term,
        "float",
        1.0,
        "Weight of a further term of a sum, relative to the first, which has 1.",
        low=0.0,
        high=1000.0,
        search=Search(0.01, 10.0, log=True),
    )


RAMP_OPTIONS = ("start", "warmup")
"""Options of losses that hold the share of the training, 0 to 1, after which the loss is what it stays."""


def ramp_end(section: Mapping[str, Any]) -> float:
    """Return the share of the training before which a loss must not be judged, 0.0 where there is no ramp.

    Schedules that go on to the end of the training have no such share: they are judged all along.

    Args:
        section: The `loss` section of a configuration, with every option given its value.
    """
    own = [float(section[name]) for name in RAMP_OPTIONS if isinstance(section.get(name), (int, float))]
    return max([0.0, *own, *(ramp_end(part) for part in section.values() if isinstance(part, Mapping))])
