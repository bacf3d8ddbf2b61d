"""Which losses the data and the model of a study allow.

Regions want a loss with a sigmoid form; deep supervision wants one that takes no more of the network than its logits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tuner.data.regions import KEY
from tuner.losses.catalog.registry import LOSSES

SUPERVISION = "deep_supervision"
"""The option of models that have outputs of several resolutions to learn from."""


def has_regions(dataset: Mapping[str, Any]) -> bool:
    """Say whether a `dataset` section declares regions."""
    return bool(dataset.get(KEY))


def is_supervised_deeply(model: Mapping[str, Any], searched: Mapping[str, Any]) -> bool:
    """Say whether any trial may train with deep supervision: by the `model` section, or by `search`."""
    given = [model.get(SUPERVISION)]
    for key, value in searched.items():
        if key.startswith("model.") and key.endswith(f".{SUPERVISION}"):
            given += value if isinstance(value, (list, tuple)) else [value]
    return True in given


def unfit(name: str, *, regions: bool, supervised: bool) -> str | None:
    """Say why a loss of the catalogue cannot be trained; None where it can."""
    entry = LOSSES[name]
    if regions and not entry.multilabel:
        return "is defined for classes that exclude each other, and those of `dataset.regions` overlap"
    if supervised and not entry.deep_supervision:
        return f"reads the network's features, which the outputs of `model.{SUPERVISION}` do not have"
    return None


def fitting(*, regions: bool, supervised: bool) -> str:
    """List the losses that can be trained."""
    return ", ".join(name for name in LOSSES if unfit(name, regions=regions, supervised=supervised) is None)


def unfit_terms(names: Iterable[str], *, regions: bool, supervised: bool) -> list[str]:
    """Return a sentence for each reason why losses of the catalogue among `names` cannot be trained."""
    reasons: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        why = unfit(name, regions=regions, supervised=supervised) if name in LOSSES else None
        if why:
            reasons.setdefault(why, []).append(name)
    legal = fitting(regions=regions, supervised=supervised) if reasons else ""
    return [f"{_each(refused)} {why}; these can be trained: {legal}" for why, refused in reasons.items()]


def _each(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names)}: each"


def terms_of(loss: Mapping[str, Any]) -> list[str]:
    """Return the losses that a `loss` section is made of."""
    terms = loss.get("terms")
    return [str(term) for term in terms] if terms else [str(loss.get("name"))]
